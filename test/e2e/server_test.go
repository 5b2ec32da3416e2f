package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// containerProcesses returns "container started-at" of each running container
// of the pods with a label, sorted by kubectl as it lists them.
func containerIDs(t *testing.T, c *harness.Cluster, label string) string {
	t.Helper()
	return kubectl(t, c, "get", "pods", "-l", label, "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
}

// processes counts the running processes with a command line.
func processes(t *testing.T, commandLine string) int {
	t.Helper()
	out, err := exec.Command("pgrep", "-fxc", commandLine).Output()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPulledPlug kills the server with SIGKILL at many moments of a rollout:
// started again it has the same state and goes on with the same containers,
// none twice; stopped by SIGTERM it leaves the containers running.
func TestPulledPlug(t *testing.T) {
	c := ownCluster(t)
	// Its command line tells this test's containers from all others.
	plug := fmt.Sprintf("/webapp pulled-plug-%d", os.Getpid())
	image := harness.WebApp("httpd:2.2.31", "2.2.31", setup.webapp)
	image.Entrypoint = strings.Fields(plug)
	image2 := harness.WebApp("httpd:2.2.32", "2.2.32", setup.webapp)
	image2.Entrypoint = image.Entrypoint
	if err := c.LoadImages(within(t, time.Minute), image, image2); err != nil {
		t.Fatal(err)
	}
	apply(t, c, example(t, "httpd.v1.yml"))
	kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
	before := containerIDs(t, c, "run=httpd")

	restart := func(stop func() error) {
		t.Helper()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := processes(t, plug); n < 3 {
			t.Errorf("%d containers run while the server is down, want at least 3", n)
		}
		if err := c.Start(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for name, stop := range map[string]func() error{"SIGKILL": c.Kill, "SIGTERM": c.Stop} {
		restart(stop)
		kubectl(t, c, "wait", "--for=condition=Ready", "pod", "-l", "run=httpd", "--timeout=120s")
		if after := containerIDs(t, c, "run=httpd"); after != before {
			t.Errorf("%s: containers\n%safter the restart, want\n%s", name, after, before)
		}
	}

	for i := range 6 {
		next := fmt.Sprintf("httpd=httpd:2.2.%d", 32-i%2)
		kubectl(t, c, "set", "image", "deployment/httpd", next)
		// The moment differs each time: after so many of the new pods exist.
		eventually(t, time.Minute, func() string {
			n := strings.Count(kubectl(t, c, "get", "pods", "-l", "run=httpd", "-o", "jsonpath={.items[*].spec.containers[0].image}"), next[len("httpd="):])
			if n < i%4 {
				return fmt.Sprintf("%d new pods", n)
			}
			return ""
		})
		restart(c.Kill)
		kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
	}
	eventually(t, time.Minute, func() string { return extraPods(t, c) })
	eventually(t, time.Minute, func() string {
		if n := processes(t, plug); n != 3 {
			return fmt.Sprintf("%d processes of the web app run, want 3", n)
		}
		return ""
	})
}

// TestDataDirectoryInUse: a second server on a directory refuses and says who
// holds it.
func TestDataDirectoryInUse(t *testing.T) {
	c := setup.shared
	out, err := exec.CommandContext(within(t, time.Minute), c.Binary, "server", "--data-dir", c.Dir, "--listen", "127.0.0.1:0").CombinedOutput()
	if err == nil {
		t.Fatalf("a second server on %s started\n%s", c.Dir, out)
	}
	for _, want := range []string{c.Dir, "in use", fmt.Sprintf("process %d", c.Pid())} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it says %q, want %q in it", out, want)
		}
	}
}

// TestPortInUse: the address of the API is taken.
func TestPortInUse(t *testing.T) {
	out, err := exec.CommandContext(within(t, time.Minute), setup.binary, "server", "--data-dir", t.TempDir()).CombinedOutput()
	if err == nil || !regexp.MustCompile(`:6443.*in use.*--listen`).Match(out) {
		t.Errorf("%v: it says %q, want the port and the mend", err, out)
	}
}

// TestMissingRuntime: what is not installed is named with its package.
func TestMissingRuntime(t *testing.T) {
	cmd := exec.CommandContext(within(t, time.Minute), setup.binary, "server", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0")
	cmd.Env = []string{"PATH=/nowhere"}
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("a server without runc started")
	}
	for _, want := range []string{"runc", "conmon", "apt-get install"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it says %q, want %q in it", out, want)
		}
	}
}

// TestTwoServers: servers in network namespaces of their own, with the same
// ports, addresses and host name, do not disturb each other.
func TestTwoServers(t *testing.T) {
	a, b := ownCluster(t), ownCluster(t)
	for _, c := range []*harness.Cluster{a, b} {
		if err := c.LoadImages(within(t, time.Minute), harness.WebApp("httpd:2.2.31", "2.2.31", setup.webapp)); err != nil {
			t.Fatal(err)
		}
		apply(t, c, example(t, "httpd.service.yml"))
		apply(t, c, example(t, "httpd.v1.yml"))
		kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
	}
	before := containerIDs(t, b, "run=httpd")
	kubectl(t, a, "delete", "deployment/httpd", "--cascade=foreground", "--timeout=120s")
	if err := a.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if after := containerIDs(t, b, "run=httpd"); after != before {
		t.Errorf("the other server's containers changed: %s, want %s", after, before)
	}
}

// TestOtherMountNamespace: as under `ip netns exec`, the server sees a fresh
// /sys without control groups, and after the plug was pulled it is started in
// yet another mount namespace: it finds the same containers.
func TestOtherMountNamespace(t *testing.T) {
	c := newCluster(filepath.Join(t.TempDir(), "data"))
	c.Wrap = []string{"nsenter", "--net=" + newNamespace(t),
		"unshare", "--mount", "sh", "-c", `umount -l /sys && mount -t sysfs sysfs /sys && exec "$@"`, "sh"}
	t.Cleanup(func() {
		if err := c.Destroy(context.Background()); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := c.LoadImages(within(t, time.Minute), harness.WebApp("httpd:2.2.31", "2.2.31", setup.webapp)); err != nil {
		t.Fatal(err)
	}
	apply(t, c, example(t, "httpd.v1.yml"))
	kubectl(t, c, "rollout", "status", "deployment/httpd", "--timeout=120s")
	before := containerIDs(t, c, "run=httpd")
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "-l", "run=httpd", "--timeout=120s")
	if after := containerIDs(t, c, "run=httpd"); after != before {
		t.Errorf("containers\n%safter the restart, want\n%s", after, before)
	}
	kubectl(t, c, "delete", "deployment/httpd", "--cascade=foreground", "--timeout=120s")
}

// TestNotRoot: who may not run containers is told so.
func TestNotRoot(t *testing.T) {
	cmd := exec.CommandContext(within(t, time.Minute), setup.binary, "server", "--data-dir", filepath.Join(t.TempDir(), "data"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "root") {
		t.Errorf("%v: it says %q, want that it needs root", err, out)
	}
}

// TestHealth: what is open to everybody, and the metrics, which are not.
func TestHealth(t *testing.T) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for path, want := range map[string]struct {
		code int
		body string
	}{
		"/readyz":        {200, "ok"},
		"/livez":         {200, "ok"},
		"/version":       {200, `"gitVersion": "v1.37`},
		"/metrics":       {403, "forbidden"},
		"/api/v1/nodes":  {403, "forbidden"},
		"/api/v1/nodes/": {403, "forbidden"},
	} {
		resp, err := client.Get("https://127.0.0.1:6443" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want.code || !strings.Contains(string(body), want.body) {
			t.Errorf("%s: %d %s, %v; want %d %s", path, resp.StatusCode, body, err, want.code, want.body)
		}
	}
	if metrics := kubectl(t, setup.shared, "get", "--raw", "/metrics"); !strings.Contains(metrics, "apiserver_request_total") {
		t.Error("/metrics does not count requests")
	}
}

// TestEmbeddedKubectl: `windlass kubectl` is the kubectl of the API's version.
func TestEmbeddedKubectl(t *testing.T) {
	c := setup.shared
	for _, test := range []struct{ args, want string }{
		{"version --client", `Client Version: v1\.37`},
		{"get nodes", `STATUS +ROLES +AGE +VERSION\n\S+ +Ready`},
		{"explain deployment.spec.replicas", "Number of desired pods"},
	} {
		out, err := c.Run(within(t, time.Minute), append([]string{c.Binary, "kubectl"}, strings.Fields(test.args)...)...)
		if err != nil || !regexp.MustCompile(test.want).MatchString(out) {
			t.Errorf("windlass kubectl %s: %v, %s", test.args, err, out)
		}
	}
}
