package apiserver

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// templateOf returns the pod template of a workload.
func templateOf(obj runtime.Object) *corev1.PodTemplateSpec {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *corev1.ReplicationController:
		return o.Spec.Template
	}
	return nil
}

func workloadCreate(_ context.Context, obj runtime.Object) {
	if template := templateOf(obj); template != nil {
		aliasServiceAccount(&template.Spec)
	}
}

func workloadUpdate(ctx context.Context, obj, _ runtime.Object) { workloadCreate(ctx, obj) }

// deploymentUpdate counts changed annotations as a change too, since they are
// carried on to ReplicaSets.
func deploymentUpdate(ctx context.Context, obj, old runtime.Object) {
	workloadCreate(ctx, obj)
	d, before := obj.(*appsv1.Deployment), old.(*appsv1.Deployment)
	if sameSpec(d, before) && !equality.Semantic.DeepEqual(d.Annotations, before.Annotations) {
		d.Generation = before.Generation + 1
	}
}

func deploymentStatus(obj, old runtime.Object) {
	obj.(*appsv1.Deployment).Labels = old.(*appsv1.Deployment).Labels
}

func endpointSliceCreate(_ context.Context, obj runtime.Object) {
	s := obj.(*discoveryv1.EndpointSlice)
	s.Generation = 1
	dropTopology(s)
}

// endpointSliceUpdate counts every change but of annotations and the like.
func endpointSliceUpdate(_ context.Context, obj, old runtime.Object) {
	s, before := obj.(*discoveryv1.EndpointSlice), old.(*discoveryv1.EndpointSlice)
	dropTopology(s)
	content := func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Labels: s.Labels},
			AddressType: s.AddressType, Endpoints: s.Endpoints, Ports: s.Ports,
		}
	}
	s.Generation = before.Generation
	if !equality.Semantic.DeepEqual(content(s), content(before)) {
		s.Generation++
	}
}

// dropTopology removes what an older version of the API had. In this one nodeName
// and zone are fields.
func dropTopology(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}
