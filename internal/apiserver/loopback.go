package apiserver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
)

// loopbackConfig returns a client configuration for the parts in this process:
// requests are function calls to handler, made as the API server itself, which may
// do everything, and without a limit of their own.
func loopbackConfig(handler http.Handler) *rest.Config {
	return &rest.Config{
		Host:      "http://in-process",
		Transport: loopback{handler},
		QPS:       -1,
		ContentConfig: rest.ContentConfig{
			AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
		UserAgent: loopbackName,
	}
}

// loopbackName is what changes are signed with that parts of this process make.
const loopbackName = "windlass"

// loopbackUser is who loopback requests come from.
var loopbackUser = &user.DefaultInfo{
	Name:   user.APIServerUser,
	Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated},
}

type loopbackKey struct{}

// fromLoopback says whether a request was made by a loopback transport. Nothing
// outside the process can set a context value.
func fromLoopback(ctx context.Context) bool { return ctx.Value(loopbackKey{}) != nil }

// untrack has an object that a part of this process makes carry no managed
// fields, until somebody applies to it on the server's side. They would be half
// of a pod's size, and most of the work of each change of its status; so would
// comparing the timelines of 500 pods for those of a RolloutRecord.
func untrack(ctx context.Context, obj runtime.Object) {
	m := metaOf(obj)
	applied := slices.ContainsFunc(m.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Operation == metav1.ManagedFieldsOperationApply
	})
	if fromLoopback(ctx) && !applied {
		m.SetManagedFields(nil)
	}
}

// loopback is an http.RoundTripper that calls a handler. The response's body is
// streamed: a watch works.
type loopback struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (l loopback) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.WithValue(request.Context(), loopbackKey{}, true))
	served := request.Clone(ctx)
	served.RequestURI = request.URL.RequestURI()
	served.RemoteAddr = "127.0.0.1:0"
	served.Proto, served.ProtoMajor, served.ProtoMinor = "HTTP/2.0", 2, 0
	if served.Body == nil {
		served.Body = http.NoBody
	}
	w := &loopbackWriter{header: http.Header{}, started: make(chan struct{}), body: newStream(cancel)}
	go func() {
		defer func() {
			if request.Body != nil {
				_ = request.Body.Close()
			}
			// A handler that panics has aborted its response.
			var broken error
			if recover() != nil {
				broken = io.ErrUnexpectedEOF
			}
			w.start(http.StatusOK)
			w.body.end(broken)
		}()
		l.handler.ServeHTTP(w, served)
	}()
	select {
	case <-w.started:
	case <-request.Context().Done():
		cancel()
		return nil, request.Context().Err()
	}
	return &http.Response{
		Status:     http.StatusText(w.status),
		StatusCode: w.status,
		Proto:      "HTTP/2.0", ProtoMajor: 2,
		Header:        w.sent,
		Body:          w.body,
		ContentLength: -1,
		Request:       request,
	}, nil
}

// loopbackWriter is the handler's side of a loopback response.
type loopbackWriter struct {
	header  http.Header
	once    sync.Once
	started chan struct{}
	status  int
	sent    http.Header
	body    *stream
}

// Header implements http.ResponseWriter.
func (w *loopbackWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *loopbackWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.start(status)
	}
}

// Write implements http.ResponseWriter.
func (w *loopbackWriter) Write(p []byte) (int, error) {
	w.start(http.StatusOK)
	return w.body.Write(p)
}

// Flush implements http.Flusher: what is written can be read already.
func (w *loopbackWriter) Flush() { w.start(http.StatusOK) }

// CloseNotify implements http.CloseNotifier, which the library asks of writers
// for HTTP/2.
func (w *loopbackWriter) CloseNotify() <-chan bool { return make(chan bool) }

func (w *loopbackWriter) start(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}

// streamLimit is how many bytes a stream holds before its writer waits.
const streamLimit = 1 << 20

// stream is a pipe with memory between a handler and a client.
type stream struct {
	cancel context.CancelFunc

	mu     sync.Mutex
	wake   *sync.Cond
	buffer bytes.Buffer
	ended  error // what a reader gets when the buffer is empty
	closed bool  // by the reader
}

func newStream(cancel context.CancelFunc) *stream {
	s := &stream{cancel: cancel}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// Write appends p, waiting while the reader is far behind.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.buffer.Len() > streamLimit && !s.closed {
		s.wake.Wait()
	}
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	s.wake.Broadcast()
	return s.buffer.Write(p)
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.buffer.Len() == 0 && s.ended == nil && !s.closed {
		s.wake.Wait()
	}
	switch {
	case s.closed:
		return 0, io.ErrClosedPipe
	case s.buffer.Len() == 0:
		return 0, s.ended
	}
	n, err := s.buffer.Read(p)
	s.wake.Broadcast()
	return n, err
}

// Close is the reader's end: the request is cancelled.
func (s *stream) Close() error {
	s.mu.Lock()
	s.closed = true
	s.wake.Broadcast()
	s.mu.Unlock()
	s.cancel()
	return nil
}

// end is the writer's end; cause is nil when the response is complete.
func (s *stream) end(cause error) {
	if cause == nil {
		cause = io.EOF
	}
	s.mu.Lock()
	s.ended = cause
	s.wake.Broadcast()
	s.mu.Unlock()
	s.cancel()
}
