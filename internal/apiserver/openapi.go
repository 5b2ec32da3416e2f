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

// describe gives the server its description of all types. The names carry the
// public versions only, so they come from a scheme without internal ones.
func describe(generic *genericapiserver.Config, _ *runtime.Scheme) error {
	public := runtime.NewScheme()
	if err := addTypes(public); err != nil {
		return fmt.Errorf("register types to describe: %w", err)
	}
	namer := apiopenapi.NewDefinitionNamer(public)
	generic.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	generic.OpenAPIV3Config.Info.Title = "Kubernetes"
	return nil
}

// lazyOpenAPI serves OpenAPI v2, built when it is first asked for: few clients do
// by now, and it takes long and much memory.
func lazyOpenAPI(server *genericapiserver.GenericAPIServer, _ *runtime.Scheme) {
	const path = "/openapi/v2"
	build := sync.OnceValues(func() (http.Handler, error) {
		public := runtime.NewScheme()
		if err := addTypes(public); err != nil {
			return nil, err
		}
		config := genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, apiopenapi.NewDefinitionNamer(public))
		config.Info.Title = "Kubernetes"
		config.Info.Version = "v" + kubernetesVersion
		spec, err := builder2.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(server.Handler.GoRestfulContainer.RegisteredWebServices()), config)
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
