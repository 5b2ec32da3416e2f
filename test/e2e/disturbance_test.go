package e2e

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// disturbed is two servers behind a Service. Each is ready while its gate is
// open, and its container is started again when a file of its name is in a
// directory of the node. It exits at once on SIGTERM.
const disturbed = `
apiVersion: v1
kind: Service
metadata: {name: disturbed}
spec:
  type: NodePort
  selector: {app: disturbed}
  ports: [{name: web, port: 80, nodePort: 30085}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: disturbed}
spec:
  replicas: 2
  selector: {matchLabels: {app: disturbed}}
  template:
    metadata: {labels: {app: disturbed}}
    spec:
      terminationGracePeriodSeconds: 30
      readinessGates: [{conditionType: test/gate}]
      volumes: [{name: fate, hostPath: {path: %q}}]
      containers:
      - name: web
        image: busybox:1
        command: [sh, -c, "busybox rm -f /fate/$HOSTNAME; busybox mkdir -p /www && echo $HOSTNAME > /www/index.html && { trap 'exit 0' TERM; busybox httpd -f -p 80 -h /www & wait; }"]
        env: [{name: HOSTNAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        volumeMounts: [{name: fate, mountPath: /fate}]
        ports: [{name: web, containerPort: 80}]
        livenessProbe: {exec: {command: [sh, -c, "! test -e /fate/$HOSTNAME"]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 30}
`

// TestDisturbances does to a Service under load what is not a rollout: its pods
// turn unready and ready, their containers are restarted by their probes, they are
// evicted, it is updated, the server is restarted. No request may be lost. Then
// somebody deletes the rules, and they come back.
func TestDisturbances(t *testing.T) {
	c := setup.shared
	fate := t.TempDir()
	apply(t, c, fmt.Sprintf(disturbed, fate))
	t.Cleanup(func() {
		kubectl(t, c, "delete", "deployment/disturbed", "service/disturbed", "--cascade=foreground", "--timeout=120s")
	})
	t.Cleanup(func() { tell(t, c) })
	const url = "http://127.0.0.1:30085/"
	pods := func() []string {
		var names []string
		eventually(t, time.Minute, func() string {
			names = strings.Fields(kubectl(t, c, "get", "pods", "-l", "app=disturbed", "-o", "jsonpath={.items[*].metadata.name}"))
			if len(names) != 2 {
				return fmt.Sprint("pods ", names)
			}
			return ""
		})
		return names
	}
	gate := func(pod, open string) {
		t.Helper()
		kubectl(t, c, "patch", "pod", pod, "--subresource=status", "-p", `{"status":{"conditions":[{"type":"test/gate","status":"`+open+`"}]}}`)
		kubectl(t, c, "wait", "pod/"+pod, "--for=condition=Ready="+open, "--timeout=120s")
	}
	// answering waits until these and no others answer.
	answering := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		eventually(t, time.Minute, func() string {
			report := harness.StartLoad(t.Context(), url, 1, 40, time.Minute).Wait()
			var got []string
			for answer := range maps.Keys(report.Answers) {
				got = append(got, strings.TrimSpace(answer))
			}
			if slices.Sort(got); report.Lost > 0 || !slices.Equal(got, want) {
				return fmt.Sprintf("%v answer, want %v; lost %v", got, want, report.Reasons)
			}
			return ""
		})
	}
	for _, pod := range pods() {
		gate(pod, "True")
	}
	answering(pods()...)

	for _, test := range []struct {
		name string
		do   func(*testing.T, *harness.Load)
	}{
		{"endpoints flap", func(_ *testing.T, _ *harness.Load) {
			for _, pod := range append(pods(), pods()...) {
				gate(pod, "False")
				answering(slices.DeleteFunc(pods(), func(other string) bool { return other == pod })...)
				gate(pod, "True")
			}
		}},
		{"liveness restarts", func(t *testing.T, _ *harness.Load) {
			for _, pod := range pods() {
				if err := os.WriteFile(filepath.Join(fate, pod), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				kubectl(t, c, "wait", "pod/"+pod, "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=120s")
				kubectl(t, c, "wait", "pod/"+pod, "--for=condition=Ready", "--timeout=120s")
				answering(pods()...)
			}
		}},
		{"eviction", func(t *testing.T, _ *harness.Load) {
			before := pods()
			kubectl(t, c, "create", "--raw", "/api/v1/namespaces/default/pods/"+before[0]+"/eviction", "-f", evictionOf(t, before[0]))
			eventually(t, time.Minute, func() string {
				if now := pods(); slices.Contains(now, before[0]) {
					return before[0] + " is there"
				}
				return ""
			})
			for _, pod := range pods() {
				gate(pod, "True")
			}
			answering(pods()...)
		}},
		{"service updates", func(t *testing.T, load *harness.Load) {
			for _, change := range []string{
				`{"ports":[{"name":"web","port":80,"nodePort":30085,"targetPort":"web"}]}`,
				`{"ports":[{"name":"web","port":80,"nodePort":30085,"targetPort":"web"},{"name":"more","port":81,"targetPort":80}]}`,
				`{"sessionAffinity":"ClientIP"}`, `{"externalTrafficPolicy":"Local"}`, `{"internalTrafficPolicy":"Local"}`, `{"externalIPs":["198.51.100.7"]}`,
				`{"sessionAffinity":"None","externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","externalIPs":null,"publishNotReadyAddresses":true}`,
				`{"publishNotReadyAddresses":false}`,
			} {
				kubectl(t, c, "patch", "service", "disturbed", "-p", `{"spec":`+change+`}`)
				waitRequests(t, load, load.Requests()+100)
			}
			answering(pods()...)
		}},
		{"server restarts", func(t *testing.T, load *harness.Load) {
			for _, stop := range []func() error{c.Stop, c.Kill} {
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				waitRequests(t, load, load.Requests()+200)
				if err := c.Start(within(t, time.Minute)); err != nil {
					t.Fatal(err)
				}
				waitRequests(t, load, load.Requests()+200)
			}
			kubectl(t, c, "wait", "pod", "-l", "app=disturbed", "--for=condition=Ready", "--timeout=120s")
			answering(pods()...)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			load := harness.StartLoad(t.Context(), url, 4, 1_000_000, 10*time.Minute)
			waitRequests(t, load, 100)
			test.do(t, load)
			waitRequests(t, load, load.Requests()+100)
			if report := load.Stop(); report.Lost != 0 {
				t.Errorf("lost %d of %d requests: %v\n%s", report.Lost, report.Requests, report.Reasons, kubectl(t, c, "get", "events"))
			} else {
				t.Logf("%d requests in %v", report.Requests, report.Elapsed)
			}
		})
	}

	// Nothing can be promised while there are no rules: who connects is refused, and
	// who is connected may be cut off. What is promised is that this ends by itself.
	t.Run("rules deleted", func(t *testing.T) {
		load := harness.StartLoad(t.Context(), url, 4, 1_000_000, time.Minute)
		waitRequests(t, load, 200)
		began := time.Now()
		if out, err := exec.Command("nft", "delete", "table", "ip", "windlass").CombinedOutput(); err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
		for { // until the first connection gets through
			conn, err := net.DialTimeout("tcp", "127.0.0.1:30085", 5*time.Second)
			if err == nil {
				conn.Close()
				break
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("the rules are not back: %v", err)
			}
		}
		took := time.Since(began)
		answering(pods()...)
		waitRequests(t, load, load.Requests()+100)
		report := load.Stop()
		t.Logf("connected again %v after the beginning; lost %d of %d requests: %v", took, report.Lost, report.Requests, report.Reasons)
	})
}

// evictionOf writes an Eviction to a file and returns its name.
func evictionOf(t *testing.T, pod string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "eviction.json")
	eviction := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"namespace":"default","name":%q}}`, pod)
	if err := os.WriteFile(path, []byte(eviction), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
