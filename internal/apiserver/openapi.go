package apiserver

import (
	"fmt"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	builder2 "k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"

	"windlass.dev/windlass/internal/apiserver/openapi"
)

// describe gives the server its description of all types.
func describe(generic *genericapiserver.Config) error {
	names, err := publicNames()
	if err != nil {
		return err
	}
	generic.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, names)
	generic.OpenAPIV3Config.Info.Title = "Kubernetes"
	return nil
}

// publicNames returns the names of the types in the description. They carry the
// public versions only, so they come from a scheme without internal ones.
func publicNames() (*apiopenapi.DefinitionNamer, error) {
	public := runtime.NewScheme()
	if err := addTypes(public); err != nil {
		return nil, fmt.Errorf("register types to describe: %w", err)
	}
	return apiopenapi.NewDefinitionNamer(public), nil
}

// lazyOpenAPI serves OpenAPI v2, built when it is first asked for: few clients do
// by now, and it takes long and much memory.
func lazyOpenAPI(server *genericapiserver.GenericAPIServer) {
	const path = "/openapi/v2"
	build := sync.OnceValues(func() (http.Handler, error) {
		names, err := publicNames()
		if err != nil {
			return nil, err
		}
		config := genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, names)
		config.Info.Title, config.Info.Version = "Kubernetes", "v"+kubernetesVersion
		routes := restfuladapter.AdaptWebServices(server.Handler.GoRestfulContainer.RegisteredWebServices())
		spec, err := builder2.BuildOpenAPISpecFromRoutes(routes, config)
		if err != nil {
			return nil, err
		}
		spec.Definitions = handler.PruneDefaults(spec.Definitions)
		mux := singlePath{}
		handler.NewOpenAPIService(spec).RegisterOpenAPIVersionedService(path, &mux)
		return mux.Handler, nil
	})
	server.Handler.NonGoRestfulMux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		h, err := build()
		if err != nil {
			http.Error(w, "build the OpenAPI v2 description: "+err.Error(), http.StatusInternalServerError)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// singlePath takes the one handler that is registered.
type singlePath struct{ http.Handler }

// Handle implements the library's PathHandler.
func (s *singlePath) Handle(_ string, h http.Handler) { s.Handler = h }
