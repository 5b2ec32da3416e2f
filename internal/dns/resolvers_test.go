package dns

import (
	"net/netip"
	"slices"
	"testing"
)

// TestUsable: a server that asked itself would never end.
func TestUsable(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.42.0.1"), netip.MustParseAddr("10.43.0.10")}
	named := []string{"10.43.0.10", "192.0.2.53", "::ffff:10.42.0.1", "fe80::1%eth0", "resolver", "192.0.2.53", "127.0.0.53"}
	want := []string{"192.0.2.53:53", "[fe80::1%eth0]:53", "127.0.0.53:53"}
	if got := usable(named, own, "53"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
