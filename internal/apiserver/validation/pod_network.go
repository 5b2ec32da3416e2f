package validation

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What resolvers bound: servers, search paths, and the characters of all search paths.
const (
	maxNameservers      = 3
	maxSearches         = 32
	maxSearchCharacters = 2048
)

// maxHostnameOverride is the length of the longest name that a Linux host can have.
const maxHostnameOverride = 64

// podNetwork returns the faults of a pod's names, name service and ports of the host.
func podNetwork(fld *field.Path, facts podFacts) field.ErrorList {
	spec := facts.spec
	errs := optionalFormat(fld.Child("hostname"), spec.Hostname, validation.IsDNS1123Label)
	errs = append(errs, optionalFormat(fld.Child("subdomain"), spec.Subdomain, validation.IsDNS1123Label)...)
	errs = append(errs, hostnameOverride(fld.Child("hostnameOverride"), spec)...)
	errs = append(errs, requireChoice(fld.Child("dnsPolicy"), spec.DNSPolicy,
		corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	errs = append(errs, dnsConfig(fld.Child("dnsConfig"), spec)...)
	for i, alias := range spec.HostAliases {
		at := fld.Child("hostAliases").Index(i)
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), alias.IP, false, nil)...)
		for j, name := range alias.Hostnames {
			errs = append(errs, invalidFor(at.Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))...)
		}
	}
	if spec.HostNetwork {
		errs = append(errs, hostNetworkPorts(fld.Child("initContainers"), spec.InitContainers, facts)...)
		errs = append(errs, hostNetworkPorts(fld.Child("containers"), spec.Containers, facts)...)
	}
	return errs
}

func hostnameOverride(fld *field.Path, spec *corev1.PodSpec) field.ErrorList {
	name := spec.HostnameOverride
	if name == nil || *name == "" {
		return nil
	}
	errs := invalidFor(fld, *name, validation.IsDNS1123Subdomain(*name))
	if len(*name) > maxHostnameOverride {
		errs = append(errs, field.TooLong(fld, *name, maxHostnameOverride))
	}
	if spec.HostNetwork {
		errs = append(errs, field.Forbidden(fld, "may not be specified when hostNetwork is true"))
	}
	if spec.SetHostnameAsFQDN != nil && *spec.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(fld, "may not be specified when setHostnameAsFQDN is true"))
	}
	return errs
}

// dnsConfig returns the faults of a pod's resolver settings.
func dnsConfig(fld *field.Path, spec *corev1.PodSpec) field.ErrorList {
	config := spec.DNSConfig
	if config == nil {
		if spec.DNSPolicy == corev1.DNSNone {
			return field.ErrorList{field.Required(fld, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))}
		}
		return nil
	}
	servers, searches := fld.Child("nameservers"), fld.Child("searches")
	var errs field.ErrorList
	if spec.DNSPolicy == corev1.DNSNone && len(config.Nameservers) == 0 {
		errs = append(errs, field.Required(servers, fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone)))
	}
	if len(config.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(servers, config.Nameservers, fmt.Sprintf("must not have more than %d nameservers", maxNameservers)))
	}
	for i, server := range config.Nameservers {
		errs = append(errs, validation.IsValidIPForLegacyField(servers.Index(i), server, false, nil)...)
	}
	if len(config.Searches) > maxSearches {
		errs = append(errs, field.Invalid(searches, config.Searches, fmt.Sprintf("must not have more than %d search paths", maxSearches)))
	}
	if len(strings.Join(config.Searches, " ")) > maxSearchCharacters {
		errs = append(errs, field.Invalid(searches, config.Searches,
			fmt.Sprintf("must not have more than %d characters (including spaces) in the search list", maxSearchCharacters)))
	}
	for i, search := range config.Searches {
		// A single dot is the root, which ends the search.
		if search != "." {
			errs = append(errs, invalidFor(searches.Index(i), search, validation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(search, ".")))...)
		}
	}
	for i, option := range config.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(fld.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// hostNetworkPorts refuses ports that differ from the host's, of which a pod in the host's
// network has no others. In templates they may be left out, to be filled in for each pod.
func hostNetworkPorts(fld *field.Path, containers []corev1.Container, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	for i, c := range containers {
		for j, port := range c.Ports {
			if port.HostPort == port.ContainerPort || (port.HostPort == 0 && !facts.isPod) {
				continue
			}
			errs = append(errs, field.Invalid(fld.Index(i).Child("ports").Index(j).Child("hostPort"), port.HostPort,
				"must match `containerPort` when `hostNetwork` is true"))
		}
	}
	return errs
}
