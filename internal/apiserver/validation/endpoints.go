package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func endpointsCreate(e *corev1.Endpoints) field.ErrorList {
	return append(namespaced(&e.ObjectMeta, subdomainName), endpointSubsets(e.Subsets)...)
}

func endpointsUpdate(e, old *corev1.Endpoints) field.ErrorList {
	return append(metadataUpdate(&e.ObjectMeta, &old.ObjectMeta), endpointSubsets(e.Subsets)...)
}

// endpointSubsets requires each subset to have an address. It need not have a port: a
// headless Service may have none.
func endpointSubsets(subsets []corev1.EndpointSubset) field.ErrorList {
	var errs field.ErrorList
	for i := range subsets {
		subset, fld := &subsets[i], field.NewPath("subsets").Index(i)
		if len(subset.Addresses) == 0 && len(subset.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(fld, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range subset.Addresses {
			errs = append(errs, endpointAddress(fld.Child("addresses").Index(j), &subset.Addresses[j])...)
		}
		for j := range subset.NotReadyAddresses {
			errs = append(errs, endpointAddress(fld.Child("notReadyAddresses").Index(j), &subset.NotReadyAddresses[j])...)
		}
		for j, port := range subset.Ports {
			fld := fld.Child("ports").Index(j)
			errs = append(errs, portName(fld.Child("name"), port.Name, len(subset.Ports) > 1)...)
			errs = append(errs, portNumber(fld.Child("port"), port.Port)...)
			errs = append(errs, requireChoice(fld.Child("protocol"), port.Protocol, transports...)...)
			errs = append(errs, appProtocol(fld.Child("appProtocol"), port.AppProtocol)...)
		}
	}
	return errs
}

func endpointAddress(fld *field.Path, address *corev1.EndpointAddress) field.ErrorList {
	errs := unicastAddress(fld.Child("ip"), address.IP)
	errs = append(errs, optionalFormat(fld.Child("hostname"), address.Hostname, validation.IsDNS1123Label)...)
	return append(errs, endpointNode(fld.Child("nodeName"), address.NodeName)...)
}

func endpointNode(fld *field.Path, name *string) field.ErrorList {
	if name == nil {
		return nil
	}
	return invalidFor(fld, *name, isNodeName(*name))
}
