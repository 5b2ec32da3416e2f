package foresight

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// Facts is all that a Foresight rests on. Nothing in it is changed.
type Facts struct {
	Now       time.Time
	Namespace string
	Name      string

	// Before is the Deployment as it is, nil when there is none. After is what
	// the API server would make of it, nil when it refuses; Refused is why.
	Before  *appsv1.Deployment
	After   *appsv1.Deployment
	Refused *metav1.Status

	// Stateful is what Before and After stand for; nil when they are Deployments.
	Stateful *Stateful

	// ReplicaSets are those of the Deployment's namespace.
	ReplicaSets []*appsv1.ReplicaSet

	// Nodes and Pods are those of the whole cluster.
	Nodes []*corev1.Node
	Pods  []*corev1.Pod

	// Found is what is known of the objects that the new pods refer to. One that
	// is not in it was not looked for.
	Found map[Object]Found

	// Claims are those of the namespace; Volumes and Classes those of the cluster.
	Claims  []*corev1.PersistentVolumeClaim
	Volumes []*corev1.PersistentVolume
	Classes []*storagev1.StorageClass

	// Quotas are the ResourceQuotas of the namespace.
	Quotas []corev1.ResourceQuota

	// Registry is what is known of images that must be pulled, by the name in
	// the pod template. One that is not in it was not asked for.
	Registry map[string]Answer

	// OnFailure is the namespace's default policy, empty when it has none.
	OnFailure v1alpha1.FailurePolicy

	// Records are those of earlier rollouts in the namespace.
	Records []v1alpha1.RolloutRecord

	will *appsv1.Deployment // After, as the rollout will see it
}

// Object names an object in the Deployment's namespace.
type Object struct{ Kind, Name string }

// Presence says whether something is there.
type Presence int

// What may be known of something.
const (
	Unknown  Presence = iota // it could not be found out
	Present                  // it is there, or will be: the same file makes it
	Absent                   // it is not there
	Unserved                 // the API has no such kind
)

// Found is what is known of an object.
type Found struct {
	Presence Presence
	Keys     []string // of a Secret's or ConfigMap's data
	Why      string   // for Unknown
}

// Answer is what a registry says of an image.
type Answer struct {
	Presence Presence
	Why      string // what it said, unless the image is there
}

// controlled returns the sets that the Deployment controls.
func (f *Facts) controlled() []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, rs := range f.ReplicaSets {
		if f.Before != nil && metav1.IsControlledBy(rs, f.Before) {
			out = append(out, rs)
		}
	}
	return out
}
