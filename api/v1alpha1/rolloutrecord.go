package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RolloutRecord is what is known of one rollout: who began it, when and why,
// what was done, what happened to each pod, which traffic there was meanwhile,
// and how it ended. It is kept as long as the revision that it led to: the set
// of that revision owns it.
type RolloutRecord struct {
	metav1.TypeMeta `json:",inline"`

	// Standard object's metadata.
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is known of the rollout when it begins.
	Spec RolloutRecordSpec `json:"spec,omitempty"`

	// What has happened so far.
	Status RolloutRecordStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RolloutRecordList is a list of RolloutRecords.
type RolloutRecordList struct {
	metav1.TypeMeta `json:",inline"`

	// Standard list metadata.
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the records.
	Items []RolloutRecord `json:"items"`
}

// RolloutRecordSpec is what is known of a rollout when it begins. It does not
// change, with one exception: a cause that the user gives later replaces the
// computed one.
type RolloutRecordSpec struct {
	// Target is what was changed: a Deployment, or a Service whose selector was
	// switched from the pods of one controller to those of another.
	Target RolloutTarget `json:"target"`

	// Revision is the number of the rollout, counted from 1 for each target.
	Revision int64 `json:"revision"`

	// From is where the pods come from; absent when there were none.
	From *RolloutSide `json:"from,omitempty"`

	// To is what the rollout leads to.
	To RolloutSide `json:"to"`

	// Cause says why: in the user's words (the annotation
	// kubernetes.io/change-cause), else computed from the changes.
	Cause string `json:"cause,omitempty"`

	// CauseComputed says that Cause was computed and not given.
	CauseComputed bool `json:"causeComputed,omitempty"`

	// Changes are the fields of the pod template that changed.
	Changes []FieldChange `json:"changes,omitempty"`

	// By is who made the change; absent when that is not known.
	By *Author `json:"by,omitempty"`

	// Strategy is how the pods are replaced, with percentages made into numbers.
	Strategy RolloutStrategy `json:"strategy,omitempty"`

	// Services are the names of the Services that select the pods, in order.
	// Their traffic is counted in the status.
	Services []string `json:"services,omitempty"`

	// StartedAt is when the rollout began.
	StartedAt metav1.MicroTime `json:"startedAt"`
}

// RolloutTarget names an object in the record's namespace.
type RolloutTarget struct {
	// APIVersion is the group and version of the object: apps/v1.
	APIVersion string `json:"apiVersion"`

	// Kind is the object's: Deployment or Service.
	Kind string `json:"kind"`

	// Name is the object's.
	Name string `json:"name"`

	// UID tells the object from others that had its name.
	UID types.UID `json:"uid"`
}

// RolloutSide is one side of a rollout: the old pods or the new ones.
type RolloutSide struct {
	// Name is that of the ReplicaSet or ReplicationController.
	Name string `json:"name"`

	// Revision is the one that the set had when the rollout began; on the new
	// side, that of the rollout.
	Revision int64 `json:"revision,omitempty"`

	// Images are those of the containers, in their order.
	Images []string `json:"images,omitempty"`
}

// FieldChange is one difference between two pod templates.
type FieldChange struct {
	// Path is the field as a user would write it, with list elements by their
	// name: spec.containers[httpd].image.
	Path string `json:"path"`

	// From is the old value as JSON without the quotes of a plain string; empty
	// when the field was not set.
	From string `json:"from,omitempty"`

	// To is the new value, as From.
	To string `json:"to,omitempty"`
}

// Author is who made a change, as the API server saw the request.
type Author struct {
	// User is the authenticated name.
	User string `json:"user,omitempty"`

	// Client is the program, by the product token of its User-Agent:
	// kubectl/v1.37.2.
	Client string `json:"client,omitempty"`

	// Manager is the field manager of the request: kubectl-set,
	// kubectl-client-side-apply.
	Manager string `json:"manager,omitempty"`
}

// RolloutStrategy is a strategy with its percentages made into numbers.
type RolloutStrategy struct {
	// Type is RollingUpdate, Recreate, or Switch for a Service's selector.
	Type string `json:"type,omitempty"`

	// Replicas is how many pods are wanted.
	Replicas int32 `json:"replicas"`

	// MaxSurge is how many pods more than that there may be.
	MaxSurge int32 `json:"maxSurge,omitempty"`

	// MaxUnavailable is how many pods fewer than that may be available.
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`

	// MinReadySeconds is how long a pod must be ready to count as available.
	MinReadySeconds int32 `json:"minReadySeconds,omitempty"`

	// ProgressDeadlineSeconds is how long a rollout may go without progress;
	// absent when there is no deadline.
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds,omitempty"`

	// OnFailure is what happens when the rollout fails.
	OnFailure FailurePolicy `json:"onFailure,omitempty"`
}

// RolloutPhase is where a rollout is.
type RolloutPhase string

// The phases of a rollout. All but the first two are outcomes, and last.
const (
	RolloutProgressing RolloutPhase = "Progressing"
	RolloutPaused      RolloutPhase = "Paused"

	// RolloutCompleted: all pods are new and available.
	RolloutCompleted RolloutPhase = "Completed"

	// RolloutRolledBack: it failed, and the earlier revision was brought back
	// without a hand.
	RolloutRolledBack RolloutPhase = "RolledBack"

	// RolloutSuperseded: another revision was wanted before it was complete.
	RolloutSuperseded RolloutPhase = "Superseded"

	// RolloutFailed: it missed its deadline, or cannot succeed, and nothing
	// else was wanted. A failed rollout that completes after all becomes
	// Completed.
	RolloutFailed RolloutPhase = "Failed"
)

// Over says whether the phase is an outcome. A Failed rollout may still
// complete.
func (p RolloutPhase) Over() bool {
	switch p {
	case RolloutCompleted, RolloutRolledBack, RolloutSuperseded, RolloutFailed:
		return true
	}
	return false
}

// RolloutRecordStatus is what has happened so far.
type RolloutRecordStatus struct {
	// Phase is where the rollout is: Progressing, Paused, Completed, RolledBack,
	// Superseded or Failed.
	Phase RolloutPhase `json:"phase,omitempty"`

	// Reason is why the phase is what it is, in one CamelCase word. While a
	// rollout goes on it is what it waits for.
	Reason string `json:"reason,omitempty"`

	// Message is Reason for people.
	Message string `json:"message,omitempty"`

	// EndedAt is when the outcome was reached.
	EndedAt *metav1.MicroTime `json:"endedAt,omitempty"`

	// Duration is how long it took to reach the outcome.
	Duration *metav1.Duration `json:"duration,omitempty"`

	// Replicas are the active pods of both sides.
	Replicas int32 `json:"replicas"`

	// UpdatedReplicas are the active pods of the new side.
	UpdatedReplicas int32 `json:"updatedReplicas"`

	// AvailableReplicas are the available pods of both sides.
	AvailableReplicas int32 `json:"availableReplicas"`

	// Steps are the changes of the sets' sizes in their order.
	Steps []RolloutStep `json:"steps,omitempty"`

	// StepsOmitted is how many of the first steps were dropped to keep the
	// record small.
	StepsOmitted int32 `json:"stepsOmitted,omitempty"`

	// Pods are the timelines of the pods of both sides, by the time of their
	// creation.
	Pods []PodTimeline `json:"pods,omitempty"`

	// PodsOmitted is how many pods were dropped to keep the record small. They
	// are in Timings all the same.
	PodsOmitted int32 `json:"podsOmitted,omitempty"`

	// Timings sum up how long the stages of the pods' lives took.
	Timings []StageTiming `json:"timings,omitempty"`

	// Traffic is what each node's service proxy counted at the Services in
	// spec.services while the rollout ran, by the node's name. Each proxy
	// writes its own entry.
	Traffic map[string]TrafficCount `json:"traffic,omitempty"`
}

// RolloutStep is one change of the size of a set.
type RolloutStep struct {
	// Time is when the size was changed.
	Time metav1.MicroTime `json:"time"`

	// Set is the name of the ReplicaSet.
	Set string `json:"set"`

	// From is the size before.
	From int32 `json:"from"`

	// To is the size after.
	To int32 `json:"to"`

	// Why is the reason that the controller gave.
	Why string `json:"why,omitempty"`
}

// PodTimeline is what happened to one pod and when. A moment that has not come,
// or was not seen, is absent.
type PodTimeline struct {
	// Name is the pod's.
	Name string `json:"name"`

	// Set is the name of the ReplicaSet that the pod is of.
	Set string `json:"set"`

	// Node is where the pod runs.
	Node string `json:"node,omitempty"`

	// Created is when the pod was made.
	Created *metav1.MicroTime `json:"created,omitempty"`

	// Scheduled is when a node was chosen.
	Scheduled *metav1.MicroTime `json:"scheduled,omitempty"`

	// ImageReady is when all images were on the node.
	ImageReady *metav1.MicroTime `json:"imageReady,omitempty"`

	// Started is when the last container was started for the first time.
	Started *metav1.MicroTime `json:"started,omitempty"`

	// Ready is when the pod was ready for the first time.
	Ready *metav1.MicroTime `json:"ready,omitempty"`

	// Available is when the pod was available for the first time.
	Available *metav1.MicroTime `json:"available,omitempty"`

	// StopRequested is when the pod was deleted.
	StopRequested *metav1.MicroTime `json:"stopRequested,omitempty"`

	// EndpointRemoved is when every live node's proxy had confirmed that it sends
	// the pod no new connections.
	EndpointRemoved *metav1.MicroTime `json:"endpointRemoved,omitempty"`

	// Drained is when no request was in flight any more, or the bound was hit.
	Drained *metav1.MicroTime `json:"drained,omitempty"`

	// Stopped is when the last container had ended.
	Stopped *metav1.MicroTime `json:"stopped,omitempty"`

	// Note says what was not as it should be: why it does not start, that it was
	// restarted, that the drain hit its bound.
	Note string `json:"note,omitempty"`
}

// StageTiming sums up how long one stage took. It is exact while one process
// watches the rollout; after a restart, pods that were omitted and are gone count
// with the median that was stored.
type StageTiming struct {
	// Stage is schedule, pull, start, ready, available, route (until no proxy
	// sent new connections), drain or stop.
	Stage string `json:"stage"`

	// Pods is how many pods went through the stage.
	Pods int32 `json:"pods"`

	// Median is how long half of them took at most.
	Median metav1.Duration `json:"median"`

	// Max is how long the slowest took.
	Max metav1.Duration `json:"max"`
}

// TrafficCount is what a node's kernel counted. See docs/draining.md for what
// it can and cannot see.
type TrafficCount struct {
	// Connections are new connections sent to an endpoint.
	Connections int64 `json:"connections"`

	// Refused are new connections that the endpoint, or the lack of one, refused.
	Refused int64 `json:"refused"`

	// Reset are established connections that the server's side reset.
	Reset int64 `json:"reset"`
}

// Count returns the traffic on all nodes, and false when no node has counted.
func (s *RolloutRecordStatus) Count() (TrafficCount, bool) {
	var sum TrafficCount
	for _, node := range s.Traffic {
		sum.Connections += node.Connections
		sum.Refused += node.Refused
		sum.Reset += node.Reset
	}
	return sum, len(s.Traffic) > 0
}

// FailurePolicy says what happens to a rollout that fails.
type FailurePolicy string

// The policies.
const (
	// OnFailureKeep leaves everything as it is, as Kubernetes does.
	OnFailureKeep FailurePolicy = "keep"

	// OnFailurePause pauses the Deployment.
	OnFailurePause FailurePolicy = "pause"

	// OnFailureRollback brings back the last revision that was complete.
	OnFailureRollback FailurePolicy = "rollback"
)

// PodMoments is what AnnotationMoments on a pod holds, as JSON: when things
// happened to the pod on its node, to the microsecond, where the pod's status
// has seconds or nothing. Its node's agent writes it together with the status.
type PodMoments struct {
	ImageReady      *metav1.MicroTime `json:"imageReady,omitempty"`
	Started         *metav1.MicroTime `json:"started,omitempty"`
	Ready           *metav1.MicroTime `json:"ready,omitempty"`
	EndpointRemoved *metav1.MicroTime `json:"endpointRemoved,omitempty"`
	Drained         *metav1.MicroTime `json:"drained,omitempty"`
	Stopped         *metav1.MicroTime `json:"stopped,omitempty"`

	// Note says why the drain hit its bound.
	Note string `json:"note,omitempty"`

	// Attempts is how often the agent has tried in vain to do what the pod waits
	// for now (pull, make, start); absent when it waits for nothing.
	Attempts int32 `json:"attempts,omitempty"`
}
