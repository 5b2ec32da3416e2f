package network

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// addresses gives out the addresses of a range, one for each pod, recorded in
// one file for each pod. An address that was freed is taken again only when
// all others have had their turn, so that what still speaks to the old pod
// does not reach a new one.
type addresses struct {
	dir     string
	gateway netip.Addr   // the first address, the bridge's
	within  netip.Prefix // the last address, the broadcast, is not given out

	mu    sync.Mutex
	byPod map[string]netip.Addr
	taken map[netip.Addr]bool
	last  netip.Addr // the one given out last
}

func loadAddresses(dir string, within netip.Prefix) (*addresses, error) {
	if !within.Addr().Is4() || within.Bits() > 30 {
		return nil, fmt.Errorf("pod range %s: want an IPv4 network of at least four addresses", within)
	}
	gateway := within.Masked().Addr().Next()
	a := &addresses{dir: dir, gateway: gateway, within: within.Masked(), byPod: map[string]netip.Addr{}, taken: map[netip.Addr]bool{gateway: true}, last: gateway}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the addresses on record: %w", err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".new") {
			continue // a record that was never finished
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the address of pod %s: %w", entry.Name(), err)
		}
		if len(content) == 0 { // made as the power failed: the pod had no network yet
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("remove an empty record: %w", err)
			}
			continue
		}
		ip, err := parseAddress(content)
		if err != nil || a.taken[ip] {
			return nil, fmt.Errorf("the address of pod %s on record, %q, is damaged or taken twice: remove %s when that pod is gone",
				entry.Name(), content, filepath.Join(dir, entry.Name()))
		}
		a.byPod[entry.Name()], a.taken[ip] = ip, true
		if a.last.Less(ip) {
			a.last = ip
		}
	}
	return a, nil
}

// parseAddress reads the content of a pod's record.
func parseAddress(content []byte) (netip.Addr, error) {
	ip, err := netip.ParseAddr(strings.TrimSpace(string(content)))
	if err == nil && !ip.Is4() {
		err = fmt.Errorf("%s is not an IPv4 address", ip)
	}
	return ip, err
}

func (a *addresses) all() map[string]netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.byPod)
}

// has reports whether the pod has an address.
func (a *addresses) has(pod string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.byPod[pod]
	return ok
}

// take returns the pod's address, a new one if it has none.
func (a *addresses) take(pod string) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ip, ok := a.byPod[pod]; ok {
		return ip, nil
	}
	ip, err := a.next()
	if err != nil {
		return netip.Addr{}, err
	}
	if err := a.record(pod, ip); err != nil {
		return netip.Addr{}, fmt.Errorf("record the address of pod %s: %w", pod, err)
	}
	a.byPod[pod], a.taken[ip], a.last = ip, true, ip
	return ip, nil
}

func (a *addresses) next() (netip.Addr, error) {
	for ip := a.last; ; {
		ip = ip.Next()
		if !a.within.Contains(ip) || !a.within.Contains(ip.Next()) { // past the end, or the broadcast address
			ip = a.gateway
		}
		if !a.taken[ip] {
			return ip, nil
		}
		if ip == a.last || ip == a.gateway && a.last == a.gateway {
			return netip.Addr{}, fmt.Errorf("no address left: all of %s are taken by %d pods", a.within, len(a.byPod))
		}
	}
}

// record writes a pod's file whole or not at all.
func (a *addresses) record(pod string, ip netip.Addr) error {
	path := filepath.Join(a.dir, pod)
	if err := os.WriteFile(path+".new", []byte(ip.String()+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (a *addresses) release(pod string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := os.Remove(filepath.Join(a.dir, pod)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free the address of pod %s: %w", pod, err)
	}
	delete(a.taken, a.byPod[pod])
	delete(a.byPod, pod)
	return nil
}
