package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asWindlass has the test's binary be windlass.
const asWindlass = "WINDLASS_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asWindlass) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	code := Run(ctx, append([]string{"windlass"}, os.Args[1:]...))
	stop()
	os.Exit(code)
}

// windlass is a command that runs this binary as windlass, as an ordinary user
// where the test is root.
func windlass(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "windlass"), args...)
	cmd.Env = append(os.Environ(), asWindlass+"=1", "KUBECONFIG="+filepath.Join(dir, "data", "kubeconfig"), "HOME="+dir)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

const nobody = 65534

// TestHollowServer: an ordinary user starts a server with hollow nodes and rolls a
// Deployment on it with kubectl, to a new version and back.
func TestHollowServer(t *testing.T) {
	dir, err := os.MkdirTemp("", "windlass-cli-") // t.TempDir is not for other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "windlass"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	server := windlass(t, dir, "server", "--data-dir", filepath.Join(dir, "data"), "--hollow-nodes", "3", "--listen", "127.0.0.1:0")
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	kubectl := func(input string, args ...string) (string, error) {
		cmd := windlass(t, dir, append([]string{"kubectl"}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if out, err := kubectl("", "get", "--raw", "/readyz"); err == nil && out == "ok" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not ready:\n%s", log.String())
		}
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "httpd.v1.yml"))
	if err != nil {
		t.Fatal(err)
	}
	image := "jsonpath={.spec.template.spec.containers[0].image}"
	for _, step := range []struct{ input, args, want string }{
		{"", "get nodes -l windlass.dev/hollow=true -o name", "node/hollow-1\nnode/hollow-2\nnode/hollow-3"},
		{string(example), "apply -f -", "created"},
		{"", "rollout status deployment/httpd --timeout=60s", "successfully rolled out"},
		{"", "set image deployment/httpd httpd=httpd:2.2.32", "updated"},
		{"", "rollout status deployment/httpd --timeout=60s", "successfully rolled out"},
		{"", "rollout undo deployment/httpd", "rolled back"},
		{"", "rollout status deployment/httpd --timeout=60s", "successfully rolled out"},
		{"", "get deployment/httpd -o " + image, "httpd:2.2.31"},
	} {
		out, err := kubectl(step.input, strings.Fields(step.args)...)
		if err != nil || !strings.Contains(out, step.want) {
			t.Fatalf("kubectl %s: %v\n%swant %s", step.args, err, out, step.want)
		}
	}
	long := strings.Repeat("long-", 20) + "name" // too long for the value of a label
	if out, err := kubectl(strings.Replace(string(example), "name: httpd\n", "name: "+long+"\n", 1), "apply", "-f", "-"); err != nil {
		t.Fatalf("apply %s: %v\n%s", long, err, out)
	}
	status := windlass(t, dir, "rollout", "status", "deployment/"+long)
	defer time.AfterFunc(time.Minute, func() { _ = status.Cancel() }).Stop()
	if out, err := status.CombinedOutput(); err != nil || !strings.Contains(string(out), "revision 1 of deployment/"+long+": completed") {
		t.Errorf("rollout status of a long name: %v\n%s", err, out)
	}
	if out, err := kubectl("", "logs", "deployment/httpd"); err == nil || !strings.Contains(out, "serves no logs") {
		t.Errorf("logs: %v\n%s", err, out)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log.String())
	}
}

func TestBenchRefusesWhatDoesNotFit(t *testing.T) {
	b := rolloutBench{replicas: 500, nodes: 2, surge: "25%"}
	if err := b.check(); err == nil || !strings.Contains(err.Error(), "give --nodes 3 or more") {
		t.Errorf("500 replicas on 2 nodes: %v", err)
	}
	for _, wrong := range []rolloutBench{{replicas: 0, nodes: 1, surge: "1"}, {replicas: 1, nodes: 1, surge: "much"}} {
		if err := wrong.check(); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
}
