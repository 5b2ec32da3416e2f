package image

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/keyring"
)

// guarded is a registry with something in front of it.
type guarded struct {
	host string
	ca   *tls.Config // nil without TLS

	mu    sync.Mutex
	blobs []string                                                        // digests of the blobs that have been fetched
	front func(w http.ResponseWriter, r *http.Request) (goesThrough bool) // nil lets everything through
}

// newGuarded starts a registry with images, open until front is set.
func newGuarded(t *testing.T, withTLS bool, images map[string]v1.Image) *guarded {
	t.Helper()
	g := &guarded{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		front := g.front
		g.mu.Unlock()
		if front != nil && !front(w, r) {
			return
		}
		if _, digest, is := strings.Cut(r.URL.Path, "/blobs/"); is && r.Method == http.MethodGet {
			g.mu.Lock()
			g.blobs = append(g.blobs, digest)
			g.mu.Unlock()
		}
		inner.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if withTLS {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	g.host = server.Listener.Addr().String()
	for ref, img := range images {
		tag, err := name.NewTag(g.host + "/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, img, remote.WithTransport(server.Client().Transport)); err != nil {
			t.Fatal(err)
		}
	}
	if withTLS {
		g.ca = &tls.Config{Certificates: server.TLS.Certificates}
	}
	g.blobs = nil
	return g
}

func (g *guarded) guard(front func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.front = front
}

// fetched returns the digests of the blobs that have been fetched since it was last asked.
func (g *guarded) fetched() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	fetched := g.blobs
	g.blobs = nil
	return fetched
}

// basic lets users through by name and password.
func basic(users map[string]string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		user, password, given := r.BasicAuth()
		if given && password != "" && users[user] == password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return false
	}
}

func deny(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func as(credentials ...keyring.Credential) agent.PullOptions {
	return agent.PullOptions{Credentials: credentials}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A private registry lets in who has a secret, whichever of several, and says to others why not.
func TestPullPrivate(t *testing.T) {
	s := newStore(t)
	g := newGuarded(t, false, map[string]v1.Image{"team/app:v1": pack(t, "1", layer(t, "app", "one")), "team/app:v2": pack(t, "2", layer(t, "app", "two"))})
	g.guard(basic(map[string]string{"ann": "secret"}))
	ref := g.host + "/team/app:v1"
	ann, bob := keyring.Credential{Username: "ann", Password: "secret"}, keyring.Credential{Username: "bob", Password: "guess"}
	for what, options := range map[string]agent.PullOptions{"nobody": {}, "bob": as(bob), "bob twice": as(bob, keyring.Credential{Username: "bob", Password: "other"})} {
		if _, err := s.Pull(t.Context(), ref, options); err == nil || !strings.Contains(err.Error(), "unauthorized") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if img, err := s.Pull(t.Context(), ref, as(bob, ann)); err != nil || img.Env[0] != "VERSION=1" {
		t.Errorf("bob, then ann: %+v, %v", img, err)
	}
	// The node's own, after the pod's.
	write(t, filepath.Join(s.dataDir, "auth.json"), fmt.Sprintf(`{"auths": {%q: {"auth": "YW5uOnNlY3JldA=="}}}`, g.host))
	if img, err := s.Pull(t.Context(), g.host+"/team/app:v2", as(bob)); err != nil || img.Env[0] != "VERSION=2" {
		t.Errorf("bob, then the node: %+v, %v", img, err)
	}
}

// Who has no credentials does not get what a pull by somebody else's brings.
func TestPullSharesByCredentials(t *testing.T) {
	s := newStore(t)
	g := newGuarded(t, false, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", "one"))})
	users := basic(map[string]string{"ann": "secret"})
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	g.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if !users(w, r) {
			return false
		}
		select {
		case arrived <- struct{}{}:
		default:
		}
		<-release
		return true
	})
	annHas := make(chan error, 1)
	go func() {
		_, err := s.Pull(t.Context(), g.host+"/app:v1", as(keyring.Credential{Username: "ann", Password: "secret"}))
		annHas <- err
	}()
	<-arrived
	if _, err := s.Pull(t.Context(), g.host+"/app:v1", as()); err == nil {
		t.Error("nobody got an image that only ann may have")
	}
	close(release)
	if err := <-annHas; err != nil {
		t.Error(err)
	}
}

// A token for one repository is asked for by the user's name at another address, as Docker Hub does.
func TestPullByToken(t *testing.T) {
	s := newStore(t)
	g := newGuarded(t, false, map[string]v1.Image{"team/app:v1": pack(t, "1", layer(t, "app", "one"))})
	var scopes []string
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you?")
			return
		}
		scopes = append(scopes, r.URL.Query().Get("scope"))
		_ = json.NewEncoder(w).Encode(map[string]any{"token": "t0k3n", "expires_in": 300})
	}))
	t.Cleanup(tokens.Close)
	g.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer t0k3n" {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="test",scope="repository:team/app:pull"`, tokens.URL))
		deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return false
	})
	ref := g.host + "/team/app:v1"
	if _, err := s.Pull(t.Context(), ref, as()); err == nil || !strings.Contains(err.Error(), "who are you?") && !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("nobody: %v", err)
	}
	if _, err := s.Pull(t.Context(), ref, as(keyring.Credential{Username: "ann", Password: "secret"})); err != nil {
		t.Error(err)
	}
	if !slices.Contains(scopes, "repository:team/app:pull") {
		t.Errorf("tokens were asked for %q", scopes)
	}
}

// What certs.d says of a registry holds: its certificate is checked, also on this machine.
func TestPullChecksCertificates(t *testing.T) {
	s := newStore(t)
	g := newGuarded(t, true, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "app", "one"))})
	other := newGuarded(t, true, nil)
	ref := g.host + "/app:v1"
	certificate := func(of *guarded) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: of.ca.Certificates[0].Certificate[0]}))
	}
	if certificate(g) == certificate(other) {
		// httptest has one certificate: another authority's is any other one.
		write(t, filepath.Join(s.dataDir, "certs.d", g.host, "ca.crt"), "no certificate")
	}
	if _, err := s.Pull(t.Context(), ref, as()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("by nobody's authority: %v", err)
	}
	write(t, filepath.Join(s.dataDir, "certs.d", g.host, "ca.crt"), certificate(g))
	if _, err := s.Pull(t.Context(), ref, as()); err != nil {
		t.Error(err)
	}
}

// registries.conf has mirrors, registries that are blocked and such that are
// insecure. The data directory's goes before the machine's, and a change of it
// holds at once.
func TestPullByRegistriesConf(t *testing.T) {
	s := newStore(t)
	s.config.machine = t.TempDir()
	img := pack(t, "1", layer(t, "app", "one"))
	g := newGuarded(t, false, map[string]v1.Image{"mirror/team/app:v1": img})
	own := filepath.Join(s.dataDir, "registries.conf")
	mirrored := fmt.Sprintf("[[registry]]\nlocation = \"registry.example\"\nblocked = false\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", g.host+"/mirror")
	write(t, filepath.Join(s.config.machine, "registries.conf"), mirrored)
	got, err := s.Pull(t.Context(), "registry.example/team/app:v1", as(keyring.Credential{Username: "ann", Password: "not for mirrors"}))
	if err != nil || !slices.Equal(got.Names, []string{"registry.example/team/app:v1"}) {
		t.Errorf("from the mirror: %+v, %v", got, err)
	}
	write(t, own, "[[registry]]\nlocation = \"registry.example\"\nblocked = true\n")
	if _, err := s.Pull(t.Context(), "registry.example/team/app:v1", as()); err == nil || !strings.Contains(err.Error(), "blocked") || !strings.Contains(err.Error(), own) {
		t.Errorf("blocked: %v", err)
	}
	write(t, own, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = false\n", g.host))
	if _, err := s.Pull(t.Context(), g.host+"/mirror/team/app:v1", as()); err == nil || !strings.Contains(err.Error(), "HTTP") {
		t.Errorf("without TLS: %v", err)
	}
	write(t, own, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", g.host))
	if _, err := s.Pull(t.Context(), g.host+"/mirror/team/app:v1", as()); err != nil {
		t.Errorf("insecure: %v", err)
	}
	write(t, own, "[[registry]\n")
	if _, err := s.Pull(t.Context(), g.host+"/mirror/team/app:v1", as()); err == nil || !strings.Contains(err.Error(), own) {
		t.Errorf("a damaged file: %v", err)
	}
}

// With the digest unchanged a pull fetches no layer, and a new image only what is new.
func TestPullAgainFetchesNothing(t *testing.T) {
	s := newStore(t)
	base := layer(t, "base", noise(10000))
	g := newGuarded(t, false, map[string]v1.Image{"app:v1": pack(t, "1", base, layer(t, "app", "one")), "app:v2": pack(t, "2", base, layer(t, "app", "two"))})
	for _, test := range []struct {
		tag    string
		layers int
	}{{"v1", 2}, {"v1", 0}, {"v2", 1}, {"v1", 0}} {
		img, err := s.Pull(t.Context(), g.host+"/app:"+test.tag, as())
		if err != nil {
			t.Fatal(err)
		}
		fetched := slices.DeleteFunc(g.fetched(), func(d string) bool { return d == img.ID }) // the configuration is small
		if len(fetched) != test.layers {
			t.Errorf("%s: fetched %v, want %d layers", test.tag, fetched, test.layers)
		}
	}
}

// A pull that breaks off goes on where it was, and a later one has what came in whole.
func TestPullGoesOn(t *testing.T) {
	s := newStore(t)
	big := layer(t, "big", noise(3<<20))
	g := newGuarded(t, false, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "base", noise(5000)), big)})
	digest, err := big.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var breaks atomic.Int32
	breaks.Store(1)
	g.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, digest.String()) && breaks.Add(-1) >= 0 {
			w.WriteHeader(http.StatusBadGateway)
			return false
		}
		return true
	})
	if _, err := s.Pull(t.Context(), g.host+"/app:v1", as()); err != nil {
		t.Errorf("after one break: %v", err)
	}
	if err := s.Remove(t.Context(), g.host+"/app:v1", false); err != nil {
		t.Fatal(err)
	}
	breaks.Store(1000)
	g.fetched()
	if _, err := s.Pull(t.Context(), g.host+"/app:v1", as()); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("while it breaks: %v", err)
	}
	breaks.Store(0)
	before := g.fetched()
	img, err := s.Pull(t.Context(), g.host+"/app:v1", as())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range g.fetched() {
		if d != img.ID && slices.Contains(before, d) {
			t.Errorf("layer %s was fetched again", d)
		}
	}
	if data, err := os.ReadFile(filepath.Join(img.Layers[0], "big")); err != nil || string(data) != noise(3<<20) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// A registry that takes the connection and then says nothing, or stops in the middle
// of a layer, holds a pull for a while only; the next begins where it ended.
func TestPullFromSilentRegistry(t *testing.T) {
	s := newStore(t)
	s.patience.network = 100 * time.Millisecond
	big := layer(t, "big", noise(3<<20))
	g := newGuarded(t, false, map[string]v1.Image{"app:v1": pack(t, "1", layer(t, "base", noise(5000)), big)})
	digest, err := big.Digest()
	if err != nil {
		t.Fatal(err)
	}
	var silent string // what the path ends in
	var begun bool    // the registry answers, and stops after some bytes
	g.guard(func(w http.ResponseWriter, r *http.Request) bool {
		if silent == "" || !strings.HasSuffix(r.URL.Path, silent) {
			return true
		}
		if begun {
			w.Header().Set("Content-Length", strconv.Itoa(3<<20))
			_, _ = io.WriteString(w, noise(100_000))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		return false
	})
	for _, silent = range []string{"/v2/", "/manifests/v1", digest.String()} {
		for _, begun = range []bool{false, true} {
			if begun && silent != digest.String() {
				continue
			}
			if !begun && silent == digest.String() {
				s.patience.unpacking = 100 * time.Millisecond // a layer that has not begun does not tell of itself
			}
			_, err := s.Pull(t.Context(), g.host+"/app:v1", as())
			if err == nil || !strings.HasSuffix(err.Error(), "app:v1: the registry has sent nothing for 100ms") {
				t.Errorf("silent at %s: %v", silent, err)
			}
			s.patience.unpacking = time.Minute
		}
	}
	silent, s.patience = "", pullPatience
	before := g.fetched()
	img, err := s.Pull(t.Context(), g.host+"/app:v1", as())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range g.fetched() {
		if d != img.ID && d != digest.String() && slices.Contains(before, d) {
			t.Errorf("layer %s was fetched again", d)
		}
	}
}

// Of an index this machine's image is taken; without one the error says what there is not.
func TestPullPicksPlatform(t *testing.T) {
	s := newStore(t)
	g := newGuarded(t, false, nil)
	ours, theirs := pack(t, "ours", layer(t, "app", "x")), pack(t, "theirs", layer(t, "app", "y"))
	push := func(tag string, index v1.ImageIndex) string {
		ref, err := name.NewTag(g.host + "/" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, index); err != nil {
			t.Fatal(err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest.String()
	}
	platform := func(img v1.Image, os, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}}}
	}
	digest := push("app:v1", mutate.AppendManifests(empty.Index, platform(theirs, "plan9", "mips"), platform(ours, "linux", "amd64")))
	push("app:v2", mutate.AppendManifests(empty.Index, platform(theirs, "plan9", "mips")))
	img, err := s.Pull(t.Context(), g.host+"/app:v1", as())
	if err != nil || img.Env[0] != "VERSION=ours" {
		t.Errorf("%+v, %v", img, err)
	}
	// The digest of the index, with and without a tag, finds and pulls it too.
	for _, ref := range []string{g.host + "/app@" + digest, g.host + "/app:other@" + digest} {
		if found := find(t, s, ref); found.ID != img.ID {
			t.Errorf("%s: %+v", ref, found)
		}
		if got, err := s.Pull(t.Context(), ref, as()); err != nil || got.ID != img.ID {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := s.Pull(t.Context(), g.host+"/app:v2", as()); err == nil || !strings.Contains(err.Error(), "amd64") {
		t.Errorf("only for another machine: %v", err)
	}
	wrong := g.host + "/app@sha256:" + strings.Repeat("0", 64)
	if _, err := s.Pull(t.Context(), wrong, as()); err == nil {
		t.Errorf("%s was pulled", wrong)
	}
}

// Some pulls run at the same time, others wait for their turn and give way when nobody wants them.
func TestPullsAreBounded(t *testing.T) {
	s := newStore(t)
	var running atomic.Int32
	var most atomic.Int32
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		arrived <- struct{}{}
		<-release
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	var group sync.WaitGroup
	var begun atomic.Int32
	pull := func(ctx context.Context, i int) error {
		_, err := s.Pull(ctx, fmt.Sprintf("%s/app:v%d", host, i), agent.PullOptions{Progress: func(p agent.PullProgress) {
			if p == (agent.PullProgress{}) {
				begun.Add(1)
			}
		}})
		return err
	}
	for i := range 3 * parallelPulls {
		group.Go(func() {
			if err := pull(t.Context(), i); err == nil {
				t.Error("pulled what there is not")
			}
		})
	}
	for range parallelPulls {
		<-arrived
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pull(given, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("given up while it waits: %v", err)
	}
	if n := begun.Load(); n != parallelPulls {
		t.Errorf("%d pulls tell that they have begun", n)
	}
	close(release)
	group.Wait()
	if n := most.Load(); n > parallelPulls {
		t.Errorf("%d pulls at the same time", n)
	}
}

// Progress adds up to what the image has, and what is here already counts as done.
func TestPullTellsProgress(t *testing.T) {
	s := newStore(t)
	base := layer(t, "base", noise(20000))
	g := newGuarded(t, false, map[string]v1.Image{"app:v1": pack(t, "1", base, layer(t, "app", noise(30000))), "app:v2": pack(t, "2", base, layer(t, "app", "two"))})
	for _, tag := range []string{"v1", "v2"} {
		var all []agent.PullProgress
		if _, err := s.Pull(t.Context(), g.host+"/app:"+tag, agent.PullOptions{Progress: func(p agent.PullProgress) { all = append(all, p) }}); err != nil {
			t.Fatal(err)
		}
		last := all[len(all)-1]
		if all[0] != (agent.PullProgress{}) || last.Layers != 2 || last.LayersDone != 2 || last.Bytes != last.BytesDone || (last.Bytes > 50000) != (tag == "v1") {
			t.Errorf("%s: %+v", tag, all)
		}
		for _, p := range all {
			if p.LayersDone > p.Layers || p.BytesDone > p.Bytes || p.BytesDone < 0 {
				t.Errorf("%s: %+v", tag, p)
			}
		}
	}
}

// Who joins a call under way is told how far it is, and it ends with the last who wants it.
func TestFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		told := make(chan agent.PullProgress, 2)
		fetch := func(ctx context.Context, tell func(agent.PullProgress)) (*agent.Image, error) {
			tell(agent.PullProgress{Bytes: 7})
			<-ctx.Done()
			return nil, ctx.Err()
		}
		first, giveUpFirst := context.WithCancel(t.Context())
		second, giveUpSecond := context.WithCancel(t.Context())
		go func() { _, _ = f.do(first, "x", nil, fetch) }()
		synctest.Wait()
		go func() { _, _ = f.do(second, "x", func(p agent.PullProgress) { told <- p }, fetch) }()
		synctest.Wait()
		if p := <-told; p.Bytes != 7 {
			t.Errorf("%+v", p)
		}
		giveUpFirst()
		synctest.Wait()
		if len(f.current) != 1 {
			t.Error("the call ended though somebody wants it")
		}
		giveUpSecond()
		synctest.Wait()
		if len(f.current) != 0 {
			t.Error("the call goes on though nobody wants it")
		}
		f.stop()
	})
}

func TestPassing(t *testing.T) {
	for err, want := range map[error]bool{
		io.ErrUnexpectedEOF: true, unix.ECONNRESET: true, context.Canceled: false, unix.ECONNREFUSED: false, errors.New("manifest unknown"): false,
	} {
		if passing(fmt.Errorf("fetch: %w", err)) != want {
			t.Errorf("%v: want %v", err, want)
		}
	}
}
