package rollout

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// View is a StatefulSet in the form of a Deployment, for those who tell of
// rollouts and do nothing about them: each revision is a set, with the pods that
// have it. What is kept of one kind's rollouts is kept of the other's.
type View struct {
	// Deployment has the Kind and the metadata of the StatefulSet, with the number
	// of its wanted revision as AnnotationRevision once that is known.
	Deployment *appsv1.Deployment

	// Sets have names, UIDs and annotations of the revisions, and as many replicas
	// as there are active pods.
	Sets []*appsv1.ReplicaSet

	// Pods are the pods with the sets for controllers.
	Pods []*corev1.Pod
}

// ViewOf returns the view of a StatefulSet, the revisions that it controls and
// its pods, which it does not change. Revisions without a template are left out.
func ViewOf(set *appsv1.StatefulSet, revisions []*appsv1.ControllerRevision, pods []*corev1.Pod) View {
	v := View{Deployment: &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: statefulSetKind.GroupVersion().String(), Kind: statefulSetKind.Kind},
		ObjectMeta: *set.ObjectMeta.DeepCopy(),
		Spec: appsv1.DeploymentSpec{
			Replicas:        set.Spec.Replicas,
			Selector:        set.Spec.Selector,
			Template:        set.Spec.Template,
			MinReadySeconds: set.Spec.MinReadySeconds,
			Strategy:        appsv1.DeploymentStrategy{Type: appsv1.DeploymentStrategyType(set.Spec.UpdateStrategy.Type)},
		},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: set.Status.ObservedGeneration,
			Replicas:           set.Status.Replicas,
			UpdatedReplicas:    set.Status.UpdatedReplicas,
			ReadyReplicas:      set.Status.ReadyReplicas,
			AvailableReplicas:  set.Status.AvailableReplicas,
		},
	}}
	unavailable := maxUnavailableOf(set)
	v.Deployment.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(intstr.FromInt32(unavailable)), MaxSurge: ptr.To(intstr.FromInt32(0))}
	_, replicas := ordinalsOf(set)
	if kept := min(partitionOf(set), replicas); kept > 0 && set.Status.UpdatedReplicas >= replicas-kept {
		v.Deployment.Status.UpdatedReplicas = max(replicas, set.Status.UpdatedReplicas) // nothing more is to be updated
	}
	for _, r := range revisions {
		if template, err := TemplateOf(r); err == nil {
			v.Sets = append(v.Sets, viewOfRevision(set, r, template))
			if r.Name == set.Status.UpdateRevision && set.Status.ObservedGeneration >= set.Generation {
				v.Deployment.Annotations = with(v.Deployment.Annotations, AnnotationRevision, strconv.FormatInt(r.Revision, 10))
			}
		}
	}
	for _, pod := range pods {
		at := slices.IndexFunc(v.Sets, func(rs *appsv1.ReplicaSet) bool { return rs.Name == revisionOfPod(pod) })
		if at < 0 {
			continue
		}
		seen := *pod
		seen.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(v.Sets[at], appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
		v.Pods = append(v.Pods, &seen)
		if StateOf(pod).Active {
			*v.Sets[at].Spec.Replicas++
		}
	}
	return v
}

func viewOfRevision(set *appsv1.StatefulSet, r *appsv1.ControllerRevision, template *corev1.PodTemplateSpec) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: *r.ObjectMeta.DeepCopy(),
		Spec: appsv1.ReplicaSetSpec{
			Replicas:        ptr.To(int32(0)),
			MinReadySeconds: set.Spec.MinReadySeconds,
			Selector:        set.Spec.Selector,
			Template:        *template,
		},
	}
	rs.Annotations = with(rs.Annotations, AnnotationRevision, strconv.FormatInt(r.Revision, 10))
	return rs
}
