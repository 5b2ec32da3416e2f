package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/miekg/dns"
)

// resolvers are those of the host, as a resolv.conf(5) names them.
type resolvers struct {
	path string
	port string
	skip []netip.Addr // this server's own addresses: to ask itself would never end

	mu   sync.Mutex
	read os.FileInfo // of the file when it was read last
	list []string
}

// addresses returns the resolvers in their order, as host:port. The file is
// read again when it is another than the last time. One that is not there
// names none; the error is that of reading it.
func (r *resolvers) addresses() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	is, err := os.Stat(r.path)
	if os.IsNotExist(err) {
		r.read, r.list = nil, nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the host's resolvers: %w", err)
	}
	if r.read != nil && os.SameFile(is, r.read) && is.ModTime().Equal(r.read.ModTime()) && is.Size() == r.read.Size() {
		return r.list, nil
	}
	config, err := dns.ClientConfigFromFile(r.path)
	if err != nil {
		return nil, fmt.Errorf("the host's resolvers: %w", err)
	}
	r.read, r.list = is, usable(config.Servers, r.skip, r.port)
	return r.list, nil
}

// usable returns those resolvers that can be asked, each once.
func usable(named []string, skip []netip.Addr, port string) []string {
	var list []string
	for _, name := range named {
		address, err := netip.ParseAddr(name)
		if err != nil || slices.Contains(skip, address.Unmap()) {
			continue
		}
		if hostPort := net.JoinHostPort(address.String(), port); !slices.Contains(list, hostPort) {
			list = append(list, hostPort)
		}
	}
	return list
}
