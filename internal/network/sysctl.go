package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sysctl is a kernel parameter below /proc/sys/net, of one network namespace.
type sysctl struct {
	name, value string
	needed      bool // pods would not work without it
}

// hostSysctls are those of the node.
func hostSysctls(bridge string) []sysctl {
	return []sysctl{
		{"ipv4/ip_forward", "1", true},
		// A node port on 127.0.0.1 leaves loopback with that source address, translated.
		{"ipv4/conf/" + bridge + "/route_localnet", "1", true},
		// Loose even where all links are strict: a reply may come by another link.
		{"ipv4/conf/" + bridge + "/rp_filter", "2", false},
		// Packets between pods go in and out by the same bridge, on purpose.
		{"ipv4/conf/" + bridge + "/send_redirects", "0", false},
		// Gives each pod a socket table of its own, so that looking through it does
		// not mean looking through the machine's. (Linux 6.1.)
		{"ipv4/tcp_child_ehash_entries", "8192", false},
	}
}

// podSysctls are those of a pod.
var podSysctls = []sysctl{
	// As Docker and containerd have it: low ports and ping without privileges.
	{"ipv4/ip_unprivileged_port_start", "0", false},
	{"ipv4/ping_group_range", "0\t2147483647", false},
	// The way through the bridge's address is on purpose.
	{"ipv4/conf/all/accept_redirects", "0", false},
	{"ipv4/conf/default/accept_redirects", "0", false},
	// eth0 has no IPv6 address; loopback keeps its own.
	{"ipv6/conf/default/disable_ipv6", "1", false},
}

// setSysctls sets parameters in the network namespace of the calling thread. Of
// those that are not needed it sets what it can.
func setSysctls(settings []sysctl) error {
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net", s.name)
		current, err := os.ReadFile(path)
		if err == nil && string(current) == s.value+"\n" {
			continue // which spares a write where they are read-only
		}
		err = os.WriteFile(path, []byte(s.value), 0)
		if err != nil && s.needed && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set net/%s to %s: %w", s.name, s.value, err)
		}
	}
	return nil
}
