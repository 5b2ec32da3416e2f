package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// reached tells how long the node takes to hear from a pod: that nobody listens
// there is an answer too.
func reached(pod agent.PodNetwork) (time.Duration, error) {
	begin := time.Now()
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(pod.IP, 9).String(), 5*time.Second)
	if err == nil {
		return 0, conn.Close()
	}
	if !strings.Contains(err.Error(), "refused") {
		return 0, err
	}
	return time.Since(begin), nil
}

// TestFirstPacketPasses: when Setup returns the links work; a packet dropped
// would cost its sender a second.
func TestFirstPacketPasses(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	for i := range 20 {
		uid := fmt.Sprintf("pod-%d", i)
		pod, err := n.Setup(t.Context(), uid, nil)
		if err != nil {
			t.Fatal(err)
		}
		if took, err := reached(pod); err != nil || took > 500*time.Millisecond {
			t.Errorf("%s is reached after %v, %v", uid, took, err)
		}
		if err := n.Teardown(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyAtOnce: pods that come and go at the same time have addresses of their
// own, and leave nothing.
func TestManyAtOnce(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	pods := make([]agent.PodNetwork, 24)
	var group sync.WaitGroup
	for i := range pods {
		group.Go(func() {
			pod, err := n.Setup(t.Context(), fmt.Sprintf("pod-%d", i), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := reached(pod); err != nil {
				t.Error(err)
			}
			if _, err := n.Sockets(t.Context(), pod.PodUID); err != nil {
				t.Error(err)
			}
			pods[i] = pod
		})
	}
	group.Wait()
	seen := map[netip.Addr]bool{}
	for _, pod := range pods {
		if seen[pod.IP] {
			t.Errorf("two pods have %s", pod.IP)
		}
		seen[pod.IP] = true
		group.Go(func() {
			if err := n.Teardown(context.Background(), pod.PodUID); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if left, err := os.ReadDir(namespaceDir(n.cfg.DataDir)); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestSetupMendsLinks: whatever became of the pod's links, Setup brings them back
// with the same address.
func TestSetupMendsLinks(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	first := setup(t, n, "pod-a")
	inside := func(do func() error) {
		t.Helper()
		ns, err := openNamespace(first.NetNS)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if err := inNamespace(enter(ns), do); err != nil {
			t.Fatal(err)
		}
	}
	for what, harm := range map[string]func(){
		"nothing": func() {},
		"the pair is gone": func() {
			if err := removeLink(linkName("pod-a")); err != nil {
				t.Fatal(err)
			}
		},
		"the node's end is in a namespace that the server has left": func() {
			link, err := netlink.LinkByName(linkName("pod-a"))
			if err != nil {
				t.Fatal(err)
			}
			other := filepath.Join(t.TempDir(), "other")
			if err := makeNamespace(other); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := removeNamespace(other); err != nil {
					t.Error(err)
				}
			})
			ns, err := openNamespace(other)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if err := netlink.LinkSetNsFd(link, int(ns.Fd())); err != nil {
				t.Fatal(err)
			}
		},
		"the node's end is down and off the bridge": func() {
			link, err := netlink.LinkByName(linkName("pod-a"))
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkSetDown(link); err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkSetNoMaster(link); err != nil {
				t.Fatal(err)
			}
		},
		"the pod's end is down": func() {
			inside(func() error {
				eth, err := netlink.LinkByName(podInterface)
				if err != nil {
					return err
				}
				return netlink.LinkSetDown(eth)
			})
		},
		"the bridge is gone": func() {
			if err := removeLink("windlass0"); err != nil {
				t.Fatal(err)
			}
			if err := n.EnsureHost(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			harm()
			again, err := n.Setup(t.Context(), "pod-a", nil)
			if err != nil || again != first {
				t.Fatalf("%+v, %v; was %+v", again, err, first)
			}
			if _, err := reached(again); err != nil {
				t.Error(err)
			}
			if _, err := n.Sockets(t.Context(), "pod-a"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPodSettings: a pod may use low ports without privileges, takes no advice
// about routes, and sees its address and nothing else.
func TestPodSettings(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	pod := setup(t, n, "pod-a")
	out, err := exec.Command("nsenter", "--net="+pod.NetNS, "sh", "-c",
		"cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/conf/eth0/accept_redirects; ip -o addr show scope global | wc -l; ip -o route show default").CombinedOutput()
	if want := "0\n0\n1\ndefault via 10.42.0.1 dev eth0 \n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

// TestOldMountNamespaceIsReleased: a namespace that is still mounted in the mount
// namespace of a server before this one goes with the pod.
func TestOldMountNamespaceIsReleased(t *testing.T) {
	dir := t.TempDir()
	n := newNetwork(t, dir)
	pod := setup(t, n, "pod-a")
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sleep", "60")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	mounts := func() int {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", holder.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(data), pod.NetNS)
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", holder.Process.Pid))
		if err == nil && theirs == own {
			err = fmt.Errorf("it has no mount namespace of its own yet")
		}
		return err
	})
	if mounts() != 1 {
		t.Fatalf("mounted %d times there", mounts())
	}
	if err := unix.Unmount(pod.NetNS, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := n.Teardown(t.Context(), "pod-a"); err != nil {
		t.Fatal(err)
	}
	if mounts() != 0 {
		t.Error("the namespace is still mounted there")
	}
}

func TestBadPodUID(t *testing.T) {
	n := newNetwork(t, t.TempDir())
	for _, uid := range []string{"", "..", "../x", "a/b"} {
		if _, err := n.Setup(t.Context(), uid, nil); err == nil {
			t.Errorf("pod uid %q was taken", uid)
		}
	}
}
