package apiserver

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// chooseContainer returns the container of a pod that is meant: the one named, of
// whatever sort it is, else the only one.
func chooseContainer(pod *corev1.Pod, name string) (string, error) {
	var containers, inits, ephemeral []string
	for _, c := range pod.Spec.Containers {
		containers = append(containers, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, c.Name)
	}
	if name == "" {
		if len(containers) == 1 {
			return containers[0], nil
		}
		choices := "choose one of: [" + strings.Join(containers, " ") + "]"
		if len(inits) > 0 {
			choices += " or one of the init containers: [" + strings.Join(inits, " ") + "]"
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, %s", pod.Name, choices))
	}
	if !slices.Contains(slices.Concat(containers, inits, ephemeral), name) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	return name, nil
}
