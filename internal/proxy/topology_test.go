package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// topology is a machine in namespaces, as the network part sets it up:
//
//	outside ─ 192.168.1.3/24 ══ 192.168.1.2/24 ─ node ─ windlass0 10.42.0.1/24 ══ pods 10.42.0.N/32
//
// The node's default route leads outside.
type topology struct {
	t       testing.TB
	node    *namespace
	outside *namespace
	table   *Table
}

const (
	nodeAddress    = "192.168.1.2"
	outsideAddress = "192.168.1.3"
)

func newTopology(t testing.TB) *topology {
	t.Helper()
	top := &topology{t: t, node: newNamespace(t), outside: newNamespace(t)}
	top.node.do(func() {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: testNode.Bridge}}
		top.node.must(netlink.LinkAdd(bridge))
		top.node.must(netlink.LinkSetUp(bridge))
		top.node.address(testNode.Bridge, "10.42.0.1/24")
		top.node.pair("eth0", top.outside, "eth0")
		top.node.address("eth0", nodeAddress+"/24")
		top.node.route("0.0.0.0/0", outsideAddress, "")
		top.node.route(testNode.ServiceRange.String(), "", testNode.Bridge)
		for name, value := range map[string]string{
			"ip_forward": "1", "conf/windlass0/route_localnet": "1", "conf/windlass0/rp_filter": "0",
			"conf/windlass0/send_redirects": "0", "conf/all/send_redirects": "0",
		} {
			top.node.must(os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0))
		}
	})
	top.outside.do(func() {
		top.outside.address("eth0", outsideAddress+"/24")
		top.outside.route("10.0.0.0/8", nodeAddress, "")
	})
	top.node.do(func() { top.node.up("eth0") })
	top.table = NewTable(realKernel(t, top.node))
	return top
}

// bridged lets frames on the bridge go through the IP hooks ("1") or not ("0"),
// and says whether this kernel can.
func (top *topology) bridged(how string) bool {
	const setting = "../bridge/bridge-nf-call-iptables"
	if _, err := os.Stat("/proc/sys/net/ipv4/" + setting); err != nil {
		return how == "0"
	}
	top.node.sysctl(setting, how)
	return true
}

// pod adds a pod and returns its namespace.
func (top *topology) pod(address string) *namespace {
	top.t.Helper()
	pod := newNamespace(top.t)
	name := "p" + strings.ReplaceAll(address, ".", "")
	top.node.do(func() {
		top.node.pair(name, pod, "eth0")
		port, err := netlink.LinkByName(name)
		top.node.must(err)
		bridge, err := netlink.LinkByName(testNode.Bridge)
		top.node.must(err)
		top.node.must(netlink.LinkSetMaster(port, bridge))
		top.node.must(netlink.LinkSetHairpin(port, true))
	})
	pod.do(func() {
		pod.address("eth0", address+"/32")
		pod.route("10.42.0.1/32", "", "eth0")
		pod.route("0.0.0.0/0", "10.42.0.1", "eth0")
	})
	top.node.do(func() {
		top.node.up(name)
		top.node.up(testNode.Bridge)
	})
	return pod
}

// set applies the objects as they are after a change.
func (top *topology) set(objects string) {
	top.t.Helper()
	if err := top.table.Set(Compile(parseState(top.t, objects))); err != nil {
		top.t.Fatal(err)
	}
}

// pair joins this namespace, which the thread is in, to another by a link.
func (ns *namespace) pair(name string, other *namespace, otherName string) {
	ns.t.Helper()
	ns.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: otherName, PeerNamespace: netlink.NsFd(int(other.handle))}))
	link, err := netlink.LinkByName(name)
	ns.must(err)
	ns.must(netlink.LinkSetUp(link))
}

// up waits for a link to carry packets, which takes a moment after it is set up.
func (ns *namespace) up(name string) {
	ns.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByName(name)
		ns.must(err)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
	ns.t.Errorf("%s did not come up", name)
}

func (ns *namespace) address(name, prefix string) {
	ns.t.Helper()
	link, err := netlink.LinkByName(name)
	ns.must(err)
	address, err := netlink.ParseAddr(prefix)
	ns.must(err)
	ns.must(netlink.AddrAdd(link, address))
	ns.must(netlink.LinkSetUp(link))
}

func (ns *namespace) route(prefix, gateway, name string) {
	ns.t.Helper()
	_, destination, err := net.ParseCIDR(prefix)
	ns.must(err)
	route := &netlink.Route{Dst: destination, Gw: net.ParseIP(gateway)}
	if name != "" {
		link, err := netlink.LinkByName(name)
		ns.must(err)
		route.LinkIndex, route.Scope = link.Attrs().Index, netlink.SCOPE_LINK
		if gateway != "" {
			route.Scope = netlink.SCOPE_UNIVERSE
		}
	}
	ns.must(netlink.RouteAdd(route))
}

// server answers each connection in a namespace with its name and the address
// that it saw the client under.
type server struct {
	name        string
	clientFirst bool // wait for the client to close

	mu     sync.Mutex
	served int
}

func (ns *namespace) serve(name, address string) *server {
	ns.t.Helper()
	s := &server{name: name}
	ns.do(func() {
		listener, err := net.Listen("tcp4", address)
		ns.must(err)
		if err != nil {
			return
		}
		ns.t.Cleanup(func() { _ = listener.Close() })
		go s.accept(listener)
		packets, err := net.ListenPacket("udp4", address)
		ns.must(err)
		if err != nil {
			return
		}
		ns.t.Cleanup(func() { _ = packets.Close() })
		go s.answer(packets)
	})
	return s
}

func (s *server) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			in := bufio.NewReader(conn)
			for {
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
				s.mu.Lock()
				s.served++
				wait := s.clientFirst
				s.mu.Unlock()
				from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
				if _, err := fmt.Fprintf(conn, "%s %s\n", s.name, from); err != nil || !wait {
					return
				}
			}
		}()
	}
}

func (s *server) answer(packets net.PacketConn) {
	buffer := make([]byte, 64)
	for {
		_, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(from.String())
		_, _ = packets.WriteTo(fmt.Appendf(nil, "%s %s\n", s.name, host), from)
	}
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// ask makes one request from the namespace that the thread is in and returns
// the server's name and the address it saw.
func ask(network, address string) (name, from string, err error) {
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close() }()
	return talk(conn)
}

func talk(conn net.Conn) (name, from string, err error) {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", "", err
	}
	if _, err := fmt.Fprintln(conn, "who"); err != nil {
		return "", "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", "", err
	}
	name, from, _ = strings.Cut(strings.TrimSpace(line), " ")
	return name, from, nil
}

// expect asks until every wanted server has answered, and fails when another
// does or the client was seen under another address.
func (ns *namespace) expect(what, network, address, from string, servers ...string) {
	ns.t.Helper()
	ns.do(func() {
		missing := map[string]bool{}
		for _, s := range servers {
			missing[s] = true
		}
		for range 200 {
			name, seen, err := ask(network, address)
			if err != nil {
				ns.t.Errorf("%s: %v", what, err)
				return
			}
			if seen != from {
				ns.t.Errorf("%s: %s saw the client as %s, want %s", what, name, seen, from)
				return
			}
			known := false
			for _, s := range servers {
				known = known || s == name
			}
			if !known {
				ns.t.Errorf("%s: %s answered, want %v", what, name, servers)
				return
			}
			delete(missing, name)
			if len(missing) == 0 {
				return
			}
		}
		ns.t.Errorf("%s: never reached %v", what, missing)
	})
}

// refused asks, and expects an error of that kind, and at once: what is dropped is
// asked again after a second, each time, while a busy machine is slow now and then.
func (ns *namespace) refused(what, network, address string, want error) {
	ns.t.Helper()
	ns.do(func() {
		fastest := time.Hour
		for range 5 {
			began := time.Now()
			name, _, err := ask(network, address)
			if !errors.Is(err, want) {
				ns.t.Errorf("%s: %q, %v, want %v", what, name, err, want)
			}
			if fastest = min(fastest, time.Since(began)); fastest < 500*time.Millisecond {
				return
			}
		}
		ns.t.Errorf("%s: refused after %v, want at once", what, fastest)
	})
}

// clients runs n clients in the namespace; each makes its share of requests
// one after the other, with a connection for each. It returns who answered how
// often, and the errors.
func (ns *namespace) clients(ctx context.Context, n, requests int, address string) (answers map[string]int, errs []error) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	answers = map[string]int{}
	for range n {
		wait.Add(1)
		go func() {
			defer wait.Done()
			onThread(ns.t, func() {
				if err := netns.Set(ns.handle); err != nil {
					ns.t.Error(err)
					return
				}
				for range requests / n {
					if ctx.Err() != nil {
						return
					}
					name, _, err := ask("tcp4", address)
					mu.Lock()
					if answers[name]++; err != nil {
						errs = append(errs, err)
					}
					mu.Unlock()
				}
			})
		}()
	}
	wait.Wait()
	return answers, errs
}

func (ns *namespace) sysctl(name, value string) {
	ns.t.Helper()
	ns.do(func() { ns.must(os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0)) })
}

// repeated is how many TCP segments the namespace has sent again.
func (ns *namespace) repeated() (segments int64) {
	ns.t.Helper()
	ns.do(func() {
		counters, err := os.ReadFile("/proc/thread-self/net/snmp")
		ns.must(err)
		var names []string
		for line := range strings.Lines(string(counters)) {
			fields := strings.Fields(line)
			switch i := slices.Index(names, "RetransSegs"); {
			case fields[0] != "Tcp:":
			case i < 0:
				names = fields
			default:
				segments, err = strconv.ParseInt(fields[i], 10, 64)
				ns.must(err)
				return
			}
		}
		ns.t.Errorf("no count of repeated segments in %q", counters)
	})
	return segments
}
