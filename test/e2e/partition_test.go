package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// keepers are two StatefulSets over the three nodes, one with data of its own.
// Their processes say in their environment of which test and pod they are.
func keepers() string {
	set := func(name, more string) string {
		return fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[1]s}
spec:
  serviceName: %[1]s
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 2
      topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: %[1]s}}}]
      containers:
      - name: c
        image: busybox:1
        args: ['-c', 'test -d /data && date +%%s >> /data/starts; exec sleep 86400']
        env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: WITNESS, value: '%[4]d $(NAME)'}]%[2]s%[3]s
---`, name, more, impatient, os.Getpid())
	}
	claims := `
        volumeMounts: [{name: data, mountPath: /data}]`
	return set("db", "") + strings.Replace(set("store", claims), "  template:\n", `  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}]
  template:
`, 1)
}

// witness looks, until the test ends, at all processes of this machine, which is
// all machines of a fleet, for those of containers of one pod name in two pods.
type witness struct {
	mu   sync.Mutex
	most map[string]int // pods of a name that ran at the same time
}

func newWitness(t *testing.T) *witness {
	w := &witness{most: map[string]int{}}
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		for {
			w.look()
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		for name, n := range w.most {
			if n > 1 {
				t.Errorf("%d pods called %s ran at the same time", n, name)
			}
		}
		if len(w.most) < 6 {
			t.Errorf("containers were seen of %v only", w.most)
		}
	})
	return w
}

// look returns how many pods of each name run now.
func (w *witness) look() map[string]int {
	entries, _ := filepath.Glob("/proc/[0-9]*/environ")
	seen := map[string]map[string]bool{}
	for _, path := range entries {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, after, ok := bytes.Cut(environ, fmt.Appendf(nil, "WITNESS=%d ", os.Getpid()))
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(string(after), "\x00")
		pod, err := os.Readlink(filepath.Join(filepath.Dir(path), "ns", "net"))
		if err != nil {
			continue
		}
		if seen[name] == nil {
			seen[name] = map[string]bool{}
		}
		seen[name][pod] = true
	}
	now := map[string]int{}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, pods := range seen {
		now[name] = len(pods)
		w.most[name] = max(w.most[name], len(pods))
	}
	return now
}

// theOnly returns the one pod of an app on a node.
func theOnly(t *testing.T, c *harness.Cluster, app, node string) string {
	t.Helper()
	pods := podsOn(t, c, app, node)
	if len(pods) != 1 {
		t.Fatalf("on %s are %v of %s, want one", node, pods, app)
	}
	return pods[0]
}

// TestPartition: a machine that nobody hears of, but that lives, keeps its pods;
// the others do without it and send it nothing; at no time are there two pods of
// a name; and once it is back all is whole, with its data. A cut that is shorter
// than the node's Lease changes nothing, nor does a server that sleeps for longer: it
// holds nothing against the machines that it could not hear. Machines whose Nodes are deleted are
// nodes no more: their pods are made elsewhere, they end what they run, and join
// anew by a token.
func TestPartition(t *testing.T) {
	f := newFleet(t, 2, "--node-lease=8s")
	c, cut := f.Server, f.Agents[0]
	w := newWitness(t)
	apply(t, c, strings.Replace(rolled("v1"), "    spec: {terminationGracePeriodSeconds: 20, containers:",
		"    spec: {tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}], containers:", 1))
	apply(t, c, keepers())
	for _, what := range []string{"deployment/web", "statefulset/db", "statefulset/store"} {
		kubectl(t, c, "rollout", "status", what, "--timeout=120s")
	}
	db, store := theOnly(t, c, "db", cut.Name), theOnly(t, c, "store", cut.Name)
	uid := func(pod string) string {
		return kubectl(t, c, "get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
	}
	starts := func() int {
		files, err := filepath.Glob(filepath.Join(cut.Dir, "volumes", "*", "starts"))
		if err != nil || len(files) != 1 {
			t.Fatalf("the data of %s: %v, %v", store, files, err)
		}
		content, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return len(lines(string(content)))
	}
	everything := func() string {
		return kubectl(t, c, "get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.metadata.deletionTimestamp} {.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type=="Ready")].lastTransitionTime}{"\n"}{end}`) +
			kubectl(t, c, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].lastTransitionTime} {.spec.taints}{"\n"}{end}`)
	}
	loads := func() (both []*harness.Load) {
		for _, i := range []int{0, 2} {
			both = append(both, loadAt(t, f, i, 3))
		}
		for _, load := range both {
			waitRequests(t, load, 50)
		}
		return both
	}
	unharmed := func(when string, both []*harness.Load) {
		t.Helper()
		for _, load := range both {
			waitRequests(t, load, load.Requests()+100)
			if report := load.Stop(); report.Lost != 0 {
				t.Errorf("%s %d of %d requests were lost: %v", when, report.Lost, report.Requests, report.Reasons)
			}
		}
	}
	renewed := func() string {
		return kubectl(t, c, "get", "lease", "-n", "kube-node-lease", cut.Name, "-o", "jsonpath={.spec.renewTime}")
	}
	plug := func(change func(int) error) {
		t.Helper()
		if err := change(1); err != nil {
			t.Fatal(err)
		}
	}

	for what, happen := range map[string]func() error{
		"a short cut": func() error {
			plug(f.Cut)
			time.Sleep(1500 * time.Millisecond) // the cut itself, of less than the Lease
			return f.Heal(1)
		},
		"a server that slept": func() error { return c.Doze(10 * time.Second) }, // more than the Lease
	} {
		before, running, heard := everything(), loads(), renewed()
		if err := happen(); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, func() string {
			if now := renewed(); now == heard {
				return "nothing is heard of the machine since " + now
			}
			return ""
		})
		unharmed("during "+what, running)
		if after := everything(); after != before {
			t.Errorf("%s has changed\n%s\nto\n%s", what, before, after)
		}
	}

	oldDB, oldStore, wrote := uid(db), uid(store), starts()
	running := loads()
	plug(f.Cut)
	eventually(t, time.Minute, func() string {
		if status := kubectl(t, c, "get", "node", cut.Name, "--no-headers"); !strings.Contains(status, "NotReady") {
			return "its status is " + status
		}
		if ready := kubectl(t, c, "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"); ready != "6" {
			return ready + " of 6 pods are ready"
		}
		for _, pod := range []string{db, store} {
			if status := kubectl(t, c, "get", "pod", pod, "--no-headers"); !strings.Contains(status, "Terminating") && !strings.Contains(status, "Unknown") {
				return status
			}
		}
		return ""
	})
	for i, load := range running {
		report := load.Stop()
		t.Logf("while it was not known %d of %d requests by way of %s were lost: %v", report.Lost, report.Requests, f.IP(2*i), report.Reasons)
	}
	awaitAnswers(t, f, 30083, 0, 2)
	unharmed("without the machine", loads())
	if uid(db) != oldDB || uid(store) != oldStore {
		t.Error("a pod of a StatefulSet was made again although nobody knows that the old one is gone")
	}
	if now := w.look(); now[db] != 1 || now[store] != 1 {
		t.Errorf("on a machine that lives %d containers of %s and %d of %s run", now[db], db, now[store], store)
	}
	if left := len(podsOn(t, c, "web", cut.Name)); left != 2 {
		t.Errorf("the API has %d pods of the Deployment on the machine, want two that end", left)
	}

	running = loads()
	plug(f.Heal)
	whole := func() string {
		if status := kubectl(t, c, "get", "node", cut.Name, "--no-headers"); strings.Contains(status, "NotReady") {
			return "its status is " + status
		}
		if taints := kubectl(t, c, "get", "node", cut.Name, "-o", "jsonpath={.spec.taints}"); taints != "" {
			return "its taints are " + taints
		}
		if left := podsOn(t, c, "web", cut.Name); len(left) != 0 {
			return fmt.Sprintf("%v is left", left)
		}
		for _, set := range []string{"db", "store"} {
			if ready := kubectl(t, c, "get", "statefulset", set, "-o", "jsonpath={.status.readyReplicas}"); ready != "3" {
				return ready + " of 3 of " + set + " are ready"
			}
		}
		if uid(db) == oldDB || uid(store) == oldStore {
			return "the old pods have not ended"
		}
		return ""
	}
	eventually(t, 90*time.Second, whole)
	unharmed("when the machine came back", running)
	if at := theOnly(t, c, "store", cut.Name); at != store || starts() != wrote+1 {
		t.Errorf("%s is where %s was, and its data tells of %d starts, want %d", at, store, starts(), wrote+1)
	}

	deleteNodes(t, f, w)
}

// deleteNodes deletes the Node of a machine that is dead and of one that lives.
func deleteNodes(t *testing.T, f *harness.Fleet, w *witness) {
	c, dead, live := f.Server, f.Agents[0], f.Agents[1]
	kept := append(podsOn(t, c, "store", dead.Name), podsOn(t, c, "store", live.Name)...)
	if err := dead.PowerOff(); err != nil {
		t.Fatal(err)
	}
	awaitNotReady(t, c, dead.Name)
	kubectl(t, c, "delete", "node", dead.Name, live.Name)
	log, err := live.Ended(within(t, time.Minute))
	if err != nil || !strings.Contains(log, "node node-2 was deleted, and with it its certificate was revoked: join anew with --token") {
		t.Errorf("the agent of a Node that was deleted: %v, it says\n%s", err, log)
	}
	for name, n := range w.look() {
		on := kubectl(t, c, "get", "pod", name, "--ignore-not-found", "-o", "jsonpath={.spec.nodeName}")
		if n > 0 && on == live.Name {
			t.Errorf("%s still runs on a machine whose agent has ended for good", name)
		}
	}
	// What has no data there is made again.
	eventually(t, 2*time.Minute, func() string {
		if got := podsOn(t, c, "db", "node-0"); len(got) != 3 {
			return fmt.Sprintf("on the node that is left %v run", got)
		}
		if ready := kubectl(t, c, "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"); ready != "6" {
			return ready + " of 6 pods are ready"
		}
		return ""
	})

	// The dead one comes back, and is told the same; with a token both are nodes again, with the data that they had.
	if err := dead.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if log, err := dead.Ended(within(t, time.Minute)); err != nil || !strings.Contains(log, "certificate was revoked: join anew with --token") {
		t.Errorf("the agent of a machine that comes back after its Node was deleted: %v, it says\n%s", err, log)
	}
	token, err := f.Token(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*harness.Machine{dead, live} {
		if err := m.Join(token); err != nil {
			t.Fatal(err)
		}
		if err := m.WaitReady(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, func() string {
		if ready := kubectl(t, c, "get", "statefulset", "store", "-o", "jsonpath={.status.readyReplicas}"); ready != "3" {
			return ready + " of 3 are ready"
		}
		return ""
	})
	for _, m := range []*harness.Machine{dead, live} {
		files, _ := filepath.Glob(filepath.Join(m.Dir, "volumes", "*", "starts"))
		if len(files) != 1 {
			t.Fatalf("on %s is the data %v", m.Name, files)
		}
		if content, err := os.ReadFile(files[0]); err != nil || len(lines(string(content))) < 2 {
			t.Errorf("the data on %s is not what it was before %v were made again: %q, %v", m.Name, kept, content, err)
		}
	}
}
