package apiserver

import (
	"io"
	"net/http"

	genericapiserver "k8s.io/apiserver/pkg/server"
)

// noExtensions answers that nobody has defined kinds of their own, which cannot be
// done here. kubectl asks that before it says of a manifest that its kind is
// unknown, and without an answer complains about the question instead.
// Discovery does not list the path.
func noExtensions(server *genericapiserver.GenericAPIServer) {
	const path, list = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
		`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinitionList","metadata":{"resourceVersion":"1"},"items":[]}`
	server.Handler.NonGoRestfulMux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Query().Has("watch") {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, list)
	})
}
