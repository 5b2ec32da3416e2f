package rollout

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// TestReplicaFailureIsPassedOn: what keeps a set from making its pods is said on
// the Deployment, that of the new set first, for as long as it lasts.
func TestReplicaFailureIsPassedOn(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 3, "httpd:1")
	w.run()
	w.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "httpd:2" })
	w.step(-1)
	refused := func(rs *appsv1.ReplicaSet, why string) {
		rs.Status.Conditions = []appsv1.ReplicaSetCondition{{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: why}}
	}
	refused(w.byRevision(1), "old")
	refused(w.byRevision(2), "exceeded quota")
	w.step(-1)
	c := conditionOf(&w.deployment.Status, appsv1.DeploymentReplicaFailure)
	if c == nil || c.Status != corev1.ConditionTrue || c.Reason != "FailedCreate" || c.Message != "exceeded quota" {
		t.Fatalf("condition %+v", c)
	}
	if p := conditionOf(&w.deployment.Status, appsv1.DeploymentProgressing); p.Status != corev1.ConditionTrue {
		t.Errorf("it may still succeed before its deadline: %+v", p)
	}
	w.now = w.now.Add(601 * time.Second)
	w.step(-1)
	if p := conditionOf(&w.deployment.Status, appsv1.DeploymentProgressing); p.Reason != ReasonDeadlineExceeded {
		t.Errorf("its deadline has passed: %+v", p)
	}
	for _, rs := range w.sets {
		rs.Status.Conditions = nil
	}
	w.run()
	if c := conditionOf(&w.deployment.Status, appsv1.DeploymentReplicaFailure); c != nil {
		t.Errorf("it is over: %+v", c)
	}
	if p := conditionOf(&w.deployment.Status, appsv1.DeploymentProgressing); p.Reason != ReasonNewReplicaSetAvailable {
		t.Errorf("it is complete: %+v", p)
	}
}

// TestSetsOfAnotherDeploymentAreLeftAlone, though the selectors overlap and the
// templates are the same.
func TestSetsOfAnotherDeploymentAreLeftAlone(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 2, "httpd:1")
	other := newDeployment("other", 1, "httpd:1")
	theirs := found(w.deployment, "theirs")
	theirs.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(other, appsv1.SchemeGroupVersion.WithKind("Deployment"))}
	w.add(theirs)
	w.run()
	if rs := w.set("theirs"); !metav1.IsControlledBy(rs, other) || *rs.Spec.Replicas != 1 {
		t.Fatalf("the other's set was touched:\n%s", w.history())
	}
	if len(w.sets) != 2 || w.deployment.Status.AvailableReplicas != 2 {
		t.Fatalf("want a set of its own:\n%s", w.history())
	}
}

// TestStatusCounts: every number of the status, in the middle of a rollout.
func TestStatusCounts(t *testing.T) {
	w := newWorld()
	w.deployment = newDeployment("httpd", 4, "httpd:1")
	w.run()
	w.edit(func(d *appsv1.Deployment) {
		d.Generation = 7
		d.Spec.MinReadySeconds = 10
		d.Spec.Template.Spec.Containers[0].Image = "httpd:2"
	})
	w.now = w.now.Add(time.Minute)
	w.step(-1)
	if fresh := w.those(w.byRevision(2), func(s PodState) bool { return s.Active }); len(fresh) == 2 {
		w.setReady(fresh[0], true)
	}
	w.step(-1)
	st := w.deployment.Status
	got := appsv1.DeploymentStatus{
		ObservedGeneration: st.ObservedGeneration, Replicas: st.Replicas, UpdatedReplicas: st.UpdatedReplicas, ReadyReplicas: st.ReadyReplicas,
		AvailableReplicas: st.AvailableReplicas, UnavailableReplicas: st.UnavailableReplicas, TerminatingReplicas: st.TerminatingReplicas,
	}
	want := appsv1.DeploymentStatus{
		ObservedGeneration: 8, Replicas: 5, UpdatedReplicas: 2, ReadyReplicas: 4,
		AvailableReplicas: 3, UnavailableReplicas: 2, TerminatingReplicas: ptr.To(int32(1)),
	}
	if *got.TerminatingReplicas != *want.TerminatingReplicas {
		t.Errorf("%d terminating, want %d", *got.TerminatingReplicas, *want.TerminatingReplicas)
	}
	got.TerminatingReplicas, want.TerminatingReplicas = nil, nil
	if got.String() != want.String() {
		t.Errorf("status\n%+v, want\n%+v", got, want)
	}
}
