package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	for _, test := range []struct {
		path    string
		unready bool
		code    int
		body    string
	}{
		{"/", false, 200, "httpd 2.2.31 on "},
		{"/ready", false, 200, "ready"},
		{"/ready", true, 503, "not ready"},
	} {
		server := httptest.NewServer(handler("2.2.31", 0, test.unready))
		resp, err := http.Get(server.URL + test.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		server.Close()
		if err != nil || resp.StatusCode != test.code || !strings.HasPrefix(string(body), test.body) {
			t.Errorf("%s: %d %q, %v; want %d %q", test.path, resp.StatusCode, body, err, test.code, test.body)
		}
	}
}
