package rollout

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Plan is a decision: what to do now, in this order, and when to look again if
// nothing happens before. After any number of its steps, the rest may be
// dropped: a new plan from what is then will go on.
type Plan struct {
	Steps []Step

	// WakeAt is when the passing of time alone changes the decision; zero when
	// it never does.
	WakeAt time.Time

	// Waiting says what a rollout that is not complete waits for.
	Waiting string
}

// Step is one write. Its String is the step and its reason in a line.
type Step interface {
	fmt.Stringer

	// Event returns the Kubernetes Event to record for the Deployment once the
	// step is done, in the words of Kubernetes; false when there is none.
	Event() (Event, bool)
}

// Event is what a Kubernetes Event says.
type Event struct {
	Type    string // corev1.EventTypeNormal or corev1.EventTypeWarning
	Reason  string
	Message string
}

// Adopt makes the Deployment the controller of a set that its selector matches
// and that nothing controls. Before doing it, make sure by a live read that the
// Deployment still exists and is not being deleted.
type Adopt struct {
	ReplicaSet *appsv1.ReplicaSet
	Why        string
}

// Release ends the Deployment's control of a set that its selector does not
// match any more.
type Release struct {
	ReplicaSet *appsv1.ReplicaSet
	Why        string
}

// Create makes a new set. When its name is taken, read who has it, and decide
// again with that as Snapshot.Taken.
type Create struct {
	ReplicaSet *appsv1.ReplicaSet // complete
	Why        string
}

// Describe brings a set's annotations and minReadySeconds up to date.
type Describe struct {
	ReplicaSet      *appsv1.ReplicaSet // as read
	Annotations     map[string]string  // to set; others stay
	MinReadySeconds int32
	Why             string
}

// Scale changes how many pods a set should have, and notes on it the size of the
// Deployment at the time. It must only be done while the set still has From
// replicas.
type Scale struct {
	Name string
	UID  types.UID // empty for a set created in the same plan
	From int32
	To   int32

	Desired int32 // for AnnotationDesiredReplicas
	Max     int32 // for AnnotationMaxReplicas
	Why     string
}

// Delete removes an old set that is not needed for undo any more.
type Delete struct {
	ReplicaSet *appsv1.ReplicaSet
	Why        string
}

// SetRevision notes the current revision on the Deployment, and the change-cause
// that it has now, so that the same one is not taken for that of a later revision.
type SetRevision struct {
	Revision string
	Cause    *string  // for v1alpha1.AnnotationNotedCause; nil when it is noted already
	Drop     []string // annotations that do not belong on a Deployment
	Why      string
}

// SetStatus replaces the Deployment's status.
type SetStatus struct {
	Status appsv1.DeploymentStatus
	Why    string
}

func (s Adopt) String() string   { return line("adopt "+s.ReplicaSet.Name, s.Why) }
func (s Release) String() string { return line("release "+s.ReplicaSet.Name, s.Why) }
func (s Delete) String() string  { return line("delete "+s.ReplicaSet.Name, s.Why) }

func (s Create) String() string {
	return line(fmt.Sprintf("create %s with %d", s.ReplicaSet.Name, *s.ReplicaSet.Spec.Replicas), s.Why)
}

func (s Describe) String() string { return line("describe "+s.ReplicaSet.Name, s.Why) }

func (s Scale) String() string {
	if s.From == s.To {
		return line(fmt.Sprintf("mark %s, %d of %d", s.Name, s.To, s.Desired), s.Why)
	}
	return line(fmt.Sprintf("scale %s from %d to %d", s.Name, s.From, s.To), s.Why)
}

func (s SetRevision) String() string {
	what := "revision " + s.Revision
	if s.Cause != nil {
		what += fmt.Sprintf(" with cause %q", *s.Cause)
	}
	return line(what, s.Why)
}

func (s SetStatus) String() string {
	st := &s.Status
	var b strings.Builder
	fmt.Fprintf(&b, "status replicas=%d updated=%d ready=%d available=%d",
		st.Replicas, st.UpdatedReplicas, st.ReadyReplicas, st.AvailableReplicas)
	if st.UnavailableReplicas > 0 {
		fmt.Fprintf(&b, " unavailable=%d", st.UnavailableReplicas)
	}
	if st.TerminatingReplicas != nil && *st.TerminatingReplicas > 0 {
		fmt.Fprintf(&b, " terminating=%d", *st.TerminatingReplicas)
	}
	if st.CollisionCount != nil {
		fmt.Fprintf(&b, " collisions=%d", *st.CollisionCount)
	}
	for _, c := range st.Conditions {
		fmt.Fprintf(&b, " %s=%s(%s)", c.Type, c.Status, c.Reason)
	}
	return line(b.String(), s.Why)
}

func line(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// Event implements Step.
func (Adopt) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (Release) Event() (Event, bool) { return Event{}, false }

// Event implements Step: a set that begins with pods was scaled up.
func (s Create) Event() (Event, bool) {
	return Scale{Name: s.ReplicaSet.Name, To: *s.ReplicaSet.Spec.Replicas}.Event()
}

// Event implements Step.
func (Describe) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (s Scale) Event() (Event, bool) {
	direction := "up"
	switch {
	case s.From == s.To:
		return Event{}, false
	case s.From > s.To:
		direction = "down"
	}
	return Event{
		Type:    corev1.EventTypeNormal,
		Reason:  "ScalingReplicaSet",
		Message: fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, s.Name, s.From, s.To),
	}, true
}

// Event implements Step.
func (Delete) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (SetRevision) Event() (Event, bool) { return Event{}, false }

// Event implements Step.
func (SetStatus) Event() (Event, bool) { return Event{}, false }

// String is the plan as a script shows it: a line for each step, then what it
// waits for.
func (p Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	if p.Waiting != "" {
		fmt.Fprintln(&b, "waiting for", p.Waiting)
	}
	return b.String()
}
