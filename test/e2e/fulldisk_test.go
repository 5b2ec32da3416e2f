package e2e

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/test/harness"
)

// smallDisk mounts a disk of its own for a cluster's data directory.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("disk", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// TestFullDisk: pods that fill the disk or its inodes as fast as they can are
// evicted, and what they took comes back. The server goes on, and the others with
// their traffic.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "size=700m,nr_inodes=60000")
	c := ownClusterOn(t, disk+"/data", "--eviction-pressure-transition-period=1s", "--minimum-image-ttl-duration=0s")
	server := c.Pid()
	if err := c.LoadImages(within(t, time.Minute), harness.Busybox("busybox:1"), harness.WebApp("httpd:2.2.31", "2.2.31", setup.webapp), harness.WebApp("unused:1", "1", setup.webapp)); err != nil {
		t.Fatal(err)
	}
	apply(t, c, bystanders)
	kubectl(t, c, "wait", "--for=condition=Available", "deployment/web", "--timeout=120s")
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/visitor", "--timeout=120s")

	count := func(name string) int {
		n, err := strconv.Atoi(strings.TrimSpace(kubectl(t, c, "exec", "visitor", "--", "/bin/busybox", "cat", "/counts/"+name)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	traffic := func() {
		t.Helper()
		for until, deadline := count("served")+20, time.Now().Add(time.Minute); count("served") < until; time.Sleep(time.Second) {
			if time.Now().After(deadline) {
				t.Fatalf("no traffic: %d were lost, %d served", count("lost"), count("served"))
			}
		}
	}
	traffic()
	lostBefore := count("lost")
	for name, fill := range map[string]string{
		"volume": `while :; do busybox dd if=/dev/zero bs=1M >> /scratch/f; done`,
		"layer":  `while :; do busybox dd if=/dev/zero bs=1M >> /f; done`,
		"inodes": `i=0; while :; do i=$((i+1)); : > /scratch/$i; done`,
	} {
		apply(t, c, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 30
  tolerations: [{key: node.kubernetes.io/disk-pressure, operator: Exists}]
  containers: [{name: main, image: 'busybox:1', args: [-c, %q], volumeMounts: [{name: scratch, mountPath: /scratch}]}]
  volumes: [{name: scratch, emptyDir: {}}]
`, name, fill))
	}
	for name, message := range map[string]string{
		"volume": "The node was low on resource: ephemeral-storage. Threshold quantity: ",
		"layer":  "The node was low on resource: ephemeral-storage. Threshold quantity: ",
		"inodes": "The node was low on resource: inodes. Threshold quantity: ",
	} {
		becomes(t, c, name, "{.status.phase} {.status.reason} {.status.message}", "^Failed Evicted "+regexp.QuoteMeta(message))
		if reason := field(t, c, name, `{.status.conditions[?(@.type=="DisruptionTarget")].reason}`); reason != "TerminationByKubelet" {
			t.Errorf("pod %s has %q", name, reason)
		}
	}
	free := func(space, inodes uint64) func() string {
		return func() string {
			var stat unix.Statfs_t
			if err := unix.Statfs(disk, &stat); err != nil {
				t.Fatal(err)
			}
			if stat.Bavail < stat.Blocks*space/100 || stat.Ffree < stat.Files*inodes/100 {
				return fmt.Sprintf("%d of %d blocks and %d of %d inodes are free", stat.Bavail, stat.Blocks, stat.Ffree, stat.Files)
			}
			return ""
		}
	}
	eventually(t, time.Minute, free(50, 50))

	eventually(t, time.Minute, func() string {
		if pressure := kubectl(t, c, "get", "nodes", "-o", `jsonpath={.items[0].status.conditions[?(@.type=="DiskPressure")].status}`); pressure != "False" {
			return "disk pressure: " + pressure
		}
		return ""
	})

	// Where what nobody uses is enough, nobody is evicted.
	apply(t, c, `
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: main, image: 'busybox:1', args: [-c, 'busybox dd if=/dev/zero of=/f bs=1M count=200']}]
`)
	becomes(t, c, "done", "{.status.phase}", "^Succeeded$")
	takeBut(t, disk, 4)
	eventually(t, time.Minute, free(30, 50))
	eventually(t, time.Minute, func() string {
		if out, err := c.Run(within(t, time.Minute), c.Binary, "image", "ls", "--data-dir", c.Dir); err != nil || strings.Contains(out, "unused") {
			return fmt.Sprint(out, err)
		}
		return ""
	})
	if state := field(t, c, "done", "{.status.phase} {.status.containerStatuses[0].state.terminated.reason}"); state != "Succeeded Completed" {
		t.Errorf("the pod that has finished: %s", state)
	}

	// What cannot be written to is the trouble of who wants to.
	unwritable := smallDisk(t, "size=1m")
	if err := unix.Mount("", unwritable, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"writes": unwritable, "makes": unwritable + "/sub"} {
		apply(t, c, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: 'busybox:1', args: [-c, 'echo x > /volume/f'], volumeMounts: [{name: v, mountPath: /volume}]}]
  volumes: [{name: v, hostPath: {path: %s, type: DirectoryOrCreate}}]
`, name, path))
	}
	becomes(t, c, "writes", "{.status.containerStatuses[0].state.waiting.reason}", "^CrashLoopBackOff$")
	eventually(t, time.Minute, func() string {
		if events := kubectl(t, c, "get", "events", "--field-selector=involvedObject.name=makes,reason=FailedMount"); !strings.Contains(events, "read-only file system") {
			return events
		}
		return ""
	})
	kubectl(t, c, "delete", "pod", "writes", "makes", "--timeout=120s")

	traffic()
	if lost := count("lost") - lostBefore; lost != 0 {
		t.Errorf("%d requests were lost, %d served", lost, count("served"))
	}
	if restarts := kubectl(t, c, "get", "pods", "-l", "bystander", "-o", "jsonpath={.items[*].status.phase} {.items[*].status.containerStatuses[0].restartCount}"); restarts != "Running Running Running 0 0 0" {
		t.Errorf("the others: %s", restarts)
	}
	if err := unix.Kill(server, 0); errors.Is(err, unix.ESRCH) || c.Pid() != server {
		t.Error("the server has ended")
	}
}

// takeBut fills a disk but for so many percent.
func takeBut(t *testing.T, disk string, percent int64) {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(disk, &stat); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(disk + "/fill")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	left := int64(stat.Blocks) * percent / 100
	if err := unix.Fallocate(int(file.Fd()), 0, 0, (int64(stat.Bavail)-left)*stat.Bsize); err != nil {
		t.Fatal(err)
	}
}

// bystanders are a Deployment and a pod that asks it, and counts the answers where
// the disk does not matter.
const bystanders = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, bystander: ''}}
    spec: {containers: [{name: web, image: 'httpd:2.2.31', ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: visitor, labels: {bystander: ''}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox:1
    args:
    - -c
    - |
      served=0 lost=0
      while :; do
        if busybox wget -qO- http://web/ > /dev/null; then served=$((served+1)); else lost=$((lost+1)); fi
        echo $served > /counts/.next; busybox mv /counts/.next /counts/served
        echo $lost > /counts/.next; busybox mv /counts/.next /counts/lost
      done
    volumeMounts: [{name: counts, mountPath: /counts}]
  volumes: [{name: counts, emptyDir: {medium: Memory}}]
`
