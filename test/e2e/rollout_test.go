package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

const (
	clients  = 16
	requests = 10_000
	nodePort = "http://127.0.0.1:30080/"
)

// TestNothingLost rolls an application that exits at once on SIGTERM and has
// no probe, three times, under clients that open a new connection for every
// request: every request is answered. With the drain off the same test sees
// requests lost, so it can see a loss.
func TestNothingLost(t *testing.T) {
	c := setup.shared
	apply(t, c, example(t, "httpd.service.yml"))
	apply(t, c, example(t, "httpd.v1.yml"))
	t.Cleanup(func() {
		tell(t, c)
		kubectl(t, c, "delete", "deployment/httpd", "service/httpd", "--wait=true")
	})
	kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")

	t.Run("drained", func(t *testing.T) {
		report := rollThrice(t, c, requests)
		if report.Lost != 0 {
			t.Errorf("lost %d of %d requests: %v", report.Lost, report.Requests, report.Reasons)
		}
		if report.Requests < requests {
			t.Errorf("sent %d requests, want at least %d", report.Requests, requests)
		}
		t.Logf("%d requests in %v, %d lost", report.Requests, report.Elapsed, report.Lost)
		if late := kubectl(t, c, "get", "events", "--field-selector", "reason=DrainTimeout"); late != "" {
			t.Logf("drains that hit their bound:\n%s", late)
		}
	})
	t.Run("slow answers", func(t *testing.T) {
		env := func(change string) {
			kubectl(t, c, "set", "env", "deployment/httpd", change)
			kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
		}
		env("SLOW=300ms")
		defer env("SLOW-")
		if report := rollThrice(t, c, 500); report.Lost != 0 {
			t.Errorf("lost %d of %d requests: %v", report.Lost, report.Requests, report.Reasons)
		}
	})
	t.Run("drain off", func(t *testing.T) {
		kubectl(t, c, "patch", "deployment/httpd", "-p",
			`{"spec":{"template":{"metadata":{"annotations":{"windlass.dev/drain":"off"}}}}}`)
		kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
		var report harness.Report
		for attempt := 0; attempt < 5 && report.Lost == 0; attempt++ {
			report = rollThrice(t, c, requests)
		}
		if report.Lost == 0 {
			t.Errorf("no request of %d lost with the drain off: this test cannot see a loss", report.Requests)
		}
		t.Logf("%d of %d requests lost with the drain off", report.Lost, report.Requests)
	})
}

// rollThrice makes three rollouts in a row under load of at least so many requests.
func rollThrice(t *testing.T, c *harness.Cluster, atLeast int64) harness.Report {
	t.Helper()
	load := harness.StartLoad(t.Context(), nodePort, clients, 50*atLeast, 10*time.Minute)
	for range 3 {
		waitRequests(t, load, load.Requests()+atLeast/10)
		next := "httpd:2.2.32"
		if kubectl(t, c, "get", "deployment/httpd", "-o", "jsonpath={.spec.template.spec.containers[0].image}") == next {
			next = "httpd:2.2.31"
		}
		kubectl(t, c, "set", "image", "deployment/httpd", "httpd="+next)
		kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
	}
	eventually(t, time.Minute, func() string { return extraPods(t, c) })
	waitRequests(t, load, max(atLeast, load.Requests()+atLeast/10))
	return load.Stop()
}

// extraPods says which pods there are when there are not exactly three.
func extraPods(t *testing.T, c *harness.Cluster) string {
	pods := lines(kubectl(t, c, "get", "pods", "-l", "run=httpd", "-o", "name"))
	if len(pods) == 3 {
		return ""
	}
	return fmt.Sprint(pods)
}

func waitRequests(t *testing.T, load *harness.Load, until int64) {
	t.Helper()
	eventually(t, 2*time.Minute, func() string {
		if n := load.Requests(); n < until {
			return fmt.Sprintf("%d requests of %d", n, until)
		}
		return ""
	})
}

// TestHttpdStandardText follows the standard text: httpd.v1.yml, then
// httpd.v2.yml, with the events in its order and the old ReplicaSet kept.
func TestHttpdStandardText(t *testing.T) {
	c := setup.shared
	kubectl(t, c, "create", "namespace", "standard")
	in := func(args ...string) string { return kubectl(t, c, append([]string{"-n", "standard"}, args...)...) }
	in("apply", "-f", setup.root+"/examples/httpd.v1.yml")
	in("rollout", "status", "deployment/httpd", "--timeout=120s")

	sets := lines(in("get", "rs", "-o", "name"))
	if len(sets) != 1 || !regexp.MustCompile(`^replicaset.apps/httpd-[a-z0-9]+$`).MatchString(sets[0]) {
		t.Fatalf("replica sets %v, want one named httpd-<hash>", sets)
	}
	first := strings.TrimPrefix(sets[0], "replicaset.apps/")
	pods := lines(in("get", "pods", "-o", "name"))
	for _, pod := range pods {
		if !regexp.MustCompile(`^pod/` + first + `-[a-z0-9]{5}$`).MatchString(pod) {
			t.Errorf("pod %s, want %s-<random>", pod, first)
		}
	}
	if len(pods) != 3 {
		t.Errorf("pods %v, want three", pods)
	}

	in("apply", "-f", setup.root+"/examples/httpd.v2.yml")
	in("rollout", "status", "deployment/httpd", "--timeout=120s")
	want := []string{"up to 3", "up to 1", "down to 2", "up to 2", "down to 1", "up to 3", "down to 0"}
	eventually(t, time.Minute, func() string { // events are written after what they tell of
		described := in("describe", "deployment", "httpd")
		var steps []string
		for _, m := range regexp.MustCompile(`Scaled (up|down) replica set (\S+) from \d+ to (\d+)`).FindAllStringSubmatch(described, -1) {
			steps = append(steps, m[1]+" to "+m[3])
		}
		if !slices.Equal(steps, want) {
			return fmt.Sprintf("steps %q, want %q, in\n%s", steps, want, described)
		}
		return ""
	})
	if got := in("get", "rs", first, "-o", "jsonpath={.spec.replicas} {.status.replicas}"); got != "0 0" {
		t.Errorf("the old replica set has %q replicas, want it kept at zero", got)
	}
	kubectl(t, c, "delete", "namespace", "standard", "--timeout=120s")
}
