package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"windlass.dev/windlass/test/harness"
)

// TestPullFromRegistry: a pod's image comes from a registry.
func TestPullFromRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/team/web:v1"
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := harness.WebApp(ref, "v1", setup.webapp).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image); err != nil {
		t.Fatal(err)
	}
	c := setup.shared
	kubectl(t, c, "run", "pulled", "--image="+ref, "--port=80")
	t.Cleanup(func() { kubectl(t, c, "delete", "pod", "pulled", "--now") })
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/pulled", "--timeout=120s")
	if events := kubectl(t, c, "describe", "pod", "pulled"); !strings.Contains(events, `Successfully pulled image "`+ref+`"`) {
		t.Errorf("the pod's events do not say that the image was pulled:\n%s", events)
	}

	// What the registry does not have is said by its reason.
	missing := strings.Replace(ref, "v1", "v2", 1)
	kubectl(t, c, "run", "missing", "--image="+missing)
	t.Cleanup(func() {
		tell(t, c)
		kubectl(t, c, "delete", "pod", "missing", "--now")
	})
	eventually(t, time.Minute, func() string {
		described := kubectl(t, c, "describe", "pod", "missing")
		if strings.Contains(described, `Failed to pull image "`+missing+`"`) && strings.Contains(described, "ErrImagePull") && strings.Contains(described, "ImagePullBackOff") {
			return ""
		}
		return described
	})
}

// TestArchives: a compressed archive on standard input, a truncated one, and
// layers that two images share.
func TestArchives(t *testing.T) {
	c := ownCluster(t)
	archive := filepath.Join(t.TempDir(), "images.tar")
	if err := harness.SaveImages(archive, harness.WebApp("web:1", "1", setup.webapp), harness.WebApp("web:2", "2", setup.webapp)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	load := func(content []byte) ([]byte, error) {
		cmd := exec.CommandContext(within(t, time.Minute), c.Binary, "image", "load", "--data-dir", c.Dir, "-")
		cmd.Stdin = bytes.NewReader(content)
		return cmd.CombinedOutput()
	}
	if out, err := load(content[:len(content)/2]); err == nil || !strings.Contains(string(out), "truncated") {
		t.Errorf("a truncated archive: %v, %s", err, out)
	}
	list := func() string {
		out, err := c.Run(within(t, time.Minute), c.Binary, "image", "ls", "--data-dir", c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if images := list(); strings.Contains(images, "web") {
		t.Errorf("a truncated archive left\n%s", images)
	}

	var compressed bytes.Buffer
	writer := gzip.NewWriter(&compressed)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := load(compressed.Bytes()); err != nil || !strings.Contains(string(out), "docker.io/library/web:1") {
		t.Fatalf("%v: %s", err, out)
	}
	if images := list(); !strings.Contains(images, "docker.io/library/web") {
		t.Errorf("it holds\n%s", images)
	}
	// The web app is in one layer of both.
	copies := 0
	err = filepath.WalkDir(filepath.Join(c.Dir, "images"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() == "webapp" {
			copies++
		}
		return err
	})
	if err != nil || copies != 1 {
		t.Errorf("the layer that both images share is stored %d times, %v", copies, err)
	}
}

// TestImageCollection: on a disk that is fuller than images may make it, those
// that nobody uses go, and the node says that it was not enough; prune does it by hand.
func TestImageCollection(t *testing.T) {
	c := ownCluster(t, "--image-gc-high-threshold=1", "--image-gc-low-threshold=0", "--minimum-image-ttl-duration=0s")
	load := func() {
		t.Helper()
		if err := c.LoadImages(within(t, time.Minute), harness.WebApp("web:1", "1", setup.webapp), harness.WebApp("web:2", "2", setup.webapp)); err != nil {
			t.Fatal(err)
		}
	}
	list := func() string {
		out, err := c.Run(within(t, time.Minute), c.Binary, "image", "ls", "--data-dir", c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	has := func(one, two bool) string {
		images := list()
		if regexp.MustCompile(`web +1 `).MatchString(images) == one && regexp.MustCompile(`web +2 `).MatchString(images) == two {
			return ""
		}
		return images
	}
	load()
	if wrong := has(true, true); wrong != "" {
		t.Fatal(wrong)
	}
	kubectl(t, c, "run", "web", "--image=web:1", "--port=80")
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(within(t, time.Minute)); err != nil { // it looks at the disk at once
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string { return has(true, false) })
	eventually(t, time.Minute, func() string {
		events := kubectl(t, c, "get", "events", "--all-namespaces")
		if strings.Contains(events, "FreeDiskSpaceFailed") && strings.Contains(events, "ImageGCFailed") {
			return ""
		}
		return events
	})
	load()
	if _, err := c.Run(within(t, time.Minute), c.Binary, "image", "prune", "--data-dir", c.Dir); err != nil || has(true, true) != "" {
		t.Errorf("prune took an image with a name: %s, %v", list(), err)
	}
	if _, err := c.Run(within(t, time.Minute), c.Binary, "image", "prune", "--all", "--data-dir", c.Dir); err != nil || has(true, false) != "" {
		t.Errorf("after prune --all: %s, %v", list(), err)
	}
}

// TestFullDataDirectory: where there is no room, what is refused says so and
// what is there stays.
func TestFullDataDirectory(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	c := newCluster(filepath.Join(dir, "data"))
	c.Wrap = []string{"nsenter", "--net=" + newNamespace(t)}
	t.Cleanup(func() {
		if err := c.Destroy(context.Background()); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "create", "configmap", "kept", "--from-literal=a=b")
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("0123456789abcdef"), 10<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.LoadImages(within(t, time.Minute), harness.Image{Ref: "big:1", Files: map[string]string{"/big": big}, Entrypoint: []string{"/big"}})
	if err == nil || !strings.Contains(err.Error(), "space") {
		t.Errorf("an image larger than the room that is left: %v", err)
	}
	kubectl(t, c, "get", "configmap", "kept")
	kubectl(t, c, "create", "configmap", "goes-on", "--from-literal=a=b")
}
