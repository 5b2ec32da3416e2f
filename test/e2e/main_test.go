// Package e2e runs the real binary as its users do: real containers, the real
// kubectl, real traffic, in a network namespace that has loopback and nothing
// else.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// setup is what all tests share: the binary, the web app, and one server that
// the scripts use. Tests that harm a server start their own.
var setup struct {
	root      string
	binary    string
	kubectl   string
	webapp    string
	speaker   string
	hub       string // the registry that stands for the public one
	apiclient string
	shared    *harness.Cluster
}

// patience is how many times as long as they say the tests wait (WINDLASS_PATIENCE): so
// much longer an emulated machine takes for everything.
var patience = func() time.Duration {
	n, _ := strconv.Atoi(os.Getenv("WINDLASS_PATIENCE"))
	return time.Duration(max(n, 1))
}()

// binary is what is tested: `go test ./test/e2e -args -windlass PATH`.
var binary = flag.String("windlass", filepath.Join("..", "..", "bin", "windlass"), "the `path` of the binary to test; its name must be windlass")

func TestMain(m *testing.M) {
	flag.Parse()
	if err := harness.EnterNamespace(); errors.Is(err, harness.ErrNoNamespace) {
		fmt.Println("SKIP: end-to-end tests:", err)
		os.Exit(0)
	} else if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "windlass-e2e-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := prepare(ctx, dir); err != nil {
		fmt.Println("prepare:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Printf("--- complaints of the shared server:\n%s\n", setup.shared.Complaints())
	}
	if err := setup.shared.Destroy(context.Background()); err != nil {
		fmt.Println("destroy:", err)
		return 1
	}
	return code
}

func prepare(ctx context.Context, dir string) error {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	setup.root = root
	if setup.binary, err = filepath.Abs(*binary); err != nil {
		return err
	}
	if _, err := os.Stat(setup.binary); err != nil {
		return fmt.Errorf("windlass is not built; run `make build` first: %w", err)
	}
	if setup.kubectl, err = exec.LookPath("kubectl"); err != nil {
		setup.kubectl = filepath.Join(dir, "kubectl")
		script := fmt.Sprintf("#!/bin/sh\nexec %q kubectl \"$@\"\n", setup.binary)
		if err := os.WriteFile(setup.kubectl, []byte(script), 0o755); err != nil {
			return err
		}
	}
	if setup.webapp, err = harness.BuildWebApp(root, dir); err != nil {
		return err
	}
	if setup.apiclient, err = harness.Build(root, dir, "./test/e2e/apiclient"); err != nil {
		return err
	}
	if setup.speaker, err = harness.Build(root, dir, "./test/e2e/speaker"); err != nil {
		return err
	}
	setup.shared = newCluster(filepath.Join(dir, "shared"), otherDisk...)
	if err := mirrorHub(setup.shared.Dir); err != nil {
		return err
	}
	if err := setup.shared.Start(ctx); err != nil {
		return err
	}
	return setup.shared.LoadImages(ctx, images()...)
}

// mirrorHub starts a registry that stands for the public one, with what a
// manifest names without a tag and so has to be pulled, and has a server ask it.
func mirrorHub(data string) error {
	var err error
	setup.hub, _, err = newRegistry("-", harness.WebApp("luksa/kubia-pet:latest", "pet", setup.webapp, "PORT=8080", "DATA=/var/data/kubia.txt"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	conf := fmt.Sprintf("[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", setup.hub)
	return os.WriteFile(filepath.Join(data, "registries.conf"), []byte(conf), 0o600)
}

// otherDisk has a node neither delete unused images, which later tests need, nor
// be short of disk when the disk of this machine is full by other things.
var otherDisk = []string{"--image-gc-high-threshold=100", "--eviction-hard=memory.available<100Mi"}

func newCluster(dir string, args ...string) *harness.Cluster {
	return &harness.Cluster{Binary: setup.binary, Dir: dir, Kubectl: setup.kubectl, Args: args}
}

// apiClient describes an image that asks the API, beside busybox.
func apiClient(ref string) harness.Image {
	image := harness.Busybox(ref)
	image.Files["/bin/apiclient"] = setup.apiclient
	return image
}

// images are all that the tests and the standard texts' manifests use.
func images() []harness.Image {
	list := []harness.Image{
		harness.Busybox("busybox:1"),
		apiClient("apiclient:1"),
		{Ref: "speaker:1", Files: map[string]string{"/speaker": setup.speaker}, Entrypoint: []string{"/speaker"}},
		harness.WebApp("httpd:2.2.31", "2.2.31", setup.webapp),
		harness.WebApp("httpd:2.2.32", "2.2.32", setup.webapp),
		harness.WebApp("flask-app:1.0", "1.0", setup.webapp, "PORT=5000"),
		harness.WebApp("bebullish/demo:v1", "v1", setup.webapp, "PORT=8080"),
		harness.WebApp("bebullish/demo:v2", "v2", setup.webapp, "PORT=8080"),
	}
	for _, tag := range []string{"v1", "v2", "v3", "v4"} {
		list = append(list, harness.WebApp("luksa/kubia:"+tag, tag, setup.webapp, "PORT=8080"))
	}
	return list
}

// ownCluster starts a server for one test, in its own data directory and in a
// network namespace of its own.
func ownCluster(t *testing.T, args ...string) *harness.Cluster {
	t.Helper()
	return ownClusterOn(t, filepath.Join(t.TempDir(), "data"), slices.Concat(otherDisk, args)...)
}

// ownClusterOn is ownCluster with a data directory of the test's choice.
func ownClusterOn(t *testing.T, dir string, args ...string) *harness.Cluster {
	t.Helper()
	c := newCluster(dir, args...)
	c.Wrap = []string{"nsenter", "--net=" + newNamespace(t)}
	t.Cleanup(func() {
		tell(t, c)
		if err := c.Destroy(context.Background()); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// tell logs, of a test that has failed, what is wrong in its cluster.
func tell(t *testing.T, c *harness.Cluster) {
	if t.Failed() {
		t.Logf("what is wrong:\n%s--- complaints of the server:\n%s", c.Trouble(context.Background(), ""), c.Complaints())
	}
}

// newNamespace makes a network namespace that lasts as long as the test and
// returns its path.
func newNamespace(t *testing.T) string {
	t.Helper()
	holder := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600")
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	return fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
}

// within returns a context that ends with the test, or after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d*patience)
	t.Cleanup(cancel)
	return ctx
}

// kubectl runs kubectl and fails the test if it fails.
func kubectl(t *testing.T, c *harness.Cluster, args ...string) string {
	t.Helper()
	// Not t.Context(): cleanups run kubectl too.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute*patience)
	defer cancel()
	args = slices.Clone(args)
	for i, arg := range args {
		if text, is := strings.CutPrefix(arg, "--timeout="); is {
			limit, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			args[i] = "--timeout=" + (limit * patience).String()
		}
	}
	out, err := c.KubectlRun(ctx, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// apply applies a manifest from text.
func apply(t *testing.T, c *harness.Cluster, manifest string) {
	t.Helper()
	if _, err := c.RunInput(within(t, time.Minute), manifest, c.Kubectl, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until check returns "", and fails with what it last said.
func eventually(t *testing.T, atMost time.Duration, check func() string) {
	t.Helper()
	deadline := time.Now().Add(atMost * patience)
	for {
		missing := check()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", atMost*patience, missing)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// example reads a manifest of the examples.
func example(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(setup.root, "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
