package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// ownedNamespace makes a network namespace that belongs to a user namespace with users,
// for as long as the test runs, and returns its path.
func ownedNamespace(t *testing.T, users agent.UserRange) string {
	t.Helper()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(users.First), Size: int(users.Size)}}
	cmd := exec.Command(busybox, "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
	if err := cmd.Start(); err != nil {
		t.Skip("no user namespaces here: ", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// A container with users of its own is root to itself only: what it sees of the node's
// files and of its image belongs to its users, what it writes to none of the node's,
// and it shares with those of its pod what it would otherwise.
func TestUsers(t *testing.T) {
	m := newMachine(t)
	m.run()
	users := agent.UserRange{First: 7 << 16, Size: 1 << 16}
	net := ownedNamespace(t, users)
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "theirs"), []byte("read\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(volume, "theirs"), 33, 44); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("one file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := m.spec(`B=/bin/busybox; $B cat /proc/self/uid_map /file; $B stat -c '%n %u:%g' /bin/busybox /data /data/theirs /file; $B id -u
$B touch /data/mine /root-owned && $B chown 5:6 /data/mine
$B ip link set lo up && ($B nc -l -p 80 -s 127.0.0.1 & echo port $!)
echo > /dev/null && echo devices
echo 1 > /proc/sys/kernel/panic || echo no kernel
echo ready; exec $B sleep 1000`)
	spec.NetNS, spec.Users, spec.IPC = net, &users, agent.ScopePod
	spec.Security.AddCapabilities = []string{"NET_ADMIN"}
	spec.Mounts = []agent.Mount{{Source: volume, Destination: "/data"}, {Source: file, Destination: "/file", ReadOnly: true}}
	m.start(spec)
	waitFor(t, "its output", func() bool { return strings.Contains(logText(t, spec.LogPath), "ready") })
	log := logText(t, spec.LogPath)
	for _, want := range []string{"458752      65536\n", "one file\n", "/bin/busybox 0:0\n", "/data 0:0\n", "/data/theirs 33:44\n", "/file 0:0\n", "\n0\n", "port ", "devices\n", "no kernel\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in its output:\n%s", want, log)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(volume, "mine"), &st); err != nil || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("what it gave to 5:6 in its volume belongs to %d:%d: %v", st.Uid, st.Gid, err)
	}
	if err := unix.Stat(filepath.Join(m.containerDir(spec.ID), "upper", "root-owned"), &st); err != nil || st.Uid != users.First {
		t.Errorf("what it wrote into its root belongs to %d: %v", st.Uid, err)
	}

	// Another of its pod is in the same user and IPC namespace, also after a restart of the server.
	namespace := func(id, kind string) string {
		c := m.find(id)
		defer c.mu.Unlock()
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", c.rec.Pid, kind))
		return link
	}
	m.reopen()
	m.run()
	other := m.spec("exec /bin/busybox sleep 1000")
	other.PodUID, other.NetNS, other.Users, other.IPC, other.PID = spec.PodUID, net, &users, agent.ScopePod, agent.ScopePod
	m.start(other)
	for _, kind := range []string{"user", "ipc", "net"} {
		if a, b := namespace(spec.ID, kind), namespace(other.ID, kind); a == "" || a != b {
			t.Errorf("%s namespaces %q and %q", kind, a, b)
		}
	}
	code, out, err := m.Exec(t.Context(), other.ID, []string{"/bin/busybox", "id", "-u"})
	if err != nil || code != 0 || string(out) != "0\n" {
		t.Errorf("a command in it: %d %q %v", code, out, err)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, place := range []string{m.openPlace(spec.ID), filepath.Join(m.containerDir(spec.ID), mappedDir)} {
		if strings.Contains(string(mounts), place+" ") || strings.Contains(string(mounts), place+"/") {
			t.Errorf("still mounted on the node: %s", place)
		}
	}
	// What cannot be mounted with other users is refused, and leaves nothing.
	bad := m.spec("true")
	bad.NetNS, bad.Users, bad.Mounts = net, &users, []agent.Mount{{Source: "/proc", Destination: "/host"}}
	if _, err := m.Start(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "cannot mount it so for `hostUsers: false`") {
		t.Errorf("a volume of /proc: %v", err)
	}
	m.nothingLeft(bad.ID)
	for _, id := range []string{spec.ID, other.ID} {
		if err := m.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	m.nothingLeft(spec.ID)
	m.Tidy()
	if exists(filepath.Dir(m.openPlace("x"))) {
		t.Error("left: ", filepath.Dir(m.openPlace("x")))
	}
}
