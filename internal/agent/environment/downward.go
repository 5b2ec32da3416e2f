package environment

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Facts are what the downward API tells beside the pod's own metadata and spec.
type Facts struct {
	PodIPs      []string // the first is status.podIP
	HostIPs     []string
	Allocatable corev1.ResourceList // the node's, for limits that are not set
}

// Field returns the value of a downward API field path, such as
// "metadata.labels['app']" or "status.podIP".
func Field(pod *corev1.Pod, path string, facts Facts) (string, error) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.annotations":
			return pod.Annotations[key], nil
		case "metadata.labels":
			return pod.Labels[key], nil
		}
		return "", fmt.Errorf("field path %q is not supported", path)
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(facts.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(facts.HostIPs, ","), nil
	case "status.podIP":
		return first(facts.PodIPs), nil
	case "status.podIPs":
		return strings.Join(facts.PodIPs, ","), nil
	}
	return "", fmt.Errorf("field path %q is not supported", path)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// subscript splits name['key'].
func subscript(path string) (name, key string, ok bool) {
	name, rest, found := strings.Cut(path, "['")
	if !found || !strings.HasSuffix(rest, "']") {
		return "", "", false
	}
	return name, rest[:len(rest)-2], true
}

func formatMap(values map[string]string) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, key+"="+strconv.Quote(values[key]))
	}
	return strings.Join(lines, "\n")
}

// Resource returns a container's request or limit in units of the selector's
// divisor, rounded up; the node's allocatable where no limit is set. c is the
// container that the selector stands in, used when it names none.
func Resource(pod *corev1.Pod, c *corev1.Container, selector *corev1.ResourceFieldSelector, facts Facts) (string, error) {
	if selector.ContainerName != "" {
		if c = containerNamed(pod, selector.ContainerName); c == nil {
			return "", fmt.Errorf("container %s not found", selector.ContainerName)
		}
	}
	if c == nil {
		return "", fmt.Errorf("resource %s: containerName is required", selector.Resource)
	}
	list, name, ok := strings.Cut(selector.Resource, ".")
	if !ok {
		return "", fmt.Errorf("resource %q is not supported", selector.Resource)
	}
	resourceName := corev1.ResourceName(name)
	var quantity resource.Quantity
	switch list {
	case "limits":
		if quantity, ok = c.Resources.Limits[resourceName]; !ok {
			quantity = facts.Allocatable[resourceName]
		}
	case "requests":
		if quantity, ok = c.Resources.Requests[resourceName]; !ok {
			quantity = c.Resources.Limits[resourceName]
		}
	default:
		return "", fmt.Errorf("resource %q is not supported", selector.Resource)
	}
	divisor := selector.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if resourceName == corev1.ResourceCPU {
		return ceil(quantity.MilliValue(), divisor.MilliValue()), nil
	}
	return ceil(quantity.Value(), divisor.Value()), nil
}

func ceil(value, divisor int64) string {
	if divisor <= 0 {
		divisor = 1
	}
	quotient := value / divisor
	if value%divisor > 0 {
		quotient++
	}
	return strconv.FormatInt(quotient, 10)
}

func containerNamed(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
