package apiserver

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addConnectOptions lets the scheme read the queries of requests that connect a
// client to a pod, a Service or a node.
func addConnectOptions(scheme *runtime.Scheme) error {
	for _, options := range []struct {
		into any
		read func(url.Values, any) error
	}{
		{&corev1.PodProxyOptions{}, func(q url.Values, o any) error { o.(*corev1.PodProxyOptions).Path = q.Get("path"); return nil }},
		{&corev1.ServiceProxyOptions{}, func(q url.Values, o any) error { o.(*corev1.ServiceProxyOptions).Path = q.Get("path"); return nil }},
		{&corev1.NodeProxyOptions{}, func(q url.Values, o any) error { o.(*corev1.NodeProxyOptions).Path = q.Get("path"); return nil }},
		{&corev1.PodExecOptions{}, func(q url.Values, o any) error { return readExecOptions(q, o.(*corev1.PodExecOptions)) }},
		{&corev1.PodAttachOptions{}, func(q url.Values, o any) error { return readAttachOptions(q, o.(*corev1.PodAttachOptions)) }},
		{&corev1.PodPortForwardOptions{}, func(q url.Values, o any) (err error) {
			o.(*corev1.PodPortForwardOptions).Ports, err = portsOf(q["ports"])
			return err
		}},
	} {
		err := scheme.AddConversionFunc(&url.Values{}, options.into, func(a, b any, _ conversion.Scope) error {
			return options.read(*a.(*url.Values), b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// portsOf reads port numbers, of which one value may hold several.
func portsOf(values []string) ([]int32, error) {
	var ports []int32
	for _, value := range values {
		for text := range strings.SplitSeq(value, ",") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil || port == 0 {
				return nil, fmt.Errorf("ports: %q is not a port number", text)
			}
			ports = append(ports, int32(port))
		}
	}
	return ports, nil
}
