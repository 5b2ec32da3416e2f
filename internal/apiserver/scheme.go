package apiserver

import (
	"fmt"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/apiserver/defaults"
)

// addTypes registers the types of every group and version that has a served
// resource or subresource, under their public versions.
func addTypes(scheme *runtime.Scheme) error {
	builder := runtime.NewSchemeBuilder(
		corev1.AddToScheme,
		appsv1.AddToScheme,
		authenticationv1.AddToScheme,
		authorizationv1.AddToScheme,
		autoscalingv1.AddToScheme,
		coordinationv1.AddToScheme,
		discoveryv1.AddToScheme,
		eventsv1.AddToScheme,
		policyv1.AddToScheme,
		rbacv1.AddToScheme,
		schedulingv1.AddToScheme,
		storagev1.AddToScheme,
		metricsv1beta1.AddToScheme,
		v1alpha1.AddToScheme,
	)
	return builder.AddToScheme(scheme)
}

// newScheme returns the scheme that the server works with. Every public type is
// also the internal type of its group, so that conversion only sets the version;
// events.k8s.io, a second view of core's events, is the one real conversion.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := addTypes(scheme); err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	for _, gv := range versions(scheme) {
		internal := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
		for kind, goType := range scheme.KnownTypes(gv) {
			if goType.PkgPath() == metaPackage || gv == eventsv1.SchemeGroupVersion {
				continue
			}
			scheme.AddKnownTypeWithName(internal.WithKind(kind), reflect.New(goType).Interface().(runtime.Object))
		}
	}
	for _, register := range []func(*runtime.Scheme) error{addEventViews, addLogOptions, addConnectOptions, addFieldLabels, defaults.Register} {
		if err := register(scheme); err != nil {
			return nil, fmt.Errorf("complete the scheme: %w", err)
		}
	}
	return scheme, nil
}

// metaPackage has the types that every version has, such as DeleteOptions; the
// library keeps their internal forms itself.
const metaPackage = "k8s.io/apimachinery/pkg/apis/meta/v1"

// versions returns the public versions in scheme.
func versions(scheme *runtime.Scheme) []schema.GroupVersion {
	return slices.DeleteFunc(scheme.PrioritizedVersionsAllGroups(), func(gv schema.GroupVersion) bool {
		return gv.Version == runtime.APIVersionInternal || gv.Group == metav1.GroupName
	})
}
