package apiserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

func roundTrip(ctx context.Context, t *testing.T, handler http.HandlerFunc) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://in-process/a/b?c=d", strings.NewReader("question"))
	if err != nil {
		t.Fatal(err)
	}
	return loopback{handler}.RoundTrip(request)
}

func TestLoopbackCarriesRequestAndResponse(t *testing.T) {
	response, err := roundTrip(t.Context(), t, func(w http.ResponseWriter, r *http.Request) {
		question, _ := io.ReadAll(r.Body)
		if !fromLoopback(r.Context()) || r.RequestURI != "/a/b?c=d" {
			t.Errorf("served %s", r.RequestURI)
		}
		w.Header().Set("X", "before")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X", "after")
		_, _ = w.Write(bytes.ToUpper(question))
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusTeapot || response.Header.Get("X") != "before" || string(answer) != "QUESTION" || err != nil {
		t.Errorf("%d, %v, %q, %v", response.StatusCode, response.Header, answer, err)
	}
}

func TestLoopbackStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		response, err := roundTrip(t.Context(), t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "one")
			<-r.Context().Done()
			_, err := io.WriteString(w, "late")
			ended <- err
		})
		if err != nil {
			t.Fatal(err)
		}
		part := make([]byte, 16)
		if n, err := response.Body.Read(part); err != nil || string(part[:n]) != "one" {
			t.Fatalf("read %q, %v", part[:n], err)
		}
		_ = response.Body.Close()
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("writing to a client that left: %v", err)
		}
	})
}

func TestLoopbackWriterWaitsForTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := 0
		response, err := roundTrip(t.Context(), t, func(w http.ResponseWriter, _ *http.Request) {
			for range 8 {
				n, _ := w.Write(make([]byte, streamLimit))
				written += n
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if written > 2*streamLimit {
			t.Errorf("%d bytes are in memory for a client that reads nothing", written)
		}
		if all, err := io.ReadAll(response.Body); err != nil || len(all) != 8*streamLimit {
			t.Errorf("read %d bytes, %v", len(all), err)
		}
	})
}

func TestLoopbackSaysWhenItBreaks(t *testing.T) {
	response, err := roundTrip(t.Context(), t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an aborted response reads as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = roundTrip(ctx, t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request returns %v", err)
	}
}
