package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

func TestMain(m *testing.M) {
	if Reexec() {
		return
	}
	if dir := os.Getenv(crashVariable); dir != "" {
		fmt.Fprintln(os.Stderr, crashing(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newStore(t *testing.T) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers can be stored by root alone")
	}
	s, err := New(Config{DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Skip("no image store here: ", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// layer packs files: path to content.
func layer(t *testing.T, files ...string) v1.Layer {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pack makes an image with a configuration from layers.
func pack(t *testing.T, version string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, func() *v1.ConfigFile {
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c = c.DeepCopy()
		c.OS, c.Architecture = "linux", "amd64"
		c.Config = v1.Config{
			Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"VERSION=" + version},
			WorkingDir: "/srv", User: "web", StopSignal: "SIGQUIT",
		}
		return c
	}())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// saved is an archive as docker save makes it.
func saved(t *testing.T, images map[string]v1.Image) []byte {
	t.Helper()
	tagged := map[name.Tag]v1.Image{}
	for ref, img := range images {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		tagged[tag] = img
	}
	var data bytes.Buffer
	if err := tarball.MultiWrite(tagged, &data); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// ociArchiveOf is an OCI image layout in a tar archive, with an annotation for each image.
func ociArchiveOf(t *testing.T, images map[string]v1.Image) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for ref, img := range images {
		options := []layout.Option{}
		if ref != "" {
			options = append(options, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref}))
		}
		if err := p.AppendImage(mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON), options...); err != nil {
			t.Fatal(err)
		}
	}
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

func load(t *testing.T, s *Store, archive []byte) []string {
	t.Helper()
	names, err := s.Load(t.Context(), bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func find(t *testing.T, s *Store, ref string) *agent.Image {
	t.Helper()
	img, err := s.Find(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestLoadDockerArchive(t *testing.T) {
	s := newStore(t)
	base := layer(t, "etc/base", "the base", "etc/both", "below")
	names := load(t, s, saved(t, map[string]v1.Image{
		"httpd:2.2.31": pack(t, "1", base, layer(t, "app", "one", "etc/both", "above")),
		"httpd:2.2.32": pack(t, "2", base, layer(t, "app", "two")),
	}))
	if want := []string{"docker.io/library/httpd:2.2.31", "docker.io/library/httpd:2.2.32"}; !slices.Equal(names, want) {
		t.Errorf("loaded %v, want %v", names, want)
	}
	one, two := find(t, s, "httpd:2.2.31"), find(t, s, "docker.io/library/httpd:2.2.32")
	if !slices.Equal(one.Entrypoint, []string{"/app"}) || !slices.Equal(one.Cmd, []string{"serve"}) || !slices.Equal(one.Env, []string{"VERSION=1"}) ||
		one.WorkingDir != "/srv" || one.User != "web" || one.StopSignal != "SIGQUIT" || one.Size <= 0 || !strings.HasPrefix(one.ID, "sha256:") {
		t.Errorf("%+v", one)
	}
	if len(one.Layers) != 2 || len(two.Layers) != 2 || one.Layers[1] != two.Layers[1] || one.Layers[0] == two.Layers[0] {
		t.Errorf("the base is not shared: %v, %v", one.Layers, two.Layers)
	}
	for i, want := range []string{"above", "below"} {
		if data, err := os.ReadFile(filepath.Join(one.Layers[i], "etc/both")); err != nil || string(data) != want {
			t.Errorf("layer %d has %q, %v", i, data, err)
		}
	}
	if layers, err := s.storage.Layers(); err != nil || len(layers) != 3 {
		t.Errorf("%d layers are stored, %v", len(layers), err)
	}
	for _, ref := range []string{one.ID, one.ID[7:], one.ID[:19], one.ID[7:19]} {
		if got := find(t, s, ref); got.ID != one.ID {
			t.Errorf("%s is %s", ref, got.ID)
		}
	}
	for _, ref := range []string{"httpd", "httpd:2.2.33", "sha256:" + strings.Repeat("0", 64), "abcd"} {
		if _, err := s.Find(t.Context(), ref); !errors.Is(err, agent.ErrImageNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := s.Find(t.Context(), "Not/A:Name:"); err == nil || errors.Is(err, agent.ErrImageNotFound) {
		t.Errorf("a bad name: %v", err)
	}
	// A restart finds the same.
	again, err := New(Config{DataDir: s.dataDir})
	if err != nil {
		t.Fatal(err)
	}
	list, err := again.List(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != one.ID || !slices.Equal(list[0].Layers, one.Layers) || !slices.Equal(list[0].Names, one.Names) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestLoadTwiceAndRename(t *testing.T) {
	s := newStore(t)
	first := pack(t, "1", layer(t, "app", "one"))
	load(t, s, saved(t, map[string]v1.Image{"app:latest": first, "other:v1": first}))
	one := find(t, s, "app")
	if len(one.Names) != 2 {
		t.Errorf("%v", one.Names)
	}
	load(t, s, saved(t, map[string]v1.Image{"app": first}))
	if got := find(t, s, "app"); got.ID != one.ID {
		t.Errorf("loaded again as %s", got.ID)
	}
	load(t, s, saved(t, map[string]v1.Image{"app": pack(t, "2", layer(t, "app", "two"))}))
	if got := find(t, s, "app"); got.ID == one.ID || got.Env[0] != "VERSION=2" {
		t.Errorf("the name did not move: %+v", got)
	}
	if got := find(t, s, "other:v1"); got.ID != one.ID || len(got.Names) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestLoadCompressed(t *testing.T) {
	plain := saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", "one"))})
	through := func(args ...string) []byte {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(plain)
		out, err := cmd.Output()
		if err != nil {
			t.Skip(args[0], ": ", err)
		}
		return out
	}
	for kind, pack := range map[string]func(*testing.T) []byte{
		"gzip": func(*testing.T) []byte { return gzipped(plain) },
		"zstd": func(t *testing.T) []byte {
			w, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			return w.EncodeAll(plain, nil)
		},
		"xz":    func(*testing.T) []byte { return through("xz", "-c") },
		"bzip2": func(*testing.T) []byte { return through("bzip2", "-c") },
	} {
		t.Run(kind, func(t *testing.T) {
			s := newStore(t)
			if names := load(t, s, pack(t)); !slices.Equal(names, []string{"docker.io/library/app:v1"}) {
				t.Error(names)
			}
			nothingTemporary(t, s)
		})
	}
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data)
	_ = w.Close()
	return out.Bytes()
}

func TestLoadOCIArchive(t *testing.T) {
	s := newStore(t)
	base := layer(t, "etc/base", "the base")
	named, tagged := pack(t, "1", base, layer(t, "app", "one")), pack(t, "2", base, layer(t, "app", "two"))
	names := load(t, s, ociArchiveOf(t, map[string]v1.Image{"registry.example/team/app:v1": named, "v2": tagged}))
	id, err := tagged.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 2 || names[0] != "registry.example/team/app:v1" || !strings.HasPrefix(names[1], "sha256:") {
		t.Errorf("loaded %v", names)
	}
	one, two := find(t, s, "registry.example/team/app:v1"), find(t, s, names[1])
	if one.Env[0] != "VERSION=1" || two.Env[0] != "VERSION=2" || len(two.Names) != 0 || one.Layers[1] != two.Layers[1] {
		t.Errorf("%+v, %+v (%s)", one, two, id)
	}
	nothingTemporary(t, s)
}

func nothingTemporary(t *testing.T, s *Store) {
	t.Helper()
	if left, err := os.ReadDir(s.tempDir()); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// What is no whole image archive is refused by what it is, and nothing of it is stored.
func TestLoadRefuses(t *testing.T) {
	good := saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", noise(15000)))})
	bad := pack(t, "2", layer(t, "app", "two"))
	twoImages := saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", noise(15000))), "bad:v1": bad})
	tarOf := func(files ...string) []byte {
		l := layer(t, files...)
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, test := range []struct {
		what    string
		archive []byte
		want    string
	}{
		{"nothing", nil, "empty"},
		{"text", []byte("I am no image.\n"), "text/plain"},
		{"compressed text", gzipped([]byte("I am no image.\n")), "text/plain"},
		{"a program", append([]byte("\x7fELF"), make([]byte, 2000)...), "ELF program"},
		{"JSON", []byte(`{"a": 1}`), "JSON"},
		{"zeros", make([]byte, 4096), "tar archive without files"},
		{"a root file system", tarOf("bin/sh", "x", "etc/passwd", "y"), "bin, etc"},
		{"no images", tarOf("manifest.json", "[]"), "names no image"},
		{"a bad manifest", tarOf("manifest.json", "{"), "manifest.json"},
		{"missing files", tarOf("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`), "l.tar is missing"},
		{"an empty index", tarOf("index.json", `{}`), "names no image"},
		{"missing blobs", tarOf("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:`+strings.Repeat("a", 64)+`","size":3}]}`), "no such file"},
		{"another machine's", tarOf("index.json", `{"manifests":[{"platform":{"os":"plan9","architecture":"mips"}}]}`), "plan9/mips"},
		{"half an archive", good[:len(good)/2], "truncated"},
		{"a quarter", good[:700], "truncated"},
		{"half a compressed archive", gzipped(good)[:300], "truncated gzip archive"},
		{"garbage after gzip's magic", []byte("\x1f\x8b\x08garbage"), "gzip"},
		{"a layer with other content", bytes.Replace(twoImages, mustDiffID(t, bad), bytes.Repeat([]byte("0"), 64), 1), "Digest did not match"},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := newStore(t)
			names, err := s.Load(t.Context(), bytes.NewReader(test.archive))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("no %q in the error: %v, %v", test.want, names, err)
			}
			t.Log(err)
			list, err := s.List(t.Context())
			if err != nil || len(list) > 0 {
				t.Errorf("stored: %+v, %v", list, err)
			}
			if layers, err := s.storage.Layers(); err != nil || len(layers) > 0 {
				t.Errorf("layers are left: %v, %v", layers, err)
			}
			nothingTemporary(t, s)
		})
	}
}

// noise is what compression makes no smaller.
func noise(size int) string {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return string(data)
}

func mustDiffID(t *testing.T, img v1.Image) []byte {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(config.RootFS.DiffIDs[0].Hex)
}

func TestLoadIntoFullDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=68m"); err != nil {
		t.Skip("no file system of its own: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, err := New(Config{DataDir: dir})
	if err != nil {
		t.Skip("no image store on tmpfs: ", err)
	}
	big := saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", noise(6<<20)))})
	for what, archive := range map[string]io.Reader{"small": bytes.NewReader(big), "endless": io.MultiReader(bytes.NewReader(big[:1<<20]), zeros{})} {
		if _, err := s.Load(t.Context(), archive); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", what, err)
		}
		nothingTemporary(t, s)
	}
	if list, err := s.List(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("stored: %+v, %v", list, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLoadCancelled(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Load(ctx, zeros{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	nothingTemporary(t, s)
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	base := layer(t, "base", "x")
	one, two := pack(t, "1", base, layer(t, "app", "one")), pack(t, "2", base, layer(t, "app", "two"))
	load(t, s, saved(t, map[string]v1.Image{"app:v1": one, "app:same": one, "app:v2": two}))
	id := find(t, s, "app:v1").ID
	inUse := map[string][]string{id: {"pod default/web"}}
	s.inUse = func(context.Context) (map[string][]string, error) { return inUse, nil }
	remove := func(ref string) error { t.Helper(); return s.Remove(t.Context(), ref, false) }
	if err := remove("app:v1"); err != nil { // the other name holds it
		t.Error(err)
	}
	if err := remove("app:same"); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "web") {
		t.Errorf("in use: %v", err)
	}
	clear(inUse)
	if err := remove("app:same"); err != nil {
		t.Error(err)
	}
	if err := remove("app:same"); !errors.Is(err, agent.ErrImageNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if layers, err := s.storage.Layers(); err != nil || len(layers) != 2 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
	left := find(t, s, "app:v2")
	if data, err := os.ReadFile(filepath.Join(left.Layers[1], "base")); err != nil || string(data) != "x" {
		t.Errorf("the shared layer: %q, %v", data, err)
	}
	if err := remove(left.ID); err != nil {
		t.Error(err)
	}
	if layers, err := s.storage.Layers(); err != nil || len(layers) != 0 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
}

// testRegistry is a registry on 127.0.0.1 that counts the requests for manifests.
func testRegistry(t *testing.T, images map[string]v1.Image) (host string, manifests *atomic.Int32) {
	t.Helper()
	manifests = new(atomic.Int32)
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			manifests.Add(1)
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "http://")
	for ref, img := range images {
		tag, err := name.NewTag(host + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, img); err != nil {
			t.Fatal(err)
		}
	}
	return host, manifests
}

func TestPull(t *testing.T) {
	s := newStore(t)
	img := pack(t, "1", layer(t, "base", "x"), layer(t, "app", "one"))
	host, manifests := testRegistry(t, map[string]v1.Image{"team/app:v1": img})
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifests.Store(0)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			got, err := s.Pull(t.Context(), host+"/team/app:v1", agent.PullOptions{})
			if err != nil || got.Digest != digest.String() || len(got.Layers) != 2 || got.Env[0] != "VERSION=1" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	group.Wait()
	if n := manifests.Load(); n > 2 {
		t.Errorf("8 pulls at once asked %d times for the manifest", n)
	}
	byDigest := host + "/team/app@" + digest.String()
	if got := find(t, s, byDigest); got.Digest != digest.String() {
		t.Errorf("%+v", got)
	}
	if got, err := s.Pull(t.Context(), byDigest, agent.PullOptions{}); err != nil || got.Digest != digest.String() {
		t.Errorf("%+v, %v", got, err)
	}
	for ref, want := range map[string]string{
		host + "/team/app:v2": "MANIFEST_UNKNOWN|manifest unknown|Unknown manifest",
		host + "/none:v1":     "NAME_UNKNOWN|name unknown|Unknown name",
		"127.0.0.1:1/app":     "connection refused",
		"sha256:abcd":         "only a name can be pulled",
		"Bad Name":            "invalid reference",
	} {
		_, err := s.Pull(t.Context(), ref, agent.PullOptions{})
		if err == nil || !slices.ContainsFunc(strings.Split(want, "|"), func(part string) bool { return strings.Contains(err.Error(), part) }) {
			t.Errorf("%s: no %q in %v", ref, want, err)
		}
		t.Log(err)
	}
	nothingTemporary(t, s)
}

func TestPullGivenUp(t *testing.T) {
	s := newStore(t)
	asked, release := make(chan struct{}, 8), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := s.Pull(ctx, strings.TrimPrefix(server.URL, "http://")+"/app", agent.PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestServeAndClient(t *testing.T) {
	s := newStore(t)
	if _, err := NewClient("/nowhere").List(t.Context()); err == nil || !strings.Contains(err.Error(), "no windlass server or agent runs on /nowhere: start one, or name its directory with --data-dir") {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 50))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in place of what a crash has left, too
		listener, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: s.Handler()}
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
	}
	client := NewClient(dir)
	archive := saved(t, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", "one"))})
	if names, err := client.Load(t.Context(), bytes.NewReader(archive)); err != nil || !slices.Equal(names, []string{"docker.io/library/app:v1"}) {
		t.Error(names, err)
	}
	for range 20 { // the answer comes through though much is unread
		bad := io.MultiReader(strings.NewReader("\x1f\x8b\x08garbage"), io.LimitReader(zeros{}, 8<<20))
		if _, err := client.Load(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "not an image archive") {
			t.Error(err)
		}
	}
	host, _ := testRegistry(t, map[string]v1.Image{"app:v2": pack(t, "2", layer(t, "app", "two"))})
	if id, err := client.Pull(t.Context(), host+"/app:v2", func(agent.PullProgress) {}); err != nil || !strings.HasPrefix(id, "sha256:") {
		t.Error(id, err)
	}
	list, err := client.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	if err := client.Remove(t.Context(), "app:v1", false); err != nil {
		t.Error(err)
	}
	if err := client.Remove(t.Context(), "app:v1", false); err == nil || !strings.Contains(err.Error(), "app:v1") {
		t.Error(err)
	}
	if _, err := s.Find(t.Context(), "app:v1"); !errors.Is(err, agent.ErrImageNotFound) {
		t.Error(fmt.Sprint(err))
	}
}
