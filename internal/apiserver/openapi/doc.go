// Package openapi holds the OpenAPI definitions of every type that the API
// server serves, generated from the comments in k8s.io/api, k8s.io/apimachinery
// and our own api. `kubectl explain`, field validation and server-side
// apply all read them.
package openapi

//go:generate go run k8s.io/kube-openapi/cmd/openapi-gen@v0.0.0-20260721132016-d427ff9ee9ad --output-dir . --output-pkg windlass.dev/windlass/internal/apiserver/openapi --output-file zz_generated.go --output-model-name-file zz_generated.model_name.go --go-header-file header.txt --report-filename /dev/null --readonly-pkg k8s.io/api/... --readonly-pkg k8s.io/apimachinery/... --readonly-pkg k8s.io/metrics/... k8s.io/api/core/v1 k8s.io/api/apps/v1 k8s.io/api/autoscaling/v1 k8s.io/api/coordination/v1 k8s.io/api/discovery/v1 k8s.io/api/events/v1 k8s.io/api/policy/v1 k8s.io/api/storage/v1 k8s.io/api/scheduling/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/rbac/v1 k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/util/intstr k8s.io/apimachinery/pkg/version k8s.io/metrics/pkg/apis/metrics/v1beta1 windlass.dev/windlass/api/v1alpha1
