package validation

import (
	"net"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// ipAddress requires an IP address, without leading zeros and not an IPv4 address
// dressed as IPv6.
func ipAddress(fld *field.Path, address string) field.ErrorList {
	return validation.IsValidIPForLegacyField(fld, address, true, nil)
}

// cidr requires a range of addresses, with no bits set beyond its prefix.
func cidr(fld *field.Path, value string) field.ErrorList {
	return validation.IsValidCIDRForLegacyField(fld, value, true, nil)
}

// unicastAddress requires an IP address to which other machines can send.
func unicastAddress(fld *field.Path, address string) field.ErrorList {
	if errs := ipAddress(fld, address); len(errs) > 0 {
		return errs
	}
	ip := netutils.ParseIPSloppy(address)
	for _, special := range []struct {
		is      func(net.IP) bool
		message string
	}{
		{net.IP.IsUnspecified, "may not be unspecified (" + address + ")"},
		{net.IP.IsLoopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"},
		{net.IP.IsLinkLocalUnicast, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"},
		{net.IP.IsLinkLocalMulticast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
	} {
		if special.is(ip) {
			return field.ErrorList{field.Invalid(fld, address, special.message)}
		}
	}
	return nil
}

// addressOf requires an IP address of the given family, to which other machines can send.
func addressOf(fld *field.Path, address string, family corev1.IPFamily) field.ErrorList {
	if errs := unicastAddress(fld, address); len(errs) > 0 {
		return errs
	}
	if !ofFamily(address, family) {
		return field.ErrorList{field.Invalid(fld, address, "must be a valid "+string(family)+" address")}
	}
	return nil
}

// ofFamily reports whether a valid address is of the given family.
func ofFamily(address string, family corev1.IPFamily) bool {
	return netutils.IsIPv6String(address) == (family == corev1.IPv6Protocol)
}

// transports are the protocols that the ports of Services and their endpoints speak.
var transports = []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}

// onePerFamily reports whether no two of addresses, at most two, are of one family.
func onePerFamily(addresses []string) bool {
	if len(addresses) < 2 {
		return true
	}
	return len(addresses) == 2 && netutils.IsIPv6String(addresses[0]) != netutils.IsIPv6String(addresses[1])
}
