package apiserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcommand "k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
	"windlass.dev/windlass/internal/hijack"
)

// answering runs commands in this process.
type answering struct{ begun, ended chan struct{} }

// ExecInContainer implements remotecommand.Executor.
func (a *answering) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if command[0] == "wait" {
		close(a.begun)
		<-ctx.Done()
		close(a.ended)
		return ctx.Err()
	}
	if errOut != nil {
		_, _ = fmt.Fprintf(errOut, "%q", command)
		_ = errOut.Close()
	}
	if in != nil {
		_, _ = io.Copy(out, in)
	}
	_ = out.Close()
	return utilexec.CodeExitError{Code: 7, Err: errors.New("seven")}
}

// AttachContainer implements remotecommand.Attacher.
func (*answering) AttachContainer(_ context.Context, _, _, _ string, _ io.Reader, out, _ io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize) error {
	_, err := fmt.Fprintf(out, "tty=%v", tty)
	_ = out.Close()
	return err
}

func TestExec(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	client := kubernetes.NewForConfigOrDie(server.Config)
	to := &answering{make(chan struct{}), make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/{verb}/default/p/{container}", func(w http.ResponseWriter, r *http.Request) {
		if user := r.TLS.PeerCertificates[0].Subject.CommonName; user != "system:apiserver" {
			t.Errorf("the agent was asked by %q", user)
		}
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		own, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, r = hijack.Writer{ResponseWriter: w, Context: own, Lost: cancel}, r.WithContext(own)
		if r.PathValue("verb") == "exec" {
			remotecommand.ServeExec(w, r, to, "p", "", r.PathValue("container"), r.Form["command"], options, time.Minute, time.Minute, remotecommand.SupportedStreamingProtocols)
		} else {
			remotecommand.ServeAttach(w, r, to, "p", "", r.PathValue("container"), options, time.Minute, time.Minute, remotecommand.SupportedStreamingProtocols)
		}
	})
	addNode(t, client, "node-1", serveAgent(t, server, mux))
	must[*corev1.Node](t)(client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "hollow"}}, metav1.CreateOptions{}))
	for name, node := range map[string]string{"p": "node-1", "hollow": "hollow", "unbound": ""} {
		must[*corev1.Pod](t)(client.CoreV1().Pods("default").Create(t.Context(), pod(name), metav1.CreateOptions{}))
		if node != "" {
			if err := bind(t, client, name, node); err != nil {
				t.Fatal(err)
			}
		}
	}

	config := overTLS(t, server)
	target := func(name, verb, query string) *url.URL {
		address := kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name(name).SubResource(verb).URL()
		address.RawQuery = query
		return address
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for protocol, connect := range map[string]func(*rest.Config, *url.URL) (clientcommand.Executor, error){
		"SPDY": func(c *rest.Config, u *url.URL) (clientcommand.Executor, error) {
			return clientcommand.NewSPDYExecutor(c, http.MethodPost, u)
		},
		"WebSocket": func(c *rest.Config, u *url.URL) (clientcommand.Executor, error) {
			return clientcommand.NewWebSocketExecutor(c, http.MethodGet, u.String())
		},
	} {
		t.Run(protocol, func(t *testing.T) {
			stream := func(ctx context.Context, address *url.URL, options clientcommand.StreamOptions) error {
				executor, err := connect(config, address)
				if err != nil {
					t.Fatal(err)
				}
				return executor.StreamWithContext(ctx, options)
			}
			var out, errOut bytes.Buffer
			err := stream(t.Context(), target("p", "exec", "stdin=true&stdout=true&stderr=true&command=a&command=b+c"),
				clientcommand.StreamOptions{Stdin: bytes.NewReader(big), Stdout: &out, Stderr: &errOut})
			var exit exec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 7 || !bytes.Equal(out.Bytes(), big) || errOut.String() != `["a" "b c"]` {
				t.Errorf("%v; of %d bytes came %d, and %q", err, len(big), out.Len(), errOut.String())
			}
			out.Reset()
			err = stream(t.Context(), target("p", "attach", "stdout=true&tty=true"), clientcommand.StreamOptions{Stdout: &out, Tty: true})
			if err != nil || out.String() != "tty=true" {
				t.Errorf("attached: %v, %q", err, out.String())
			}

			to.begun, to.ended = make(chan struct{}), make(chan struct{})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			go func() {
				_ = stream(ctx, target("p", "exec", "stdout=true&command=wait"), clientcommand.StreamOptions{Stdout: io.Discard})
			}()
			<-to.begun
			leave()
			select {
			case <-to.ended:
			case <-time.After(20 * time.Second):
				t.Error("the command outlives its client")
			}
		})
	}

	for _, test := range []struct{ name, query, want string }{
		{"unbound", "command=true&stdout=true", "pod unbound does not have a host assigned"},
		{"hollow", "command=true&stdout=true", "node hollow serves no logs and no connections: its containers run no processes"},
		{"nobody", "command=true&stdout=true", `pods "nobody" not found`},
		{"p", "command=true&stdout=true&container=other", "container other is not valid for pod p"},
		{"p", "command=true", "you must specify at least 1 of stdin, stdout, stderr"},
	} {
		executor, err := clientcommand.NewSPDYExecutor(config, http.MethodPost, target(test.name, "exec", test.query))
		if err != nil {
			t.Fatal(err)
		}
		if err := executor.StreamWithContext(t.Context(), clientcommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s?%s: %v; want %s", test.name, test.query, err, test.want)
		}
	}
}
