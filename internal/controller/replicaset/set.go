package replicaset

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Set is what a ReplicaSet and a ReplicationController have in common.
type Set struct {
	Object client.Object // as read; not to be changed

	Replicas        int32
	MinReadySeconds int32
	Selector        labels.Selector
	Template        *corev1.PodTemplateSpec
	Status          Status
}

// Status is what a set reports.
type Status struct {
	Replicas             int32
	FullyLabeledReplicas int32
	ReadyReplicas        int32
	AvailableReplicas    int32
	TerminatingReplicas  *int32 // nil for a ReplicationController, which has no such field
	ObservedGeneration   int64

	// Failure says why pods could not be made or deleted; nil when they could.
	Failure *Failure
}

// Failure is the condition ReplicaFailure.
type Failure struct {
	Reason  string
	Message string
	Since   metav1.Time
}

// The reasons of a Failure.
const (
	ReasonFailedCreate = "FailedCreate"
	ReasonFailedDelete = "FailedDelete"
)

// going says whether the set is being deleted.
func (s *Set) going() bool { return s.Object.GetDeletionTimestamp() != nil }

// kind is a kind of set.
type kind struct {
	schema.GroupVersionKind
	object func() client.Object
	list   func() client.ObjectList
	each   func(client.ObjectList) []client.Object

	// read returns the parts of an object.
	read func(client.Object) (Set, error)

	// conditions returns an object's conditions as they become with a failure, or
	// with none, ready for JSON.
	conditions func(client.Object, *Failure) any
}

var replicaSets = kind{
	GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
	object:           func() client.Object { return &appsv1.ReplicaSet{} },
	list:             func() client.ObjectList { return &appsv1.ReplicaSetList{} },
	each: func(list client.ObjectList) []client.Object {
		return pointers[appsv1.ReplicaSet](list.(*appsv1.ReplicaSetList).Items)
	},
	read: func(object client.Object) (Set, error) {
		rs := object.(*appsv1.ReplicaSet)
		selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
		if err != nil {
			return Set{}, fmt.Errorf("selector of replica set %s: %w", rs.Name, err)
		}
		st := &rs.Status
		set := Set{
			Object:          rs,
			Replicas:        ptr.Deref(rs.Spec.Replicas, 1),
			MinReadySeconds: rs.Spec.MinReadySeconds,
			Selector:        selector,
			Template:        &rs.Spec.Template,
			Status: Status{
				Replicas:             st.Replicas,
				FullyLabeledReplicas: st.FullyLabeledReplicas,
				ReadyReplicas:        st.ReadyReplicas,
				AvailableReplicas:    st.AvailableReplicas,
				TerminatingReplicas:  ptr.To(ptr.Deref(st.TerminatingReplicas, -1)), // -1: never reported
				ObservedGeneration:   st.ObservedGeneration,
			},
		}
		for _, c := range st.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				set.Status.Failure = &Failure{Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime}
			}
		}
		return set, nil
	},
	conditions: func(object client.Object, failure *Failure) any {
		kept := slices.DeleteFunc(slices.Clone(object.(*appsv1.ReplicaSet).Status.Conditions), func(c appsv1.ReplicaSetCondition) bool {
			return c.Type == appsv1.ReplicaSetReplicaFailure
		})
		if failure != nil {
			kept = append(kept, appsv1.ReplicaSetCondition{
				Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
				Reason: failure.Reason, Message: failure.Message, LastTransitionTime: failure.Since,
			})
		}
		return kept
	},
}

var replicationControllers = kind{
	GroupVersionKind: corev1.SchemeGroupVersion.WithKind("ReplicationController"),
	object:           func() client.Object { return &corev1.ReplicationController{} },
	list:             func() client.ObjectList { return &corev1.ReplicationControllerList{} },
	each: func(list client.ObjectList) []client.Object {
		return pointers[corev1.ReplicationController](list.(*corev1.ReplicationControllerList).Items)
	},
	read: func(object client.Object) (Set, error) {
		rc := object.(*corev1.ReplicationController)
		template := rc.Spec.Template
		if template == nil {
			return Set{}, fmt.Errorf("replication controller %s has no template", rc.Name)
		}
		selector := rc.Spec.Selector
		if len(selector) == 0 {
			selector = template.Labels
		}
		st := &rc.Status
		set := Set{
			Object:          rc,
			Replicas:        ptr.Deref(rc.Spec.Replicas, 1),
			MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector:        labels.SelectorFromSet(selector),
			Template:        template,
			Status: Status{
				Replicas:             st.Replicas,
				FullyLabeledReplicas: st.FullyLabeledReplicas,
				ReadyReplicas:        st.ReadyReplicas,
				AvailableReplicas:    st.AvailableReplicas,
				ObservedGeneration:   st.ObservedGeneration,
			},
		}
		for _, c := range st.Conditions {
			if c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue {
				set.Status.Failure = &Failure{Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime}
			}
		}
		return set, nil
	},
	conditions: func(object client.Object, failure *Failure) any {
		kept := slices.DeleteFunc(slices.Clone(object.(*corev1.ReplicationController).Status.Conditions), func(c corev1.ReplicationControllerCondition) bool {
			return c.Type == corev1.ReplicationControllerReplicaFailure
		})
		if failure != nil {
			kept = append(kept, corev1.ReplicationControllerCondition{
				Type: corev1.ReplicationControllerReplicaFailure, Status: corev1.ConditionTrue,
				Reason: failure.Reason, Message: failure.Message, LastTransitionTime: failure.Since,
			})
		}
		return kept
	},
}

// pointers returns pointers to the items of a list.
func pointers[T any, P interface {
	*T
	client.Object
}](items []T) []client.Object {
	out := make([]client.Object, len(items))
	for i := range items {
		out[i] = P(&items[i])
	}
	return out
}
