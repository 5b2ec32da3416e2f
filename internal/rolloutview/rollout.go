package rolloutview

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/api/v1alpha1"
)

// Facts are what the API tells of a Deployment at one moment. Sets, pods and
// records of others may be among them: they are left out.
type Facts struct {
	Deployment *appsv1.Deployment

	// StatefulSet is what the Deployment stands for (rollout.View); nil when it is
	// one itself.
	StatefulSet *appsv1.StatefulSet
	Sets        []appsv1.ReplicaSet
	Pods        []corev1.Pod
	Records     []v1alpha1.RolloutRecord
}

// Rollout is one rollout as people see it.
type Rollout struct {
	Deployment string // deployment/NAME, or statefulset/NAME
	Revision   int64
	From       int64 // the revision before; 0 when there is none
	Cause, By  string

	Phase   v1alpha1.RolloutPhase
	Reason  string
	Message string // why, or what it waits for

	StartedAt time.Time
	Took      time.Duration // so far
	Left      time.Duration // estimated; negative when it cannot be told

	Wanted    int // pods
	Available int // of the new pods
	Old       int // old pods that are there, those that stop included

	Traffic v1alpha1.TrafficCount
	Counted bool // some node has counted the traffic

	Pods  []Pod // the new ones, then the old ones, each by their creation
	Steps []v1alpha1.RolloutStep

	// Record is the rollout's, nil when there is none.
	Record *v1alpha1.RolloutRecord
}

// revisionAnnotation is on Deployments and their sets.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// Current returns the revision of a Deployment that its controller has noted, 0
// when it has not seen the Deployment's last change yet.
func Current(d *appsv1.Deployment) int64 {
	if d.Status.ObservedGeneration < d.Generation {
		return 0
	}
	return revisionOf(d)
}

func revisionOf(object metav1.Object) int64 {
	revision, err := strconv.ParseInt(object.GetAnnotations()[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return revision
}

// Of tells the rollout of a revision from the facts at a time; revision 0 is one
// that the controller has not begun yet.
func Of(facts Facts, revision int64, now time.Time) Rollout {
	d := facts.Deployment
	r := Rollout{
		Deployment: nameOf(facts), Revision: revision, Left: -1, Wanted: 1,
		Phase: v1alpha1.RolloutProgressing, Message: "the controller to see the change", Record: Record(facts, revision),
	}
	if d.Spec.Replicas != nil {
		r.Wanted = int(*d.Spec.Replicas)
	}
	if revision > 0 {
		r.judge(d)
	}
	if r.Record != nil {
		r.read(r.Record, now)
	}
	r.takePods(facts, now)
	if r.StartedAt.IsZero() { // no record: the first of the new pods tells
		if r.StartedAt = now; len(r.Pods) > 0 && r.Pods[0].New {
			r.StartedAt = r.Pods[0].began()
		}
		r.Took = now.Sub(r.StartedAt)
	}
	if !r.Phase.Over() && r.Phase != v1alpha1.RolloutPaused && r.Record != nil {
		r.Left = timeLeft(&r, facts.Records)
	}
	return r
}

// nameOf returns what people call the workload: deployment/NAME.
func nameOf(facts Facts) string {
	if facts.StatefulSet != nil {
		return "statefulset/" + facts.StatefulSet.Name
	}
	return "deployment/" + facts.Deployment.Name
}

// Record returns the record of a Deployment's revision, nil when there is none.
func Record(facts Facts, revision int64) *v1alpha1.RolloutRecord {
	for i := range facts.Records {
		if record := &facts.Records[i]; record.Spec.Target.UID == facts.Deployment.UID && record.Spec.Revision == revision {
			return record
		}
	}
	return nil
}

// judge takes the phase from the Deployment, for a rollout without a record.
func (r *Rollout) judge(d *appsv1.Deployment) {
	if d.Spec.Paused {
		r.Phase, r.Message = v1alpha1.RolloutPaused, "the Deployment is paused"
		return
	}
	if revisionOf(d) > r.Revision {
		r.Phase, r.Message = v1alpha1.RolloutSuperseded, fmt.Sprintf("revision %d is wanted", revisionOf(d))
		return
	}
	st := &d.Status
	if len(st.Conditions) == 0 && st.Replicas == int32(r.Wanted) && st.UpdatedReplicas == st.Replicas && st.AvailableReplicas == st.Replicas {
		r.Phase = v1alpha1.RolloutCompleted // as a StatefulSet, or a Deployment without a deadline, says it
	}
	for _, c := range d.Status.Conditions {
		if c.Type != appsv1.DeploymentProgressing {
			continue
		}
		r.Reason, r.Message = c.Reason, c.Message
		switch c.Reason {
		case "NewReplicaSetAvailable":
			r.Phase = v1alpha1.RolloutCompleted
		case "ProgressDeadlineExceeded":
			r.Phase = v1alpha1.RolloutFailed
		}
	}
}

// read takes what a record tells.
func (r *Rollout) read(record *v1alpha1.RolloutRecord, now time.Time) {
	spec, status := &record.Spec, &record.Status
	r.Cause, r.By = spec.Cause, author(spec.By)
	if spec.From != nil {
		r.From = spec.From.Revision
	}
	if status.Phase != "" {
		r.Phase, r.Reason, r.Message = status.Phase, status.Reason, status.Message
	}
	r.StartedAt, r.Took = spec.StartedAt.Time, took(record, now)
	r.Traffic, r.Counted = status.Count()
	r.Steps = status.Steps
}

// took is how long a rollout has taken.
func took(record *v1alpha1.RolloutRecord, now time.Time) time.Duration {
	switch {
	case record.Status.Duration != nil:
		return record.Status.Duration.Duration
	case record.Status.EndedAt != nil:
		return record.Status.EndedAt.Sub(record.Spec.StartedAt.Time)
	}
	return max(0, now.Sub(record.Spec.StartedAt.Time))
}

// author is who made a change, and with what.
func author(by *v1alpha1.Author) string {
	if by == nil {
		return ""
	}
	with := strings.Join(slices.Compact(nonEmpty(by.Client, by.Manager)), ", ")
	switch {
	case with == "":
		return by.User
	case by.User == "":
		return with
	}
	return by.User + " (" + with + ")"
}

func nonEmpty(texts ...string) []string {
	var kept []string
	for _, text := range texts {
		if text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}
