package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "example.org" || r.Header.Get("X-A") != "1" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") || r.URL.RawQuery != "q=1" {
			http.Error(w, "unexpected request", http.StatusTeapot)
		}
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "sick", http.StatusServiceUnavailable) })
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	hang := make(chan struct{})
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { <-hang })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	defer close(hang)
	for _, test := range []struct {
		name string
		get  corev1.HTTPGetAction
		want string
	}{
		{"ok", corev1.HTTPGetAction{Path: "/ok?q=1", HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "example.org"}, {Name: "X-A", Value: "1"}}}, ""},
		{"no slash", corev1.HTTPGetAction{Path: "ok?q=1", HTTPHeaders: []corev1.HTTPHeader{{Name: "host", Value: "example.org"}, {Name: "X-A", Value: "1"}}}, ""},
		{"bad", corev1.HTTPGetAction{Path: "/bad"}, "HTTP probe failed with statuscode: 503: sick"},
		{"redirect here", corev1.HTTPGetAction{Path: "/here"}, "503"},
		{"redirect away", corev1.HTTPGetAction{Path: "/away"}, ""},
		{"slow", corev1.HTTPGetAction{Path: "/slow"}, "deadline exceeded"},
		{"no port of that name", corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("none")}, "invalid port number: none"},
	} {
		for _, server := range []*httptest.Server{plain, secure} {
			get := test.get
			host, port := split(t, server.Listener.Addr())
			if get.Port == (intstr.IntOrString{}) {
				get.Port = intstr.FromString("http")
			}
			if server == secure {
				get.Scheme = corev1.URISchemeHTTPS
			}
			err := Run(context.Background(), &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &get}},
				Target{Address: host, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(port)}}})
			check(t, test.name, err, test.want)
		}
	}
}

func split(t *testing.T, addr net.Addr) (string, int) {
	t.Helper()
	host, text, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func check(t *testing.T, name string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}

func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port := split(t, listener.Addr())
	p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port)}}}
	check(t, "open", Run(context.Background(), p, Target{Address: host}), "")
	listener.Close()
	check(t, "closed", Run(context.Background(), p, Target{Address: host}), "connection refused")
}

func TestGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	state.SetServingStatus("sick", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	host, port := split(t, listener.Addr())
	for service, want := range map[string]string{"": "", "sick": `service unhealthy (responded with "NOT_SERVING")`, "none": "health rpc failed"} {
		p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(port), Service: &service}}}
		check(t, service, Run(context.Background(), p, Target{Address: host}), want)
	}
}

func TestExec(t *testing.T) {
	for _, test := range []struct {
		name string
		exec Exec
		want string
	}{
		{"ok", func(context.Context, []string) (int, []byte, error) { return 0, nil, nil }, ""},
		{"fails", func(context.Context, []string) (int, []byte, error) { return 1, []byte("no\n"), nil }, "no"},
		{"silent", func(context.Context, []string) (int, []byte, error) { return 2, nil, nil }, "exit code 2"},
		{"broken", func(context.Context, []string) (int, []byte, error) { return 0, nil, errors.New("no runtime") }, "no runtime"},
		{"hangs", func(ctx context.Context, _ []string) (int, []byte, error) { <-ctx.Done(); return 0, nil, ctx.Err() }, "timed out after 1s"},
	} {
		began := time.Now()
		p := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
		check(t, test.name, Run(context.Background(), p, Target{Exec: test.exec}), test.want)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", test.name, took)
		}
	}
	check(t, "none", Run(context.Background(), &corev1.Probe{}, Target{}), "no handler")
}

// TestHook: the answer of a hook does not matter, but there has to be one; a
// server that does not speak HTTPS is asked by HTTP, without the secret.
func TestHook(t *testing.T) {
	var seen *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		w.WriteHeader(http.StatusInternalServerError)
	}))
	host, port := split(t, server.Listener.Addr())
	get := &corev1.HTTPGetAction{Path: "/stop", Port: intstr.FromInt32(int32(port)), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Why", Value: "end"}, {Name: "authorization", Value: "s"}}}
	if err := Hook(t.Context(), get, Target{Address: host}); err != nil {
		t.Errorf("an answer of 500: %v", err)
	}
	if seen.URL.Path != "/stop" || seen.Header.Get("X-Why") != "end" || seen.Header.Get("Authorization") != "s" || !strings.HasPrefix(seen.UserAgent(), "kube-lifecycle/") {
		t.Errorf("asked %s with %v", seen.URL, seen.Header)
	}
	get.Scheme = corev1.URISchemeHTTPS
	if err := Hook(t.Context(), get, Target{Address: host}); err != nil || seen.Header.Get("Authorization") != "" {
		t.Errorf("HTTPS to a server that has none: %v, asked with %v", err, seen.Header)
	}
	server.Close()
	if err := Hook(t.Context(), get, Target{Address: host}); err == nil {
		t.Error("nobody answered, and that was no error")
	}
}
