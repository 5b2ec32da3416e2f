package e2e

import (
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// TestEviction has a node that is always short of memory: the pod that uses more
// than it asks for goes first, the node says so, and takes no more pods that ask for
// nothing; with a threshold that can be kept it is well again.
func TestEviction(t *testing.T) {
	c := ownCluster(t)
	if err := c.LoadImages(within(t, time.Minute), harness.Busybox("busybox:1")); err != nil {
		t.Fatal(err)
	}
	pods := func(names ...string) string {
		var list []string
		for _, name := range names {
			resources := "{}"
			if name == "modest" {
				resources = "{requests: {memory: 200Mi}}"
			}
			list = append(list, `
apiVersion: v1
kind: Pod
metadata: {name: `+name+`}
spec:
  containers: [{name: main, image: 'busybox:1', args: [-c, 'busybox sleep 600'], resources: `+resources+`}]
`)
		}
		return strings.Join(list, "---")
	}
	apply(t, c, pods("modest", "greedy"))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	const short = "--eviction-hard=memory.available<100%"
	c.Args = append(c.Args, short, "--eviction-pressure-transition-period=1s")
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	until := func(want string, args ...string) {
		t.Helper()
		last := ""
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			out, err := c.KubectlRun(within(t, time.Minute), args...)
			if last = out; err == nil && strings.Contains(out, want) {
				return
			}
		}
		t.Fatalf("kubectl %s: %q, want %q", strings.Join(args, " "), last, want)
	}
	until("Failed Evicted The node was low on resource: memory. Threshold quantity: ", "get", "pod", "greedy", "-o", "jsonpath={.status.phase} {.status.reason} {.status.message}")
	until("True KubeletHasInsufficientMemory", "get", "nodes", "-o", `jsonpath={.items[0].status.conditions[?(@.type=="MemoryPressure")].status} {.items[0].status.conditions[?(@.type=="MemoryPressure")].reason}`)
	until("node.kubernetes.io/memory-pressure", "get", "nodes", "-o", "jsonpath={.items[0].spec.taints[*].key}")
	apply(t, c, pods("late"))
	until("untolerated taint", "describe", "pod", "late")
	// The next in the order is what uses no more than it asks for.
	until("Failed Evicted", "get", "pod", "modest", "-o", "jsonpath={.status.phase} {.status.reason}")
	greedy := kubectl(t, c, "get", "pod", "greedy", "-o", `jsonpath={.status.conditions[?(@.type=="DisruptionTarget")].lastTransitionTime}`)
	modest := kubectl(t, c, "get", "pod", "modest", "-o", `jsonpath={.status.conditions[?(@.type=="DisruptionTarget")].lastTransitionTime}`)
	if greedy == "" || greedy >= modest {
		t.Errorf("greedy went at %q, modest at %q", greedy, modest)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	c.Args = c.Args[:len(c.Args)-2]
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	until("False KubeletHasSufficientMemory", "get", "nodes", "-o", `jsonpath={.items[0].status.conditions[?(@.type=="MemoryPressure")].status} {.items[0].status.conditions[?(@.type=="MemoryPressure")].reason}`)
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/late", "--timeout=120s")
}
