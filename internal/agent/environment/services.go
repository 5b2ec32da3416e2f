package environment

import (
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Services returns the variables by which containers find Services, as
// Kubernetes documents them: those of the default namespace's kubernetes Service
// always, those of the pod's own namespace if links is true.
func Services(list []corev1.Service, namespace string, links bool) map[string]string {
	variables := map[string]string{}
	for i := range list {
		s := &list[i]
		kubernetes := s.Namespace == corev1.NamespaceDefault && s.Name == "kubernetes"
		if kubernetes && !(links && namespaceHas(list, namespace)) || links && s.Namespace == namespace {
			describe(s, variables)
		}
	}
	return variables
}

// namespaceHas: the pod's namespace has a Service kubernetes of its own, which
// then is the one that its pods see.
func namespaceHas(list []corev1.Service, namespace string) bool {
	for i := range list {
		if list[i].Name == "kubernetes" && list[i].Namespace == namespace && namespace != corev1.NamespaceDefault {
			return true
		}
	}
	return false
}

func describe(s *corev1.Service, variables map[string]string) {
	ip := s.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	variables[name+"_SERVICE_HOST"] = ip
	variables[name+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i, port := range s.Spec.Ports {
		number := strconv.Itoa(int(port.Port))
		if port.Name != "" {
			variables[name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(port.Name, "-", "_"))] = number
		}
		protocol := string(port.Protocol)
		if protocol == "" {
			protocol = string(corev1.ProtocolTCP)
		}
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			variables[name+"_PORT"] = url
		}
		prefix := name + "_PORT_" + number + "_" + protocol
		variables[prefix] = url
		variables[prefix+"_PROTO"] = strings.ToLower(protocol)
		variables[prefix+"_PORT"] = number
		variables[prefix+"_ADDR"] = ip
	}
}
