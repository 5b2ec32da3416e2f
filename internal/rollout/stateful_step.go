package rollout

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AdoptPod makes a StatefulSet the controller of a pod. Before doing it, make sure
// by a live read that the set still exists and is not being deleted.
type AdoptPod struct {
	Pod *corev1.Pod
	Why string
}

// ReleasePod ends the set's control of a pod.
type ReleasePod struct {
	Pod *corev1.Pod
	Why string
}

// LabelPod gives a pod labels.
type LabelPod struct {
	Pod    *corev1.Pod
	Labels map[string]string
	Why    string
}

// CreatePod makes a pod, and before it those of its claims that are not there.
type CreatePod struct {
	Pod    *corev1.Pod
	Claims []*corev1.PersistentVolumeClaim
	Set    string // the set's name
	Why    string
}

// CreateClaims makes claims of a pod that is there.
type CreateClaims struct {
	Pod    *corev1.Pod
	Claims []*corev1.PersistentVolumeClaim
	Set    string // the set's name
	Why    string
}

// DeletePod deletes a pod with its own grace period. It must be done only while
// the pod is as it was read: the name may have another one by now.
type DeletePod struct {
	Pod *corev1.Pod
	Set string // the set's name
	Why string
}

// OwnClaim says what a claim goes with.
type OwnClaim struct {
	Claim  *corev1.PersistentVolumeClaim
	Owners []metav1.OwnerReference
	Why    string
}

// AdoptRevision makes a set the controller of a revision, as AdoptPod does.
type AdoptRevision struct {
	Revision *appsv1.ControllerRevision
	Why      string
}

// CreateRevision makes a revision. When its name is taken, read who has it, and
// decide again with that as StatefulSnapshot.Taken.
type CreateRevision struct {
	Revision *appsv1.ControllerRevision
	Why      string
}

// DescribeRevision brings a revision's number and annotations up to date.
type DescribeRevision struct {
	Revision    *appsv1.ControllerRevision
	Number      int64
	Annotations map[string]string // to set; others stay
	Why         string
}

// DeleteRevision removes a revision that is not needed for undo any more.
type DeleteRevision struct {
	Revision *appsv1.ControllerRevision
	Why      string
}

// SetStatefulStatus replaces a set's status.
type SetStatefulStatus struct {
	Status appsv1.StatefulSetStatus
}

func (s AdoptPod) String() string   { return line("adopt pod "+s.Pod.Name, s.Why) }
func (s ReleasePod) String() string { return line("release pod "+s.Pod.Name, s.Why) }
func (s DeletePod) String() string  { return line("delete pod "+s.Pod.Name, s.Why) }
func (s LabelPod) String() string   { return line("label pod "+s.Pod.Name, s.Why) }

func (s CreatePod) String() string {
	return line("create pod "+s.Pod.Name+listed(" with claim ", s.Claims), s.Why)
}

func (s CreateClaims) String() string { return line("create"+listed(" claim ", s.Claims), s.Why) }

func listed(first string, claims []*corev1.PersistentVolumeClaim) (what string) {
	for i, claim := range claims {
		what += map[bool]string{true: first, false: ", "}[i == 0] + claim.Name
	}
	return what
}

func (s OwnClaim) String() string {
	with := []string{}
	for _, ref := range s.Owners {
		with = append(with, strings.ToLower(ref.Kind)+" "+ref.Name)
	}
	if len(with) == 0 {
		return line("keep claim "+s.Claim.Name, s.Why)
	}
	return line("let claim "+s.Claim.Name+" go with "+strings.Join(with, ", "), s.Why)
}

func (s AdoptRevision) String() string  { return line("adopt revision "+s.Revision.Name, s.Why) }
func (s DeleteRevision) String() string { return line("delete revision "+s.Revision.Name, s.Why) }

func (s CreateRevision) String() string {
	return line(fmt.Sprintf("create revision %d, %s", s.Revision.Revision, s.Revision.Name), s.Why)
}

func (s DescribeRevision) String() string {
	return line(fmt.Sprintf("describe revision %d, %s", s.Number, s.Revision.Name), s.Why)
}

func (s SetStatefulStatus) String() string {
	st := &s.Status
	out := fmt.Sprintf("status replicas=%d ready=%d available=%d current=%d updated=%d",
		st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.CurrentReplicas, st.UpdatedReplicas)
	if st.CollisionCount != nil {
		out += fmt.Sprintf(" collisions=%d", *st.CollisionCount)
	}
	if st.CurrentRevision != st.UpdateRevision {
		out += fmt.Sprintf(" from %s to %s", st.CurrentRevision, st.UpdateRevision)
	}
	return out
}

// Event implements Step.
func (AdoptPod) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (ReleasePod) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (LabelPod) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (s CreatePod) Event() (Event, bool) {
	return Event{corev1.EventTypeNormal, "SuccessfulCreate", fmt.Sprintf("create Pod %s in StatefulSet %s successful", s.Pod.Name, s.Set)}, true
}

// Event implements Step.
func (CreateClaims) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (s DeletePod) Event() (Event, bool) {
	return Event{corev1.EventTypeNormal, "SuccessfulDelete", fmt.Sprintf("delete Pod %s in StatefulSet %s successful", s.Pod.Name, s.Set)}, true
}

// Event implements Step.
func (OwnClaim) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (AdoptRevision) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (CreateRevision) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (DescribeRevision) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (DeleteRevision) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (SetStatefulStatus) Event() (Event, bool) { return Event{}, false }
