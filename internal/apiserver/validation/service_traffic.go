package validation

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// onlyLoadBalancer is the reason for which other types are refused a field.
const onlyLoadBalancer = "may only be used when `type` is 'LoadBalancer'"

// loadBalancer holds the rules about the fields that only a LoadBalancer has.
func loadBalancer(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	classPath, nodePortsPath := specPath.Child("loadBalancerClass"), specPath.Child("allocateLoadBalancerNodePorts")
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		if spec.LoadBalancerClass != nil {
			errs = append(errs, qualifiedName(classPath, *spec.LoadBalancerClass)...)
		}
		if spec.AllocateLoadBalancerNodePorts == nil {
			errs = append(errs, field.Required(nodePortsPath, ""))
		}
		return errs
	}
	if spec.LoadBalancerClass != nil {
		errs = append(errs, field.Forbidden(classPath, onlyLoadBalancer))
	}
	if spec.AllocateLoadBalancerNodePorts != nil {
		errs = append(errs, field.Forbidden(nodePortsPath, onlyLoadBalancer))
	}
	return errs
}

func loadBalancerClassUpdate(spec, old *corev1.ServiceSpec) field.ErrorList {
	if spec.Type != corev1.ServiceTypeLoadBalancer || old.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	class, was := spec.LoadBalancerClass, old.LoadBalancerClass
	if class == nil && was == nil || class != nil && was != nil && *class == *was {
		return nil
	}
	return field.ErrorList{field.Invalid(specPath.Child("loadBalancerClass"), class, "may not change once set")}
}

// sourceRanges holds the rules about who may reach a LoadBalancer, given by a field or,
// when that is empty, by an annotation.
func sourceRanges(s *corev1.Service) field.ErrorList {
	fld, ranges := specPath.Child("loadBalancerSourceRanges"), s.Spec.LoadBalancerSourceRanges
	annotation, annotated := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
	switch {
	case len(ranges) > 0:
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return field.ErrorList{field.Forbidden(fld, onlyLoadBalancer)}
		}
		var errs field.ErrorList
		for i, value := range ranges {
			errs = append(errs, cidr(fld.Index(i), strings.TrimSpace(value))...)
		}
		return errs
	case annotated:
		fld = metadataPath.Child("annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return field.ErrorList{field.Forbidden(fld, onlyLoadBalancer)}
		}
		if strings.TrimSpace(annotation) == "" {
			return nil
		}
		for value := range strings.SplitSeq(annotation, ",") {
			if len(cidr(fld, strings.TrimSpace(value))) > 0 {
				return field.ErrorList{field.Invalid(fld, annotation, "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24")}
			}
		}
	}
	return nil
}

// reachableFromOutside reports whether a Service has addresses beside its cluster IPs.
func reachableFromOutside(spec *corev1.ServiceSpec) bool {
	switch spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	case corev1.ServiceTypeClusterIP:
		return len(spec.ExternalIPs) > 0
	}
	return false
}

// trafficPolicies holds the rules about which endpoints get a Service's traffic.
func trafficPolicies(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	outer, outerPath := spec.ExternalTrafficPolicy, specPath.Child("externalTrafficPolicy")
	if reachableFromOutside(spec) {
		errs = append(errs, requireChoice(outerPath, outer, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if outer != "" {
		errs = append(errs, field.Invalid(outerPath, outer, "may only be set for externally-accessible services"))
	}

	inner, innerPath := spec.InternalTrafficPolicy, specPath.Child("internalTrafficPolicy")
	switch spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if inner == nil {
			errs = append(errs, field.Required(innerPath, ""))
		}
	}
	errs = append(errs, optionalChoice(innerPath, inner, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	errs = append(errs, optionalChoice(specPath.Child("trafficDistribution"), spec.TrafficDistribution,
		corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone)...)
	return append(errs, healthCheckNodePort(spec)...)
}

// healthCheckNodePort allows the port only where it is used. Zero means that the allocator
// has still to choose one.
func healthCheckNodePort(spec *corev1.ServiceSpec) field.ErrorList {
	fld, port := specPath.Child("healthCheckNodePort"), spec.HealthCheckNodePort
	if port == 0 {
		return nil
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer || spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return field.ErrorList{field.Invalid(fld, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")}
	}
	return portNumber(fld, port)
}

// serviceStatusUpdate returns the faults of a Service's status, written by its load balancer.
func serviceStatusUpdate(s, old *corev1.Service) field.ErrorList {
	errs := metadataUpdate(&s.ObjectMeta, &old.ObjectMeta)
	fld, ingress := statusPath.Child("loadBalancer", "ingress"), s.Status.LoadBalancer.Ingress
	if len(ingress) > 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return append(errs, field.Forbidden(fld, "may only be used when `spec.type` is \"LoadBalancer\""))
	}
	for i := range ingress {
		errs = append(errs, ingressPoint(fld.Index(i), &ingress[i])...)
	}
	return errs
}

func ingressPoint(fld *field.Path, ingress *corev1.LoadBalancerIngress) field.ErrorList {
	var errs field.ErrorList
	modePath := fld.Child("ipMode")
	switch {
	case ingress.IP == "" && ingress.IPMode != nil:
		errs = append(errs, field.Forbidden(modePath, "may not be specified when `ip` is not set"))
	case ingress.IP != "":
		errs = append(errs, ipAddress(fld.Child("ip"), ingress.IP)...)
		if ingress.IPMode == nil {
			errs = append(errs, field.Required(modePath, "must be specified when `ip` is set"))
		}
		errs = append(errs, optionalChoice(modePath, ingress.IPMode, corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
	}
	if ingress.Hostname != "" && netutils.ParseIPSloppy(ingress.Hostname) != nil {
		errs = append(errs, field.Invalid(fld.Child("hostname"), ingress.Hostname, "must be a DNS name, not an IP address"))
	}
	errs = append(errs, optionalFormat(fld.Child("hostname"), ingress.Hostname, validation.IsDNS1123Subdomain)...)
	for i, port := range ingress.Ports {
		errs = append(errs, portNumber(fld.Child("ports").Index(i).Child("port"), port.Port)...)
		errs = append(errs, choice(fld.Child("ports").Index(i).Child("protocol"), port.Protocol, transports...)...)
		if port.Error != nil {
			errs = append(errs, qualifiedName(fld.Child("ports").Index(i).Child("error"), *port.Error)...)
		}
	}
	return errs
}
