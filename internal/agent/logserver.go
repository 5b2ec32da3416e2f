package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/podlog"
)

// serve serves logs and connections to the API server until ctx ends.
func (a *Agent) serve(ctx context.Context) {
	config := a.cfg.TLS.Clone()
	server := &http.Server{Handler: a.Handler(ctx), TLSConfig: config, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ServeTLS(a.cfg.Listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		a.cfg.Log.Error("Serving the API server", "err", err)
	}
}

// Handler serves GET /containerLogs/{namespace}/{pod}/{container} with the
// query of a kubelet: follow, previous, tailLines, limitBytes, sinceSeconds,
// sinceTime, timestamps; and /portForward/{namespace}/{pod},
// /exec/{namespace}/{pod}/{container} and /attach/{namespace}/{pod}/{container} in
// the protocols of a kubelet. Streams end when ctx does.
func (a *Agent) Handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		own, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		if refusal := a.serveLog(own, w, r); refusal != nil {
			http.Error(w, refusal.Error(), refusal.code)
		}
	})
	for path, stream := range map[string]func(context.Context, http.ResponseWriter, *http.Request) *refusal{
		"/portForward/{namespace}/{pod}":        a.forwardPorts,
		"/exec/{namespace}/{pod}/{container}":   a.serveExec,
		"/attach/{namespace}/{pod}/{container}": a.serveAttach,
	} {
		handler := func(w http.ResponseWriter, r *http.Request) {
			if refusal := stream(ctx, w, r); refusal != nil {
				http.Error(w, refusal.Error(), refusal.code)
			}
		}
		mux.HandleFunc("GET "+path, handler)
		mux.HandleFunc("POST "+path, handler)
	}
	a.serveUsage(mux)
	if a.cfg.Metrics != nil {
		mux.Handle("GET /metrics", a.cfg.Metrics)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	return mux
}

// refusal is why a request gets no log.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

func (a *Agent) serveLog(ctx context.Context, w http.ResponseWriter, r *http.Request) *refusal {
	query, err := parseLogQuery(r.URL.Query(), time.Now())
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	path, ended, refused := a.findLog(ctx, r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), query.previous)
	if refused != nil {
		return refused
	}
	out := &flusher{w: w}
	w.Header().Set("Content-Type", "text/plain")
	switch err := podlog.Copy(ctx, out, path, query.Options, ended); {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return refuse(http.StatusNotFound, "the log of container %q in pod %q is not there", r.PathValue("container"), r.PathValue("pod"))
	case !out.wrote:
		return refuse(http.StatusInternalServerError, "read the log: %v", err)
	default:
		a.cfg.Log.Warn("Serving a log", "path", path, "err", err)
		return nil
	}
}

// findLog finds the log file of a container and a channel that is closed when
// the container has ended.
func (a *Agent) findLog(ctx context.Context, namespace, name, container string, previous bool) (string, <-chan struct{}, *refusal) {
	w, refused := a.workerOf(ctx, namespace, name)
	if refused != nil {
		return "", nil, refused
	}
	present, containers, err := w.records(ctx)
	if err != nil {
		return "", nil, refuse(http.StatusNotFound, "pod %q: %v", name, err)
	}
	if containerSpecOf(present, container).Image == "" {
		return "", nil, refuse(http.StatusBadRequest, "container %q in pod %q is not in the pod", container, name)
	}
	last, before := lastTwo(containers, container)
	wanted := last
	if previous {
		if wanted = before; wanted == nil {
			return "", nil, refuse(http.StatusBadRequest, "previous terminated container %q in pod %q not found", container, name)
		}
	}
	if wanted == nil {
		return a.finishedLog(present, container)
	}
	if wanted.StartError != "" {
		return "", nil, refuse(http.StatusBadRequest, "container %q in pod %q could not be started: %s", container, name, wanted.StartError)
	}
	return wanted.LogPath, w.ended(wanted.ID), nil
}

// workerOf finds the worker of a pod by the pod's name.
func (a *Agent) workerOf(ctx context.Context, namespace, name string) (*worker, *refusal) {
	var pod corev1.Pod
	if err := a.cfg.Cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return nil, refuse(http.StatusNotFound, "pod %q not found in namespace %q on this node", name, namespace)
	}
	a.mu.Lock()
	w := a.workers[pod.UID]
	a.mu.Unlock()
	if w == nil {
		return nil, refuse(http.StatusNotFound, "pod %q not found in namespace %q on this node", name, namespace)
	}
	return w, nil
}

// finishedLog finds the log of a container that the runtime has no record of:
// the status tells its attempt. Without one it has not started yet.
func (a *Agent) finishedLog(pod *corev1.Pod, container string) (string, <-chan struct{}, *refusal) {
	ended := make(chan struct{})
	close(ended)
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for _, status := range list {
			if status.Name != container {
				continue
			}
			if status.State.Waiting != nil && status.ContainerID == "" {
				return "", nil, refuse(http.StatusBadRequest, "container %q in pod %q is waiting to start: %s", container, pod.Name, status.State.Waiting.Reason)
			}
			return filepath.Join(a.podLogDir(pod), container, strconv.Itoa(int(status.RestartCount))+".log"), ended, nil
		}
	}
	return "", nil, refuse(http.StatusBadRequest, "container %q in pod %q is waiting to start: %s", container, pod.Name, ReasonContainerCreating)
}

func lastTwo(containers []Container, name string) (last, before *Container) {
	for i := range containers {
		c := &containers[i]
		switch {
		case c.Name != name:
		case last == nil || c.Attempt > last.Attempt:
			last, before = c, last
		case before == nil || c.Attempt > before.Attempt:
			before = c
		}
	}
	return last, before
}

// logQuery is what a request asks for.
type logQuery struct {
	podlog.Options
	previous bool
}

// parseLogQuery reads the query of a request for a log. Errors name the
// parameter and its value.
func parseLogQuery(values url.Values, now time.Time) (logQuery, error) {
	var q logQuery
	var errs []error
	flag := func(name string, into *bool) {
		if text := values.Get(name); text != "" {
			value, err := strconv.ParseBool(text)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s=%q is neither true nor false", name, text))
			}
			*into = value
		}
	}
	number := func(name string, least int64, into *int64) bool {
		text := values.Get(name)
		if text == "" {
			return false
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < least {
			errs = append(errs, fmt.Errorf("%s=%q is not a number of at least %d", name, text, least))
			return false
		}
		*into = value
		return true
	}
	flag("follow", &q.Follow)
	flag("previous", &q.previous)
	flag("timestamps", &q.Timestamps)
	q.HasTail = number("tailLines", 0, &q.Tail)
	q.HasLimit = number("limitBytes", 1, &q.Limit)
	var seconds int64
	if number("sinceSeconds", 1, &seconds) {
		if seconds > int64(time.Duration(1<<63-1)/time.Second) {
			seconds = int64(time.Duration(1<<63-1) / time.Second)
		}
		q.Since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if text := values.Get("sinceTime"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("sinceTime=%q is not a time as in RFC 3339", text))
		}
		q.Since = since
	}
	return q, errors.Join(errs...)
}

// flusher is a response as podlog.Copy writes it.
type flusher struct {
	w     http.ResponseWriter
	wrote bool
}

func (f *flusher) Write(p []byte) (int, error) {
	f.wrote = true
	return f.w.Write(p)
}

// Flush implements podlog.Flusher.
func (f *flusher) Flush() error {
	f.wrote = true
	err := http.NewResponseController(f.w).Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
