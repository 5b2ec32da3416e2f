package validation

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How much one slice holds. The reference documents 100 ports; Kubernetes accepts these
// 20,000, because a Service may have more ports than 100 and all of them go in one slice.
const (
	maxSliceEndpoints    = 1000
	maxSlicePorts        = 20000
	maxEndpointAddresses = 100
	maxTopologyLabels    = 16
	maxHints             = 8
)

func endpointSliceCreate(s *discoveryv1.EndpointSlice) field.ErrorList {
	return append(namespaced(&s.ObjectMeta, subdomainName), endpointSliceRules(s)...)
}

func endpointSliceUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := metadataUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, immutable(field.NewPath("addressType"), s.AddressType, old.AddressType)...)
	return append(errs, endpointSliceRules(s)...)
}

func endpointSliceRules(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := requireChoice(field.NewPath("addressType"), s.AddressType,
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	endpointsPath := field.NewPath("endpoints")
	if many := len(s.Endpoints); many > maxSliceEndpoints {
		errs = append(errs, field.TooMany(endpointsPath, many, maxSliceEndpoints))
	} else {
		for i := range s.Endpoints {
			errs = append(errs, sliceEndpoint(endpointsPath.Index(i), &s.Endpoints[i], s.AddressType)...)
		}
	}
	return append(errs, slicePorts(s.Ports)...)
}

func sliceEndpoint(fld *field.Path, endpoint *discoveryv1.Endpoint, kind discoveryv1.AddressType) field.ErrorList {
	errs := sliceAddresses(fld.Child("addresses"), endpoint.Addresses, kind)
	errs = append(errs, endpointNode(fld.Child("nodeName"), endpoint.NodeName)...)
	if endpoint.Hostname != nil {
		errs = append(errs, invalidFor(fld.Child("hostname"), *endpoint.Hostname, validation.IsDNS1123Label(*endpoint.Hostname))...)
	}
	if endpoint.Zone != nil {
		errs = append(errs, invalidFor(fld.Child("zone"), *endpoint.Zone, validation.IsValidLabelValue(*endpoint.Zone))...)
	}
	topology := fld.Child("deprecatedTopology")
	if many := len(endpoint.DeprecatedTopology); many > maxTopologyLabels {
		errs = append(errs, field.TooMany(topology, many, maxTopologyLabels))
	}
	errs = append(errs, metav1validation.ValidateLabels(endpoint.DeprecatedTopology, topology)...)
	return append(errs, hints(fld.Child("hints"), endpoint.Hints)...)
}

func sliceAddresses(fld *field.Path, addresses []string, kind discoveryv1.AddressType) field.ErrorList {
	if len(addresses) == 0 {
		return field.ErrorList{field.Required(fld, "must contain at least 1 address")}
	}
	if many := len(addresses); many > maxEndpointAddresses {
		return field.ErrorList{field.TooMany(fld, many, maxEndpointAddresses)}
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, address := range addresses {
		fld := fld.Index(i)
		switch kind {
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			errs = append(errs, addressOf(fld, address, corev1.IPFamily(kind))...)
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, validation.IsFullyQualifiedDomainName(fld, address)...)
		}
		if seen.Has(address) {
			errs = append(errs, field.Duplicate(fld, address))
		}
		seen.Insert(address)
	}
	return errs
}

// hints holds the rules about the zones and nodes that should use an endpoint.
func hints(fld *field.Path, h *discoveryv1.EndpointHints) field.ErrorList {
	if h == nil {
		return nil
	}
	var zones, nodes []string
	for _, zone := range h.ForZones {
		zones = append(zones, zone.Name)
	}
	for _, node := range h.ForNodes {
		nodes = append(nodes, node.Name)
	}
	errs := hintNames(fld.Child("forZones"), zones, validation.IsValidLabelValue)
	return append(errs, hintNames(fld.Child("forNodes"), nodes, isNodeName)...)
}

func hintNames(fld *field.Path, names []string, format func(string) []string) field.ErrorList {
	if many := len(names); many > maxHints {
		return field.ErrorList{field.TooMany(fld, many, maxHints)}
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, name := range names {
		fld := fld.Index(i).Child("name")
		if seen.Has(name) {
			errs = append(errs, field.Duplicate(fld, name))
		}
		seen.Insert(name)
		errs = append(errs, requireFormat(fld, name, format)...)
	}
	return errs
}

// slicePorts requires ports with different names, of which one may be empty. A port
// without number stands for all of them.
func slicePorts(ports []discoveryv1.EndpointPort) field.ErrorList {
	fld := field.NewPath("ports")
	if many := len(ports); many > maxSlicePorts {
		return field.ErrorList{field.TooMany(fld, many, maxSlicePorts)}
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, port := range ports {
		fld := fld.Index(i)
		name := ""
		if port.Name != nil {
			name = *port.Name
		}
		errs = append(errs, portName(fld.Child("name"), name, false)...)
		if seen.Has(name) {
			errs = append(errs, field.Duplicate(fld.Child("name"), name))
		}
		seen.Insert(name)
		if port.Protocol == nil {
			errs = append(errs, field.Required(fld.Child("protocol"), ""))
		}
		errs = append(errs, optionalChoice(fld.Child("protocol"), port.Protocol, transports...)...)
		if port.Port != nil {
			errs = append(errs, portNumber(fld.Child("port"), *port.Port)...)
		}
		errs = append(errs, appProtocol(fld.Child("appProtocol"), port.AppProtocol)...)
	}
	return errs
}
