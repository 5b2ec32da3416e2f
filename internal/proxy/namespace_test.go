package proxy

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// namespace is a network namespace made for one test, with loopback up and
// nothing else. It goes away with the test.
type namespace struct {
	t      testing.TB
	handle netns.NsHandle
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	ns := &namespace{t: t}
	onThread(t, func() {
		handle, err := netns.New()
		if err != nil {
			t.Skipf("needs a kernel that makes network namespaces: %v", err)
		}
		ns.handle = handle
	})
	t.Cleanup(func() { _ = ns.handle.Close() })
	ns.do(func() {
		lo, err := netlink.LinkByName("lo")
		ns.must(err)
		ns.must(netlink.LinkSetUp(lo))
	})
	return ns
}

// do runs f on a thread that is in the namespace. Sockets that f opens stay there.
func (ns *namespace) do(f func()) {
	ns.t.Helper()
	onThread(ns.t, func() {
		if err := netns.Set(ns.handle); err != nil {
			ns.t.Errorf("enter namespace: %v", err)
			return
		}
		f()
	})
}

func (ns *namespace) must(err error) {
	ns.t.Helper()
	if err != nil {
		ns.t.Errorf("in namespace: %v", err)
	}
}

// onThread runs f on a thread of its own, which ends with it: whatever
// namespace f entered, nobody else ever runs there.
func onThread(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
	if t.Failed() {
		t.FailNow()
	}
}

// kernels are the implementations that every test of the edge runs on.
func kernels(t *testing.T) map[string]func(testing.TB) Kernel {
	return map[string]func(testing.TB) Kernel{
		"memory": func(testing.TB) Kernel { return NewMemory() },
		"kernel": func(t testing.TB) Kernel { return realKernel(t, newNamespace(t)) },
	}
}

func realKernel(t testing.TB, ns *namespace) *Netlink {
	t.Helper()
	kernel, err := NewNetlink(int(ns.handle))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kernel.Close() })
	if _, err := kernel.Generation(); err != nil {
		t.Skipf("needs a kernel with nftables: %v", err)
	}
	return kernel
}
