package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/test/harness"
)

// reboot does to a node what a restart of its machine does: every process, mount,
// network namespace and control group ends, the boot has another ID, and the
// server finds its data directory, in another network namespace, and nothing else.
func reboot(t *testing.T, c *harness.Cluster, namespace string) {
	t.Helper()
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range conmons(t, c) {
		end(t, pid)
	}
	groups := controlGroups(t, c)
	for _, group := range groups {
		eventually(t, time.Minute, func() string {
			data, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			for _, field := range strings.Fields(string(data)) {
				pid, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				end(t, pid)
			}
			return strings.TrimSpace(string(data))
		})
	}
	unmountAll(t, c.Dir)
	for i := len(groups) - 1; i >= 0; i-- { // what is below comes later in the list
		eventually(t, time.Minute, func() string {
			if err := unix.Rmdir(groups[i]); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err.Error()
			}
			return ""
		})
	}
	boot := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(boot, []byte("11111111-2222-3333-4444-555555555555\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Wrap = []string{"nsenter", "--net=" + namespace,
		"unshare", "--mount", "sh", "-c", `mount --bind ` + boot + ` /proc/sys/kernel/random/boot_id && exec "$@"`, "sh"}
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
}

// field is what a pod's jsonpath says.
func field(t *testing.T, c *harness.Cluster, pod, path string) string {
	t.Helper()
	return kubectl(t, c, "get", "pod", pod, "-o", "jsonpath="+path)
}

// becomes waits until a field of a pod matches.
func becomes(t *testing.T, c *harness.Cluster, pod, path, pattern string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		if got := field(t, c, pod, path); !regexp.MustCompile(pattern).MatchString(got) {
			return fmt.Sprintf("pod %s has %s %q, want %s", pod, path, got, pattern)
		}
		return ""
	})
}

// busyboxCluster is a cluster of the test's own that has busybox:1.
func busyboxCluster(t *testing.T) *harness.Cluster {
	t.Helper()
	c := ownCluster(t)
	if err := c.LoadImages(within(t, time.Minute), harness.Busybox("busybox:1")); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReboot: after a restart of the machine pods start again as their policies
// say, under their names and addresses, with what they had on disk.
func TestReboot(t *testing.T) {
	next := newNamespace(t) // before the cluster, to outlast it
	c := busyboxCluster(t)
	apply(t, c, `apiVersion: v1
kind: Pod
metadata: {name: always}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: init, image: busybox:1, args: [-c, 'busybox echo init >> /disk/starts; busybox touch /memory/seed'],
     volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]}
  containers:
  - {name: c, image: busybox:1, args: [-c, 'busybox echo main >> /disk/starts; test -e /memory/seed || exit 1; test -e /memory/file && exit 1; busybox touch /memory/file; exec busybox sleep 3600'],
     volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]}
  volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory}}]
---
apiVersion: v1
kind: Pod
metadata: {name: on-failure}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: busybox:1, args: [-c, 'exec busybox sleep 3600']}]
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  restartPolicy: Never
  containers: [{name: c, image: busybox:1, args: [-c, 'exec busybox sleep 3600']}]
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: c, image: busybox:1, args: [-c, 'echo done']}]
`)
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/always", "pod/on-failure", "pod/never", "--timeout=120s")
	becomes(t, c, "done", "{.status.phase}", "^Succeeded$")
	const identity = "{.metadata.uid} {.status.podIP}"
	before := map[string]string{}
	for _, pod := range []string{"always", "on-failure"} {
		before[pod] = field(t, c, pod, identity)
	}

	reboot(t, c, next)
	for pod, was := range before {
		becomes(t, c, pod, `{.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type=="Ready")].status}`, "^1 True$")
		if is := field(t, c, pod, identity); is != was {
			t.Errorf("pod %s is %s, was %s", pod, is, was)
		}
	}
	if got := kubectl(t, c, "exec", "always", "-c", "c", "--", "busybox", "cat", "/disk/starts"); got != "init\nmain\ninit\nmain\n" {
		t.Errorf("containers were started as\n%s", got)
	}
	becomes(t, c, "never", "{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}", "^Failed 255$")
	becomes(t, c, "done", "{.status.phase}", "^Succeeded$")
	if got := kubectl(t, c, "logs", "done"); got != "done\n" {
		t.Errorf("the log of a pod that had finished is %q", got)
	}
	kubectl(t, c, "delete", "pod", "--all", "--timeout=120s")
}

// TestEndsWhileDown: what ends while no server runs has its exit code, and what
// goes on has a log without a gap or a line twice. Who is connected to a container
// hears that the server has gone, and what they ran there ends.
func TestEndsWhileDown(t *testing.T) {
	for name, stop := range map[string]func(*harness.Cluster) error{"SIGKILL": (*harness.Cluster).Kill, "SIGTERM": (*harness.Cluster).Stop} {
		t.Run(name, func(t *testing.T) { endsWhileDown(t, stop, name == "SIGKILL") })
	}
}

func endsWhileDown(t *testing.T, stop func(*harness.Cluster) error, killed bool) {
	c, shared := busyboxCluster(t), t.TempDir()
	apply(t, c, fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: busybox:1, args: [-c, 'until test -e /shared/end; do busybox sleep 0.1; done; exit 7'], volumeMounts: [{name: shared, mountPath: /shared}]}
  volumes: [{name: shared, hostPath: {path: %s}}]
---
apiVersion: v1
kind: Pod
metadata: {name: counts}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: busybox:1, args: [-c, 'i=0; while :; do echo $i; i=$((i+1)); busybox sleep 0.02; done']}
`, shared))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
	logs, err := filepath.Glob(filepath.Join(c.Dir, "logs", "pods", "*_counts_*", "c", "0.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	longer := func(by int64) {
		t.Helper()
		size := func() int64 {
			info, err := os.Stat(logs[0])
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		from := size()
		eventually(t, time.Minute, func() string {
			if grown := size() - from; grown < by {
				return fmt.Sprintf("the log grew by %d bytes", grown)
			}
			return ""
		})
	}
	longer(1000)
	command := fmt.Sprintf("busybox sleep 4%d", os.Getpid())
	streams := openStreams(t, c, "counts", command)
	if err := stop(c); err != nil {
		t.Fatal(err)
	}
	allEnd(t, streams, killed)
	running := len(conmons(t, c))
	if err := os.WriteFile(filepath.Join(shared, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string {
		if now := len(conmons(t, c)); now >= running {
			return fmt.Sprintf("%d containers run", now)
		}
		return ""
	})
	ended := time.Now()
	longer(1000)
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string {
		left, err := filepath.Glob(filepath.Join(c.Dir, "run", "exec-*"))
		if n := processes(t, command); err != nil || n > 0 || len(left) > 0 {
			return fmt.Sprintf("%d commands of clients that have gone run, with %v: %v", n, left, err)
		}
		return ""
	})
	openStreams(t, c, "counts", command)
	becomes(t, c, "ends", "{.status.phase} {.status.containerStatuses[0].state.terminated.exitCode}", "^Failed 7$")
	at, err := time.Parse(time.RFC3339, field(t, c, "ends", "{.status.containerStatuses[0].state.terminated.finishedAt}"))
	if err != nil || at.After(ended) {
		t.Errorf("it finished at %s (%v), want no later than %s", at, err, ended)
	}
	longer(1000)
	for i, line := range lines(kubectl(t, c, "logs", "counts")) {
		if line != strconv.Itoa(i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
	if restarts := field(t, c, "counts", "{.status.containerStatuses[0].restartCount}"); restarts != "0" {
		t.Errorf("%s restarts", restarts)
	}
	kubectl(t, c, "delete", "pod", "--all", "--timeout=120s")
}

// TestStubbornPods: a preStop hook that hangs and a process that does not mind
// SIGTERM end with their grace periods, and leave no process.
func TestStubbornPods(t *testing.T) {
	c := busyboxCluster(t)
	apply(t, c, `apiVersion: v1
kind: Pod
metadata: {name: hangs}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: c, image: busybox:1, args: [-c, 'trap "exit 0" TERM; while :; do busybox sleep 0.1; done'],
     lifecycle: {preStop: {exec: {command: [busybox, sleep, '3600']}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: c, image: busybox:1, args: [-c, 'trap "" TERM HUP INT; while :; do busybox sleep 0.1; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: bystander}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: c, image: busybox:1, args: [-c, 'exec busybox sleep 3600']}
`)
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
	bystander := field(t, c, "bystander", "{.status.containerStatuses[0]}")
	kubectl(t, c, "delete", "pod", "hangs", "deaf", "--timeout=120s")
	if n := len(conmons(t, c)); n != 1 {
		t.Errorf("%d containers are left, want 1", n)
	}
	if is := field(t, c, "bystander", "{.status.containerStatuses[0]}"); is != bystander {
		t.Errorf("the pod beside them was\n%s\nis\n%s", bystander, is)
	}
}
