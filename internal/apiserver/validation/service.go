package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// serviceCreate returns the faults of a Service. Which addresses and node ports are free,
// and which families the cluster has, is for the allocator to say.
func serviceCreate(s *corev1.Service) field.ErrorList {
	return append(namespaced(&s.ObjectMeta, labelName), serviceRules(s)...)
}

func serviceUpdate(s, old *corev1.Service) field.ErrorList {
	errs := metadataUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, clusterIPsUpdate(&s.Spec, &old.Spec)...)
	errs = append(errs, ipFamiliesUpdate(&s.Spec, &old.Spec)...)
	errs = append(errs, loadBalancerClassUpdate(&s.Spec, &old.Spec)...)
	return append(errs, serviceRules(s)...)
}

// serviceRules returns the faults of everything but the metadata common to all kinds.
func serviceRules(s *corev1.Service) field.ErrorList {
	errs := topologyAnnotations(s.Annotations)
	for _, rule := range []func(*corev1.ServiceSpec) field.ErrorList{
		serviceType,
		servicePorts,
		uniquePorts,
		serviceSelector,
		sessionAffinity,
		clusterIPs,
		externalIPs,
		loadBalancer,
		trafficPolicies,
	} {
		errs = append(errs, rule(&s.Spec)...)
	}
	return append(errs, sourceRanges(s)...)
}

// topologyAnnotations refuses the two names of one annotation with two values.
func topologyAnnotations(annotations map[string]string) field.ErrorList {
	hints, old := annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	mode, current := annotations[corev1.AnnotationTopologyMode]
	if !old || !current || hints == mode {
		return nil
	}
	message := fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints)
	return field.ErrorList{field.Invalid(metadataPath.Child("annotations").Key(corev1.AnnotationTopologyMode), mode, message)}
}

// agentPort is the port on which every node's agent serves logs.
const agentPort = 10250

// serviceType holds the rules that differ from type to type.
func serviceType(spec *corev1.ServiceSpec) field.ErrorList {
	errs := requireChoice(specPath.Child("type"), spec.Type,
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)
	switch spec.Type {
	case corev1.ServiceTypeExternalName:
		return append(errs, externalName(spec)...)
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if headless(spec) {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone,
				fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
	}
	for i, port := range spec.Ports {
		fld := specPath.Child("ports").Index(i)
		if spec.Type == corev1.ServiceTypeClusterIP && port.NodePort != 0 {
			errs = append(errs, field.Forbidden(fld.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
		if spec.Type == corev1.ServiceTypeLoadBalancer && port.Port == agentPort {
			errs = append(errs, field.Invalid(fld, port.Port, fmt.Sprintf("may not expose port %d externally since it is used by kubelet", agentPort)))
		}
	}
	return errs
}

// externalName holds the rules of a Service that is an alias in DNS and nothing else.
func externalName(spec *corev1.ServiceSpec) field.ErrorList {
	const message = "may not be set for ExternalName services"
	var errs field.ErrorList
	if len(spec.ClusterIPs) > 0 || spec.ClusterIP != "" {
		errs = append(errs, field.Forbidden(specPath.Child("clusterIPs"), message))
	}
	if len(spec.IPFamilies) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ipFamilies"), message))
	}
	if spec.IPFamilyPolicy != nil {
		errs = append(errs, field.Forbidden(specPath.Child("ipFamilyPolicy"), message))
	}
	// A dot at the end says that the name is complete.
	return append(errs, requireFormat(specPath.Child("externalName"), strings.TrimSuffix(spec.ExternalName, "."), validation.IsDNS1123Subdomain)...)
}

func servicePorts(spec *corev1.ServiceSpec) field.ErrorList {
	fld := specPath.Child("ports")
	if len(spec.Ports) == 0 && !headless(spec) && spec.Type != corev1.ServiceTypeExternalName {
		return field.ErrorList{field.Required(fld, "")}
	}
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range spec.Ports {
		port, fld := &spec.Ports[i], fld.Index(i)
		errs = append(errs, portName(fld.Child("name"), port.Name, len(spec.Ports) > 1)...)
		if port.Name != "" && names.Has(port.Name) {
			errs = append(errs, field.Duplicate(fld.Child("name"), port.Name))
		}
		names.Insert(port.Name)
		errs = append(errs, portNumber(fld.Child("port"), port.Port)...)
		errs = append(errs, requireChoice(fld.Child("protocol"), port.Protocol, transports...)...)
		errs = append(errs, portNumberOrName(fld.Child("targetPort"), port.TargetPort)...)
		errs = append(errs, appProtocol(fld.Child("appProtocol"), port.AppProtocol)...)
		if port.NodePort != 0 {
			errs = append(errs, portNumber(fld.Child("nodePort"), port.NodePort)...)
		}
	}
	return errs
}

func portName(fld *field.Path, name string, required bool) field.ErrorList {
	if required {
		return requireFormat(fld, name, validation.IsDNS1123Label)
	}
	return optionalFormat(fld, name, validation.IsDNS1123Label)
}

func portNumber(fld *field.Path, port int32) field.ErrorList {
	return invalidFor(fld, port, validation.IsValidPortNum(int(port)))
}

func appProtocol(fld *field.Path, protocol *string) field.ErrorList {
	if protocol == nil {
		return nil
	}
	return qualifiedName(fld, *protocol)
}

// uniquePorts refuses a port, and a node port, that two entries have for one protocol.
func uniquePorts(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	ports, nodePorts := sets.New[corev1.ServicePort](), sets.New[corev1.ServicePort]()
	for i, port := range spec.Ports {
		fld := specPath.Child("ports").Index(i)
		outer := corev1.ServicePort{Protocol: port.Protocol, NodePort: port.NodePort}
		if port.NodePort != 0 && nodePorts.Has(outer) {
			errs = append(errs, field.Duplicate(fld.Child("nodePort"), port.NodePort))
		}
		nodePorts.Insert(outer)
		inner := corev1.ServicePort{Protocol: port.Protocol, Port: port.Port}
		if ports.Has(inner) {
			errs = append(errs, field.Duplicate(fld, inner))
		}
		ports.Insert(inner)
	}
	return errs
}

func serviceSelector(spec *corev1.ServiceSpec) field.ErrorList {
	return metav1validation.ValidateLabels(spec.Selector, specPath.Child("selector"))
}

func sessionAffinity(spec *corev1.ServiceSpec) field.ErrorList {
	errs := requireChoice(specPath.Child("sessionAffinity"), spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	fld, config := specPath.Child("sessionAffinityConfig"), spec.SessionAffinityConfig
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if config != nil {
			errs = append(errs, field.Forbidden(fld, "must not be set when session affinity is None"))
		}
	case corev1.ServiceAffinityClientIP:
		errs = append(errs, clientIPAffinity(fld, config)...)
	}
	return errs
}

// maxAffinitySeconds is the longest time for which a client keeps its endpoint: a day.
const maxAffinitySeconds = 24 * 60 * 60

func clientIPAffinity(fld *field.Path, config *corev1.SessionAffinityConfig) field.ErrorList {
	const when = "when session affinity type is ClientIP"
	if config == nil {
		return field.ErrorList{field.Required(fld, when)}
	}
	fld = fld.Child("clientIP")
	if config.ClientIP == nil {
		return field.ErrorList{field.Required(fld, when)}
	}
	fld = fld.Child("timeoutSeconds")
	seconds := config.ClientIP.TimeoutSeconds
	if seconds == nil {
		return field.ErrorList{field.Required(fld, when)}
	}
	if *seconds <= 0 || *seconds > maxAffinitySeconds {
		return field.ErrorList{field.Invalid(fld, *seconds, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds))}
	}
	return nil
}

func externalIPs(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	for i, address := range spec.ExternalIPs {
		errs = append(errs, unicastAddress(specPath.Child("externalIPs").Index(i), address)...)
	}
	return errs
}
