package server

import (
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// patience is how long a request of a patient transport that nobody answered waits
// for its next try, at least; at most it is twice that, so that not all come at once.
const patience = 250 * time.Millisecond

// patient has requests wait until the API server answers. Caches see by it what is
// new as soon as the server is back: by themselves they look again at growing
// distances, of up to a minute when it was gone for long or several times, and a
// proxy that knows nothing of a drain meanwhile sends requests to pods that end.
// It is for requests without a body whose context ends when nobody wants them any more.
type patient struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(request *http.Request) (*http.Response, error) {
	for {
		response, err := p.RoundTripper.RoundTrip(request)
		if err == nil && response.StatusCode < http.StatusInternalServerError || request.Context().Err() != nil || request.Body != nil {
			return response, err
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16))
			_ = response.Body.Close()
		}
		select {
		case <-request.Context().Done():
			return nil, request.Context().Err()
		case <-time.After(patience + rand.N(patience)):
		}
	}
}
