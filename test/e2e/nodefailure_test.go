package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// impatient pods leave a node that is not reachable after a second.
const impatient = `
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}`

const onThreeNodes = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 2
      containers: [{name: db, image: 'busybox:1', args: ['-c', 'sleep 86400']}]` + impatient + `
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
`

// awaitNotReady waits until it is known that a node is not ready.
func awaitNotReady(t *testing.T, c *harness.Cluster, node string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		if status := kubectl(t, c, "get", "node", node, "--no-headers"); !strings.Contains(status, "NotReady") {
			return "its status is " + status
		}
		return ""
	})
}

// awaitAnswers waits until requests to a node port of these machines are all
// answered: what the API says of a lost node its proxies have heard a moment later.
func awaitAnswers(t *testing.T, f *harness.Fleet, port int, machines ...int) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		for _, i := range machines {
			url := fmt.Sprintf("http://%s:%d/", f.IP(i), port)
			if report := harness.StartLoad(t.Context(), url, 4, 40, time.Minute).Wait(); report.Lost > 0 {
				return fmt.Sprintf("by way of node-%d %d of %d requests are lost: %v", i, report.Lost, report.Requests, report.Reasons)
			}
		}
		return ""
	})
}

// podsOn returns the names of the pods of an app on a node.
func podsOn(t *testing.T, c *harness.Cluster, app, node string) []string {
	t.Helper()
	return strings.Fields(kubectl(t, c, "get", "pods", "-l", "app="+app, "--field-selector", "spec.nodeName="+node, "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`))
}

// TestNodeLost: of a machine that is gone nothing is asked any more; a Deployment
// is whole again elsewhere; of a StatefulSet there is at most one pod of a name
// until somebody vouches that the old one is gone; and a machine that comes back
// stops what it should no longer run.
func TestNodeLost(t *testing.T) {
	f := newFleet(t, 2, "--node-lease=8s")
	c, lost := f.Server, f.Agents[0]
	apply(t, c, strings.Replace(rolled("v1"), "    spec: {terminationGracePeriodSeconds: 20, containers:",
		"    spec: {tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}], containers:", 1))
	apply(t, c, onThreeNodes)
	kubectl(t, c, "rollout", "status", "deployment/web", "--timeout=120s")
	kubectl(t, c, "rollout", "status", "statefulset/db", "--timeout=120s")
	named := podsOn(t, c, "db", lost.Name)
	if len(named) != 1 || len(podsOn(t, c, "web", lost.Name)) != 2 {
		t.Fatalf("on %s are %v and %v, want one of three and two of six", lost.Name, named, podsOn(t, c, "web", lost.Name))
	}
	uid := func() string { return kubectl(t, c, "get", "pod", named[0], "-o", "jsonpath={.metadata.uid}") }
	before := uid()
	load := loadAt(t, f, 0, 4)
	waitRequests(t, load, 50)

	if err := lost.PowerOff(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string {
		if status := kubectl(t, c, "get", "node", lost.Name, "--no-headers"); !strings.Contains(status, "NotReady") {
			return "its status is " + status
		}
		ready := kubectl(t, c, "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")
		if ready != "6" {
			return ready + " of 6 pods are ready"
		}
		if slices := kubectl(t, c, "get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", `jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.nodeName}{"\n"}{end}`); strings.Contains(slices, lost.Name) {
			return "requests are still sent to " + lost.Name
		}
		return ""
	})
	interrupted := load.Stop()
	t.Logf("of %d requests %d were on their way to the machine that went, or sent there before it was known: %v", interrupted.Requests, interrupted.Lost, interrupted.Reasons)
	awaitAnswers(t, f, 30083, 2)
	after := harness.StartLoad(t.Context(), fmt.Sprintf("http://%s:30083/", f.IP(2)), 4, 200, time.Minute).Wait()
	if after.Lost != 0 || after.Requests < 200 {
		t.Errorf("after that %d of %d requests were lost: %v", after.Lost, after.Requests, after.Reasons)
	}

	// At most one pod of a name: the old one stays, until somebody says that it is gone.
	eventually(t, time.Minute, func() string {
		if status := kubectl(t, c, "get", "pod", named[0], "--no-headers"); !strings.Contains(status, "Unknown") && !strings.Contains(status, "Terminating") {
			return status
		}
		return ""
	})
	if now := uid(); now != before {
		t.Fatalf("pod %s was made again although nobody knows that the old one is gone", named[0])
	}
	kubectl(t, c, "delete", "pod", named[0], "--force", "--grace-period=0")
	eventually(t, time.Minute, func() string {
		if now := uid(); now == before {
			return "it was not made again"
		}
		if ready := kubectl(t, c, "get", "statefulset", "db", "-o", "jsonpath={.status.readyReplicas}"); ready != "3" {
			return ready + " of 3 are ready"
		}
		return ""
	})

	// A machine that comes back runs nothing of what has been replaced.
	if err := lost.PowerOn(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string {
		if status := kubectl(t, c, "get", "node", lost.Name, "--no-headers"); strings.Contains(status, "NotReady") {
			return "its status is " + status
		}
		if left := podsOn(t, c, "web", lost.Name); len(left) != 0 {
			return fmt.Sprintf("%v is left", left)
		}
		if taints := kubectl(t, c, "get", "node", lost.Name, "-o", "jsonpath={.spec.taints}"); taints != "" {
			return "its taints are " + taints
		}
		return ""
	})

	// Out of service: a taint vouches for all pods of a machine at once.
	second := f.Agents[1]
	moved := podsOn(t, c, "db", second.Name)
	if len(moved) == 0 {
		t.Fatalf("no pod of the StatefulSet is on %s", second.Name)
	}
	old := kubectl(t, c, "get", "pod", moved[0], "-o", "jsonpath={.metadata.uid}")
	if err := second.PowerOff(); err != nil {
		t.Fatal(err)
	}
	awaitNotReady(t, c, second.Name)
	kubectl(t, c, "taint", "node", second.Name, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
	eventually(t, 90*time.Second, func() string {
		if now := kubectl(t, c, "get", "pod", moved[0], "--ignore-not-found", "-o", "jsonpath={.metadata.uid} {.status.phase}"); now == "" || strings.Contains(now, old) || !strings.Contains(now, "Running") {
			return moved[0] + " is " + now
		}
		return ""
	})
}

// TestDrainNode: a node is emptied under load, within a budget, and nothing is lost.
func TestDrainNode(t *testing.T) {
	f := newFleet(t, 2)
	c := f.Server
	apply(t, c, rolled("v1")+"---\n"+`
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 5, selector: {matchLabels: {app: web}}}
`)
	kubectl(t, c, "rollout", "status", "deployment/web", "--timeout=120s")
	load := loadAt(t, f, 0, 4)
	waitRequests(t, load, 50)
	if n := len(podsOn(t, c, "web", "node-1")); n != 2 {
		t.Errorf("%d of six pods are on node-1, want two", n)
	}
	apply(t, c, `
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec: {nodeName: node-1, terminationGracePeriodSeconds: 1, containers: [{name: c, image: 'busybox:1', args: ['-c', 'sleep 86400'], volumeMounts: [{name: v, mountPath: /v}]}], volumes: [{name: v, emptyDir: {}}]}
`)
	for _, refused := range []struct{ flag, want string }{
		{"--delete-emptydir-data", "cannot delete Pods that declare no controller (use --force to override): default/alone"},
		{"--force", "cannot delete Pods with local storage (use --delete-emptydir-data to override): default/alone"},
	} {
		if _, err := c.KubectlRun(within(t, time.Minute), "drain", "node-1", "--ignore-daemonsets", refused.flag); err == nil || !strings.Contains(err.Error(), refused.want) {
			t.Errorf("drain %s: %v, want %q", refused.flag, err, refused.want)
		}
	}
	kubectl(t, c, "drain", "node-1", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=120s")
	if left := podsOn(t, c, "web", "node-1"); len(left) != 0 {
		t.Errorf("%v is left on a drained node", left)
	}
	if status := kubectl(t, c, "get", "node", "node-1", "--no-headers"); !strings.Contains(status, "SchedulingDisabled") {
		t.Errorf("the drained node: %s", status)
	}
	kubectl(t, c, "rollout", "status", "deployment/web", "--timeout=120s")
	kubectl(t, c, "uncordon", "node-1")
	kubectl(t, c, "rollout", "restart", "deployment/web")
	kubectl(t, c, "rollout", "status", "deployment/web", "--timeout=120s")
	eventually(t, time.Minute, func() string {
		if len(podsOn(t, c, "web", "node-1")) == 0 {
			return "nothing came back to node-1"
		}
		return ""
	})
	waitRequests(t, load, load.Requests()+50)
	if report := load.Stop(); report.Lost != 0 {
		t.Errorf("%d of %d requests were lost: %v", report.Lost, report.Requests, report.Reasons)
	}
}
