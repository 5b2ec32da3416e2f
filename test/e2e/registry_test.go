package e2e

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"windlass.dev/windlass/test/harness"
)

// serveRegistry is testscript's command
//
//	registry VARIABLE USER:PASSWORD|- REPOSITORY:TAG...
//	registry stop VARIABLE
//
// It starts a registry on this machine that has the web app under those names,
// for one user or, with -, for all, and puts its address into the variable.
func serveRegistry(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 2 {
		ts.Fatalf("usage: registry VARIABLE USER:PASSWORD|- REPOSITORY:TAG... or registry stop VARIABLE")
	}
	if args[0] == "stop" {
		server, ok := registries.Load(ts.Getenv(args[1]))
		if !ok {
			ts.Fatalf("there is no registry %s", args[1])
		}
		ts.Check(server.(io.Closer).Close())
		return
	}
	var images []harness.Image
	for _, each := range args[2:] {
		images = append(images, harness.WebApp(each, each, setup.webapp))
	}
	address, server, err := newRegistry(args[1], images...)
	ts.Check(err)
	ts.Defer(func() { _ = server.Close() })
	registries.Store(address, server)
	ts.Setenv(args[0], address)
}

// registries are those that scripts have started, by address.
var registries sync.Map

// newRegistry starts a registry that has images, and returns its address and
// what stops it.
func newRegistry(login string, images ...harness.Image) (string, io.Closer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	open := &http.Server{Handler: inner}
	filling, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() { _ = open.Serve(filling) }()
	defer open.Close()
	for _, each := range images {
		image, err := each.Pack()
		if err != nil {
			return "", nil, err
		}
		tag, err := name.NewTag(filling.Addr().String() + "/" + each.Ref)
		if err != nil {
			return "", nil, err
		}
		if err := remote.Write(tag, image); err != nil {
			return "", nil, err
		}
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, given := r.BasicAuth(); login != "-" && (!given || user+":"+password != login) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": "UNAUTHORIZED", "message": "authentication required"}}})
			return
		}
		inner.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), server, nil
}
