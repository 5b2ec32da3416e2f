package apiserver

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"windlass.dev/windlass/internal/pki"
)

// TestAgentThatHangs: an agent that takes connections and says nothing, as one does
// whose machine hangs, is given up.
func TestAgentThatHangs(t *testing.T) {
	authority, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a, err := newAgents(Config{Authority: authority}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.transport.DialContext == nil {
			t.Error("a machine that is gone is waited for as long as the kernel does, two minutes")
		}
		here, there := net.Pipe()
		defer there.Close()
		go func() { // it hears and says nothing
			buffer := make([]byte, 1024)
			for {
				if _, err := there.Read(buffer); err != nil {
					return
				}
			}
		}()
		a.transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return here, nil }
		client := &http.Client{Transport: a.transport, Timeout: time.Hour}
		began := time.Now()
		response, err := client.Get("https://192.0.2.7:10250/containerLogs/default/web/c")
		if err == nil {
			response.Body.Close()
			t.Fatal("it answers")
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("given up after %v", took)
		}
	})
}
