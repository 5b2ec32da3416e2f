package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// away is a server that answers from a time on; before, half of the requests find
// nobody and the others one who cannot serve them yet.
type away struct {
	until time.Time
	tries int
}

func (a *away) RoundTrip(*http.Request) (*http.Response, error) {
	a.tries++
	code := http.StatusOK
	if time.Now().Before(a.until) {
		if a.tries%2 == 0 {
			return nil, errors.New("connection refused")
		}
		code = http.StatusServiceUnavailable
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// TestPatient: however long the server was away, a request is answered within half
// a second of its return, and asks no more than four times a second.
func TestPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const gone = 10 * time.Minute
		server := &away{until: time.Now().Add(gone)}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := patient{server}.RoundTrip(request)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(response, err)
		}
		_ = response.Body.Close()
		if late := time.Since(server.until); late > 2*patience || server.tries > int(gone/patience)+1 {
			t.Errorf("answered %s after the server was back, at try %d", late, server.tries)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := patient{&away{until: time.Now().Add(time.Hour)}}.RoundTrip(request)
		if !errors.Is(err, context.DeadlineExceeded) {
			_ = response.Body.Close()
			t.Errorf("a request that nobody waits for: %v", err)
		}
	})
}

// flapping is an API server without objects that comes and goes.
type flapping struct {
	up      bool
	watches int // those that run
	broken  chan struct{}
}

func (f *flapping) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(code int, body io.ReadCloser) (*http.Response, error) {
		return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: body, Request: r}, nil
	}
	query := r.URL.Query()
	switch {
	case !f.up:
		return nil, errors.New("connection refused")
	case query.Get("sendInitialEvents") != "":
		return answer(http.StatusBadRequest, io.NopCloser(strings.NewReader("")))
	case query.Get("watch") == "":
		return answer(http.StatusOK, io.NopCloser(strings.NewReader(`{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`)))
	}
	f.watches++
	in, out := io.Pipe()
	stop := context.AfterFunc(r.Context(), func() { _ = out.Close() })
	go func(broken <-chan struct{}) {
		<-broken
		stop()
		_ = out.CloseWithError(io.ErrUnexpectedEOF)
	}(f.broken)
	return answer(http.StatusOK, in)
}

func (f *flapping) fall() {
	f.up, f.watches = false, 0
	close(f.broken)
}

func (f *flapping) rise() { f.up, f.broken = true, make(chan struct{}) }

// TestCachesComeBack: whatever the server did, the caches of an agent watch again as
// soon as it is back.
func TestCachesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &flapping{}
		server.rise()
		api, err := newAgentCluster(&rest.Config{Host: "http://server", Transport: server}, "one")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = api.GetCache().Start(ctx) }()
		defer func() { cancel(); server.fall(); <-done }()
		if _, err := api.GetCache().GetInformer(ctx, &corev1.Node{}); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second, time.Minute, time.Hour} {
			time.Sleep(5 * time.Second)
			server.fall()
			time.Sleep(gone)
			server.rise()
			time.Sleep(2 * patience)
			synctest.Wait()
			if server.watches != 1 {
				t.Errorf("%d watches run %s after the server is back, which was away for %s", server.watches, 2*patience, gone)
			}
		}
	})
}
