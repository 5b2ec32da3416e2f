package network

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// The network namespace of a pod with users of its own belongs to a user namespace with
// these users, works as any other, and is the same one after a restart.
func TestOwnedNamespace(t *testing.T) {
	dir := t.TempDir()
	n := newNetwork(t, dir)
	pod, err := n.Setup(t.Context(), "pod-u", &agent.UserRange{First: 3 << 16, Size: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reached(pod); err != nil {
		t.Error(err)
	}
	owner := func() uint64 {
		ns, err := openNamespace(pod.NetNS)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	var node unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &node); err != nil {
		t.Fatal(err)
	}
	inode := owner()
	if inode == node.Ino {
		t.Error("the pod's network belongs to the node's users")
	}
	if _, err := n.Setup(t.Context(), "pod-u", &agent.UserRange{First: 3 << 16, Size: 1 << 16}); err != nil {
		t.Fatal(err)
	}
	if again := owner(); again != inode {
		t.Error("set up again, it belongs to another user namespace")
	}
	if err := n.Teardown(t.Context(), "pod-u"); err != nil {
		t.Fatal(err)
	}
}

func TestStartInNamespaces(t *testing.T) {
	if noNamespace != nil {
		t.Skip(noNamespace)
	}
	child, err := startInNamespaces(agent.UserRange{First: 4 << 16, Size: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"uid_map", "gid_map"} {
		ids, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", child.pid, kind))
		if got := strings.Join(strings.Fields(string(ids)), " "); err != nil || got != "0 262144 65536" {
			t.Errorf("%s is %q: %v", kind, got, err)
		}
	}
	child.end()
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", child.pid)); err == nil {
		t.Error("the process is still there")
	}
}
