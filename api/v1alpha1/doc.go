// Package v1alpha1 holds what Windlass adds to the Kubernetes API: the names of
// its annotations and labels, and its own kinds. Everything else is k8s.io/api.
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +k8s:openapi-model-package=dev.windlass.v1alpha1
// +groupName=windlass.dev
package v1alpha1

//go:generate go run k8s.io/code-generator/cmd/deepcopy-gen@v0.37.2 --output-file zz_generated.deepcopy.go --go-header-file ../../internal/apiserver/openapi/header.txt .

//go:generate go run k8s.io/code-generator/cmd/deepcopy-gen@v0.37.2 --output-file zz_generated.deepcopy.go --go-header-file ../../internal/apiserver/openapi/header.txt .
