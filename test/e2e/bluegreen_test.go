package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// TestBlueGreen switches a Service from one ReplicationController's pods to
// another's and back, under load, and takes the first away: every request is
// answered, and once a switch is through, by the right version alone.
func TestBlueGreen(t *testing.T) {
	c := setup.shared
	kubectl(t, c, "create", "namespace", "blue-green-load")
	t.Cleanup(func() { kubectl(t, c, "delete", "namespace", "blue-green-load", "--timeout=120s") })
	t.Cleanup(func() { tell(t, c) })
	in := func(args ...string) string {
		return kubectl(t, c, append([]string{"-n", "blue-green-load"}, args...)...)
	}
	applyExample := func(name string) { in("apply", "-f", filepath.Join(setup.root, "examples", name)) }
	ready := func(rc string) {
		t.Helper()
		in("wait", "rc/"+rc, "--for=jsonpath={.status.readyReplicas}=3", "--timeout=120s")
	}

	applyExample("kubia-rc.yml")
	ready("kubia-v1")
	url := fmt.Sprintf("http://127.0.0.1:%s/", in("get", "service", "kubia", "-o", "jsonpath={.spec.ports[0].nodePort}"))
	answeredBy(t, url, "v1")

	load := harness.StartLoad(t.Context(), url, clients, 50*requests, 10*time.Minute)
	applyExample("kubia-rc-v2.yml")
	ready("kubia-v2")
	if early := answers(load.Stop(), "v2"); early > 0 {
		t.Errorf("%d answers of v2 before the switch", early)
	}

	load = harness.StartLoad(t.Context(), url, clients, 50*requests, 10*time.Minute)
	switchTo := func(version string, do func()) {
		t.Helper()
		waitRequests(t, load, load.Requests()+500)
		do()
		answeredBy(t, url, version)
	}
	patch := func(label string) func() {
		return func() { in("patch", "service", "kubia", "-p", `{"spec":{"selector":{"app":"`+label+`"}}}`) }
	}
	for range 3 {
		switchTo("v2", patch("kubia-v2"))
		switchTo("v1", patch("kubia"))
	}
	switchTo("v2", func() { applyExample("kubia-service-v2.yml") })
	in("delete", "rc", "kubia-v1", "--cascade=foreground", "--timeout=120s")
	waitRequests(t, load, load.Requests()+500)
	report := load.Stop()
	if report.Lost != 0 {
		t.Errorf("lost %d of %d requests: %v", report.Lost, report.Requests, report.Reasons)
	}
	if v1, v2 := answers(report, "v1"), answers(report, "v2"); v1 == 0 || v2 == 0 || v1+v2 != report.Requests {
		t.Errorf("%d answers of v1 and %d of v2 to %d requests", v1, v2, report.Requests)
	}
	t.Logf("%d requests in %v", report.Requests, report.Elapsed)
}

// answeredBy waits until a row of answers is all of one version.
func answeredBy(t *testing.T, url, version string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		report := harness.StartLoad(t.Context(), url, 1, 50, time.Minute).Wait()
		if n := answers(report, version); n < report.Requests {
			return fmt.Sprintf("%d of %d answers are of %s; lost %v", n, report.Requests, version, report.Reasons)
		}
		return ""
	})
}

// answers counts those of a version.
func answers(report harness.Report, version string) (n int64) {
	for answer, times := range report.Answers {
		if strings.HasPrefix(answer, "httpd "+version+" ") {
			n += int64(times)
		}
	}
	return n
}
