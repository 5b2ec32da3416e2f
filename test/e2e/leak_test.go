package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/test/harness"
)

// traces lists what a node has of its pods, each as "kind name": mounts, network
// namespaces, links, control groups, rules, conmon's processes, files.
func traces(t *testing.T, c *harness.Cluster) []string {
	t.Helper()
	var found []string
	add := func(kind, name string) { found = append(found, kind+" "+name) }
	for _, mount := range mountsBelow(t, c.Dir) {
		add("mount", mount)
	}
	for _, link := range lines(inside(t, c, "ip", "-o", "link", "show", "type", "veth")) {
		add("veth", link)
	}
	for _, rule := range lines(counted.ReplaceAllString(inside(t, c, "nft", "list", "ruleset"), "")) {
		add("rule", strings.TrimSpace(rule))
	}
	for _, group := range controlGroups(t, c) {
		add("cgroup", group)
	}
	for _, pid := range conmons(t, c) {
		add("conmon", strconv.Itoa(pid))
	}
	err := filepath.WalkDir(c.Dir, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(c.Dir, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case name == "etcd": // it has the cluster's state, of no fixed number of files
			return fs.SkipDir
		}
		add("file", name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"mount", "veth", "rule", "cgroup", "conmon", "file"} {
		if !slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, kind+" ") }) {
			t.Fatalf("no %s is found of a pod that runs: this test would see nothing", kind)
		}
	}
	return found
}

// counted are the parts of a ruleset that change with traffic.
var counted = regexp.MustCompile(` (packets|bytes) \d+`)

func inside(t *testing.T, c *harness.Cluster, command ...string) string {
	t.Helper()
	out, err := c.Run(within(t, time.Minute), command...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mountsBelow lists this mount namespace's mounts below a directory, the last first.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var mounts []string
	for _, line := range lines(string(table)) {
		if target := strings.Fields(line)[4]; strings.HasPrefix(target, dir+"/") {
			mounts = append(mounts, target)
		}
	}
	slices.Reverse(mounts)
	return mounts
}

// conmons lists the processes of conmon that hold the containers of a data directory.
func conmons(t *testing.T, c *harness.Cluster) []int {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range processes {
		line, err := os.ReadFile(file) // it may have ended
		if err == nil && bytes.Contains(line, []byte("conmon\x00")) && bytes.Contains(line, []byte(c.Dir+"/")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// controlGroups lists the directories of a data directory's control groups.
func controlGroups(t *testing.T, c *harness.Cluster) []string {
	t.Helper()
	sum := sha256.Sum256([]byte(c.Dir)) // as internal/oci names them
	name := hex.EncodeToString(sum[:6])
	var groups []string
	for _, pattern := range []string{"/sys/fs/cgroup/windlass/", "/sys/fs/cgroup/*/windlass/"} {
		roots, err := filepath.Glob(pattern + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range roots {
			err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err == nil && entry.IsDir() {
					groups = append(groups, path)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return groups
}

// litter are n pods of every sort that leaves something on a node, and what they need.
func litter(n int) string {
	const sorts = 5
	var text strings.Builder
	text.WriteString(litterNeeds)
	for i := range n {
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: litter-%d, labels: {app: litter}}\nspec:\n  terminationGracePeriodSeconds: 1\n", i)
		text.WriteString([sorts]string{litterVolumes, litterEnds, litterSidecar, litterShared, litterCrash}[i%sorts])
	}
	return text.String()
}

const (
	litterNeeds = `apiVersion: v1
kind: ConfigMap
metadata: {name: litter}
data: {key: value}
---
apiVersion: v1
kind: Secret
metadata: {name: litter}
stringData: {key: value}
---
apiVersion: v1
kind: Service
metadata: {name: litter}
spec: {selector: {app: litter}, ports: [{port: 80}]}
`
	litterStays   = `args: [-c, 'busybox sleep 3600 & trap "exit 0" TERM; wait']`
	litterVolumes = `
  containers:
  - {name: c, image: busybox:1, ` + litterStays + `, volumeMounts: [
    {name: config, mountPath: /config}, {name: config, mountPath: /part, subPath: key}, {name: secret, mountPath: /secret},
    {name: memory, mountPath: /memory}, {name: memory, mountPath: /below, subPath: below}, {name: disk, mountPath: /disk}]}
  volumes:
  - {name: config, configMap: {name: litter}}
  - {name: secret, secret: {secretName: litter}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: disk, emptyDir: {}}
`
	litterEnds = `
  restartPolicy: Never
  containers:
  - {name: c, image: busybox:1, args: [-c, 'echo done']}
`
	litterSidecar = `
  initContainers:
  - {name: init, image: busybox:1, args: [-c, 'true']}
  - {name: side, image: busybox:1, restartPolicy: Always, ` + litterStays + `}
  containers:
  - {name: c, image: busybox:1, ` + litterStays + `}
`
	litterShared = `
  shareProcessNamespace: true
  containers:
  - {name: c, image: busybox:1, ` + litterStays + `}
  - {name: d, image: busybox:1, resources: {requests: {cpu: 1m}}, ` + litterStays + `}
`
	litterCrash = `
  containers:
  - {name: c, image: busybox:1, args: [-c, 'exit 3']}
  - {name: d, image: busybox:1, command: [/nowhere]}
`
)

// leakCluster is a cluster with one pod that runs, and what the node has then.
func leakCluster(t *testing.T) (c *harness.Cluster, before []string) {
	c = ownCluster(t)
	if err := c.LoadImages(within(t, time.Minute), harness.Busybox("busybox:1")); err != nil {
		t.Fatal(err)
	}
	apply(t, c, litter(5))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/litter-0", "pod/litter-2", "pod/litter-3", "--timeout=120s")
	kubectl(t, c, "delete", "pod", "--all", "--timeout=120s") // what is made once is there now
	apply(t, c, litter(1))
	kubectl(t, c, "label", "pod/litter-0", "app=stays", "--overwrite")
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/litter-0", "--timeout=120s")
	return c, traces(t, c)
}

// noMore waits until the node has nothing that it did not have before.
func noMore(t *testing.T, c *harness.Cluster, before []string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		after := traces(t, c)
		left := slices.DeleteFunc(slices.Clone(after), func(trace string) bool { return slices.Contains(before, trace) })
		if len(left) > 0 {
			return fmt.Sprintf("%d are left behind:\n%s", len(left), strings.Join(left[:min(len(left), 60)], "\n"))
		}
		return ""
	})
}

func deleteLitter(t *testing.T, c *harness.Cluster, args ...string) {
	t.Helper()
	kubectl(t, c, append([]string{"delete", "pod", "-l", "app=litter", "--timeout=120s"}, args...)...)
}

// TestNothingLeaks: 200 pods of every sort come and go, and the node has what it
// had before.
func TestNothingLeaks(t *testing.T) {
	c, before := leakCluster(t)
	const batches, size = 8, 26 // the first of each is the pod that stays
	for range batches {
		apply(t, c, strings.Replace(litter(size), "name: litter-0, labels: {app: litter}", "name: litter-0, labels: {app: stays}", 1))
		eventually(t, 2*time.Minute, func() string {
			phases := strings.Fields(kubectl(t, c, "get", "pods", "-o", "jsonpath={.items[*].status.phase}"))
			// Those whose second container cannot be started do not come out of Pending at once.
			if n := len(slices.DeleteFunc(phases, func(phase string) bool { return phase == "Pending" })); n < size*4/5 {
				return fmt.Sprintf("%d of %d have started", n, size)
			}
			return ""
		})
		deleteLitter(t, c)
	}
	noMore(t, c, before)
}

// TestNothingLeaksFromCrashes: the server is killed at random moments while pods
// come and go. When it has been started again and they are gone, so is all of them.
func TestNothingLeaksFromCrashes(t *testing.T) {
	c, before := leakCluster(t)
	crash := func(atMost time.Duration) {
		t.Helper()
		after := rand.N(atMost)
		t.Logf("killed after %s", after)
		time.Sleep(after)
		if err := c.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	pods := strings.Replace(litter(16), "name: litter-0, labels: {app: litter}", "name: litter-0, labels: {app: stays}", 1)
	for range 4 {
		apply(t, c, pods)
		crash(2 * time.Second)
		crash(time.Second)
		deleteLitter(t, c, "--wait=false")
		crash(2 * time.Second)
		deleteLitter(t, c)
	}
	noMore(t, c, before)
}

// TestReset: nothing of the pods' is left on the node when their data directory
// is reset.
func TestReset(t *testing.T) {
	c, _ := leakCluster(t)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	inside(t, c, c.Binary, "reset", "--data-dir", c.Dir)
	if mounts, groups, running := mountsBelow(t, c.Dir), controlGroups(t, c), conmons(t, c); len(mounts)+len(groups)+len(running) > 0 {
		t.Errorf("left are the mounts %v, the control groups %v and the processes %v", mounts, groups, running)
	}
	if links := inside(t, c, "ip", "-o", "link", "show", "type", "veth"); links != "" {
		t.Errorf("left are the links\n%s", links)
	}
	if err := c.Start(within(t, time.Minute)); err != nil { // for the cleanup to stop
		t.Fatal(err)
	}
}

// unmountAll takes away the mounts below a directory, as a reboot does.
func unmountAll(t *testing.T, dir string) {
	t.Helper()
	for _, mount := range mountsBelow(t, dir) {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Fatalf("unmount %s: %v", mount, err)
		}
	}
}
