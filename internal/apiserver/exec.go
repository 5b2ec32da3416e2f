package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	streamproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"windlass.dev/windlass/internal/hijack"
)

// execute is the exec subresource of pods, attach the one of the same name. The
// agent on the pod's node has the containers; the client's streams are passed on
// to it. A client of the newest WebSocket protocol is translated to SPDY here.
type (
	execute struct{ streams }
	attach  struct{ streams }
)

var (
	_ rest.Connecter = execute{}
	_ rest.Connecter = attach{}
)

// New implements rest.Storage.
func (execute) New() runtime.Object { return &corev1.PodExecOptions{} }

// New implements rest.Storage.
func (attach) New() runtime.Object { return &corev1.PodAttachOptions{} }

// NewConnectOptions implements rest.Connecter.
func (execute) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodExecOptions{}, false, ""
}

// NewConnectOptions implements rest.Connecter.
func (attach) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodAttachOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (e execute) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	o, ok := options.(*corev1.PodExecOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	return e.connect(ctx, name, "exec", streamWish{
		container: o.Container, command: o.Command,
		options: streamproxy.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY},
	}, responder)
}

// Connect implements rest.Connecter.
func (a attach) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	o, ok := options.(*corev1.PodAttachOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	return a.connect(ctx, name, "attach", streamWish{
		container: o.Container,
		options:   streamproxy.Options{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Tty: o.TTY},
	}, responder)
}

// streams connects clients to the standard streams of processes in pods.
type streams struct {
	pods   *registry.Store
	agents agents
}

// Destroy implements rest.Storage.
func (streams) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (streams) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// streamWish is what a client wants to be connected to.
type streamWish struct {
	container string // "" is the only one
	command   []string
	options   streamproxy.Options
}

func (s streams) connect(ctx context.Context, name, verb string, wish streamWish, responder rest.Responder) (http.Handler, error) {
	found, err := s.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := found.(*corev1.Pod)
	if wish.container, err = chooseContainer(pod, wish.container); err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	host, err := s.agents.hostPort(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	location := &url.URL{
		Scheme:   "https",
		Host:     host,
		Path:     fmt.Sprintf("/%s/%s/%s/%s", verb, pod.Namespace, pod.Name, wish.container),
		RawQuery: wish.query().Encode(),
	}
	direct := proxy.NewUpgradeAwareHandler(location, s.agents.transport, false, true, proxy.NewErrorResponder(responder))
	translated := endWithClient(streamproxy.NewStreamTranslatorHandler(location, s.agents.transport, 0, wish.options))
	return streamproxy.NewTranslatingHandler(direct, translated, wsstream.IsWebSocketRequestWithStreamCloseProtocol), nil
}

// endWithClient ends a request when its client has gone, which the translation of
// streams does not notice where the client sends nothing.
func endWithClient(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		handler.ServeHTTP(hijack.Writer{ResponseWriter: w, Context: ctx, Lost: cancel}, r.WithContext(ctx))
	})
}

// query writes the wish as agents read it.
func (w streamWish) query() url.Values {
	query := url.Values{}
	for name, set := range map[string]bool{"input": w.options.Stdin, "output": w.options.Stdout, "error": w.options.Stderr, "tty": w.options.Tty} {
		if set {
			query.Set(name, "1")
		}
	}
	query["command"] = w.command
	return query
}

// readExecOptions reads the query of a request to exec.
func readExecOptions(query url.Values, into *corev1.PodExecOptions) error {
	into.Command = query["command"]
	return readStreamOptions(query, &into.Container, &into.Stdin, &into.Stdout, &into.Stderr, &into.TTY)
}

// readAttachOptions reads the query of a request to attach.
func readAttachOptions(query url.Values, into *corev1.PodAttachOptions) error {
	return readStreamOptions(query, &into.Container, &into.Stdin, &into.Stdout, &into.Stderr, &into.TTY)
}

func readStreamOptions(query url.Values, container *string, stdin, stdout, stderr, tty *bool) error {
	*container = query.Get("container")
	for name, into := range map[string]*bool{"stdin": stdin, "stdout": stdout, "stderr": stderr, "tty": tty} {
		if values := query[name]; len(values) > 0 {
			if err := runtime.Convert_Slice_string_To_bool(&values, into, nil); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
