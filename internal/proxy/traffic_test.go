package proxy

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"windlass.dev/windlass/api/v1alpha1"
)

const web = `
	service web type=LoadBalancer ip=10.43.0.10 port=80:30080 port=dns:53/udp:30053 lb=192.168.1.2 external=192.0.2.7
	slice web/a port=8080 port=dns:8080/udp
`

// TestTraffic sends real packets to every kind of address from everywhere,
// with frames on the bridge going through the IP hooks or not: both are found
// on machines, and other software needs it the way it is.
func TestTraffic(t *testing.T) {
	for _, bridged := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+bridged, func(t *testing.T) {
			top := newTopology(t)
			if !top.bridged(bridged) {
				t.Skip("needs br_netfilter in the kernel")
			}
			testTraffic(t, top)
		})
	}
}

func testTraffic(t *testing.T, top *topology) {
	one, two := top.pod("10.42.0.5"), top.pod("10.42.0.6")
	one.serve("one", ":8080")
	two.serve("two", ":8080")
	client := top.pod("10.42.0.9")
	top.set(web + "10.42.0.5\n10.42.0.6")

	for _, network := range []string{"tcp4", "udp4"} {
		port, nodePort := "80", "30080"
		if network == "udp4" {
			port, nodePort = "53", "30053"
		}
		t.Run(network, func(t *testing.T) {
			top.node.expect("node to cluster IP", network, "10.43.0.10:"+port, "10.42.0.1", "one", "two")
			top.node.expect("node to 127.0.0.1", network, "127.0.0.1:"+nodePort, "10.42.0.1", "one", "two")
			top.node.expect("node to its own address", network, nodeAddress+":"+nodePort, nodeAddress, "one", "two")
			top.node.expect("node to load balancer", network, nodeAddress+":"+port, nodeAddress, "one", "two")
			top.node.expect("node to external IP", network, "192.0.2.7:"+port, nodeAddress, "one", "two")
			client.expect("pod to cluster IP", network, "10.43.0.10:"+port, "10.42.0.9", "one", "two")
			client.expect("pod to node port", network, nodeAddress+":"+nodePort, "10.42.0.9", "one", "two")
			client.expect("pod to load balancer", network, nodeAddress+":"+port, "10.42.0.9", "one", "two")
			top.outside.expect("outside to node port", network, nodeAddress+":"+nodePort, outsideAddress, "one", "two")
			top.outside.expect("outside to load balancer", network, nodeAddress+":"+port, outsideAddress, "one", "two")
			top.outside.expect("outside to cluster IP", network, "10.43.0.10:"+port, outsideAddress, "one", "two")
		})
	}

	top.set(web + "10.42.0.5")
	one.expect("pod to itself by cluster IP", "tcp4", "10.43.0.10:80", "10.42.0.1", "one")
	one.expect("pod to itself by node port", "tcp4", nodeAddress+":30080", "10.42.0.1", "one")
	one.expect("pod to itself by datagram", "udp4", "10.43.0.10:53", "10.42.0.1", "one")
	client.expect("only the ready one", "tcp4", "10.43.0.10:80", "10.42.0.9", "one")
}

// TestPodToOutside: pods' packets leave under the node's address, and pods
// reach each other under their own.
func TestPodToOutside(t *testing.T) {
	top := newTopology(t)
	pod, other := top.pod("10.42.0.5"), top.pod("10.42.0.6")
	other.serve("other", ":8080")
	top.outside.serve("world", ":8080")
	top.set("")
	pod.expect("pod to the world", "tcp4", outsideAddress+":8080", nodeAddress, "world")
	pod.expect("pod to pod", "tcp4", "10.42.0.6:8080", "10.42.0.5", "other")
	top.node.expect("node to pod", "tcp4", "10.42.0.6:8080", "10.42.0.1", "other")
}

// TestSourceRanges: a load balancer's address answers only whom it may.
func TestSourceRanges(t *testing.T) {
	top := newTopology(t)
	top.pod("10.42.0.5").serve("one", ":8080")
	for _, allowed := range []string{outsideAddress + "/32", "192.0.2.0/24"} {
		top.set("service web type=LoadBalancer ip=10.43.0.10 port=80:30080 lb=192.168.1.2 from=" + allowed + "\nslice web/a port=8080\n10.42.0.5")
		top.outside.expect("node port from "+allowed, "tcp4", nodeAddress+":30080", outsideAddress, "one")
		if strings.HasPrefix(allowed, outsideAddress) {
			top.outside.expect("load balancer from "+allowed, "tcp4", nodeAddress+":80", outsideAddress, "one")
			continue
		}
		top.outside.do(func() {
			conn, err := net.DialTimeout("tcp4", nodeAddress+":80", 200*time.Millisecond)
			if err == nil {
				_ = conn.Close()
				t.Errorf("load balancer for %s only answered %s", allowed, outsideAddress)
			}
		})
	}
}

// TestRefused: a Service that nobody serves, and an address that no Service
// has, refuse at once, wherever the packet comes from, and nothing for the
// service range leaves the machine.
func TestRefused(t *testing.T) {
	t.Run("with the route to the bridge", func(t *testing.T) { testRefused(t, newTopology(t)) })
	t.Run("with a default route only", func(t *testing.T) {
		top := newTopology(t)
		top.node.do(func() {
			_, services, err := net.ParseCIDR(testNode.ServiceRange.String())
			top.node.must(err)
			top.node.must(netlink.RouteDel(&netlink.Route{Dst: services, Scope: netlink.SCOPE_LINK}))
		})
		testRefused(t, top)
	})
}

func testRefused(t *testing.T, top *topology) {
	top.node.sysctl("icmp_ratelimit", "0") // the kernel refuses datagrams of one sender only so often
	defer top.nothingLeaves()()
	pod := top.pod("10.42.0.5")
	top.node.serve("an own process on the load balancer's port", nodeAddress+":80")
	top.set(web + "10.42.0.5 unready")
	for _, network := range []string{"tcp4", "udp4"} {
		port, nodePort := "80", "30080"
		if network == "udp4" {
			port, nodePort = "53", "30053"
		}
		for name, from := range map[string]*namespace{"node": top.node, "pod": pod, "outside": top.outside} {
			what := func(to string) string { return fmt.Sprintf("%s, %s to %s", network, name, to) }
			want := syscall.ECONNREFUSED
			if network == "udp4" && from == top.node {
				want = syscall.EPERM // how the kernel tells a process of this machine
			}
			from.refused(what("cluster IP"), network, "10.43.0.10:"+port, want)
			from.refused(what("no port of the Service"), network, "10.43.0.10:81", want)
			from.refused(what("no Service"), network, "10.43.77.77:80", want)
			from.refused(what("node port"), network, nodeAddress+":"+nodePort, want)
			from.refused(what("load balancer"), network, nodeAddress+":"+port, want)
			if from == top.node {
				from.refused(what("127.0.0.1"), network, "127.0.0.1:"+nodePort, want)
			}
		}
	}
}

// nothingLeaves counts what arrives outside for the service range; the
// function that it returns expects none.
func (top *topology) nothingLeaves() func() {
	if _, err := exec.LookPath("nft"); err != nil {
		top.t.Log("cannot see what leaves without the nft command")
		return func() {}
	}
	for _, line := range []string{
		"add table ip watch", "add counter ip watch leaked", "add counter ip watch total",
		"add chain ip watch in { type filter hook prerouting priority -300; }",
		"add rule ip watch in ip daddr " + testNode.ServiceRange.String() + " counter name leaked",
		"add rule ip watch in counter name total",
	} {
		nft(top.t, top.outside, line)
	}
	return func() {
		top.outside.do(func() {
			out, err := exec.Command("nft", "list", "counters", "table", "ip", "watch").CombinedOutput()
			top.outside.must(err)
			leaked, total, _ := strings.Cut(string(out), "counter total")
			if !strings.Contains(leaked, "packets 0 ") || strings.Contains(total, "packets 0 ") {
				top.t.Errorf("want none of some packets leaked:\n%s", out)
			}
		})
	}
}

// TestAffinity: a client stays with its endpoint, across other changes too, and
// gets another when that goes.
func TestAffinity(t *testing.T) {
	top := newTopology(t)
	for i, address := range []string{"10.42.0.5", "10.42.0.6", "10.42.0.7"} {
		top.pod(address).serve(fmt.Sprint("s", i), ":8080")
	}
	client := top.pod("10.42.0.9")
	objects := "service web ip=10.43.0.10 port=80 affinity=60\nslice web/a port=8080\n"
	top.set(objects + "10.42.0.5\n10.42.0.6")
	var first string
	client.do(func() { first, _, _ = ask("tcp4", "10.43.0.10:80") })
	for range 3 {
		client.expect("the same again", "tcp4", "10.43.0.10:80", "10.42.0.9", first)
	}
	top.set(objects + "10.42.0.5\n10.42.0.6\n10.42.0.7")
	for range 10 {
		client.expect("the same after one more came", "tcp4", "10.43.0.10:80", "10.42.0.9", first)
	}
	gone := map[string]string{"s0": "10.42.0.6\n10.42.0.7", "s1": "10.42.0.5\n10.42.0.7"}[first]
	others := map[string][]string{"s0": {"s1", "s2"}, "s1": {"s0", "s2"}}[first]
	top.set(objects + gone)
	var second string
	client.do(func() { second, _, _ = ask("tcp4", "10.43.0.10:80") })
	if second != others[0] && second != others[1] {
		t.Errorf("%s answered after %s was gone", second, first)
	}
}

// TestConnectionForEachRequest is the load of an acceptance test: 16 clients
// that open a connection for every request, by a node port on 127.0.0.1, so
// that ports come around again, while endpoints come and go. The servers stay
// up: every request must be answered.
func TestConnectionForEachRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("sends tens of thousands of requests")
	}
	for _, clientFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("client closes first %v", clientFirst), func(t *testing.T) {
			top := newTopology(t)
			endpoints := []string{"10.42.0.5", "10.42.0.6", "10.42.0.7", "10.42.0.8"}
			var servers []*server
			var pods []*namespace
			for i, address := range endpoints {
				pod := top.pod(address)
				s := pod.serve(fmt.Sprint("s", i), ":8080")
				s.clientFirst = clientFirst
				servers, pods = append(servers, s), append(pods, pod)
			}
			// Few ports: each comes around again many times.
			top.node.sysctl("ip_local_port_range", "40000 44000")
			all := web + endpoints[0] + "\n" + endpoints[1] + "\n" + endpoints[2] + "\n" + endpoints[3]
			top.set(all)

			const requests = 12000
			ctx, cancel := context.WithCancel(t.Context())
			switched := make(chan int)
			go func() { switched <- top.rotate(ctx, endpoints) }()
			answers, errs := top.node.clients(ctx, 16, requests, "127.0.0.1:30080")
			cancel()
			n := <-switched
			for i, err := range errs {
				if i == 10 {
					t.Errorf("and %d more", len(errs)-10)
					break
				}
				t.Error(err)
			}
			total := 0
			for _, s := range servers {
				total += s.count()
			}
			if total != requests || n < 10 {
				t.Errorf("%d requests answered over %d switches, want %d over 10 or more: %v", total, n, requests, answers)
			}
			counted := v1alpha1.TrafficCount{}
			for path, count := range mustCount(t, realKernel(t, top.node)) {
				if !slices.Contains(endpoints, path.Endpoint.Addr().String()) {
					t.Errorf("%v was counted: %+v", path, count)
				}
				counted = plus(counted, count)
			}
			// A machine that is slow to confirm makes a server repeat the end of a connection; the second confirmation comes
			// when the server has forgotten it, and is answered with a reset after all was said.
			late := top.node.repeated()
			for _, pod := range pods {
				late += pod.repeated()
			}
			if want := (v1alpha1.TrafficCount{Connections: requests, Reset: min(counted.Reset, late)}); counted != want {
				t.Errorf("counted %+v, want %+v (%d segments were repeated)", counted, want, late)
			}
			t.Logf("%d requests over %d switches: %v", total, n, answers)
		})
	}
}

// rotate takes one endpoint after the other out of the rules and in again,
// until ctx ends, and returns how often.
func (top *topology) rotate(ctx context.Context, endpoints []string) (switches int) {
	for ctx.Err() == nil {
		objects := web
		for i, address := range endpoints {
			if i == switches%len(endpoints) {
				address += " terminating serving unready"
			}
			objects += address + "\n"
		}
		if err := top.table.Set(Compile(parseState(top.t, objects))); err != nil {
			top.t.Error(err)
			return switches
		}
		switches++
	}
	return switches
}
