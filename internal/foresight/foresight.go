package foresight

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// Foresight is what a change of a Deployment will do.
type Foresight struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`

	// Stateful says that it is a StatefulSet's.
	Stateful bool `json:"-"`

	// Kind is what kind of change it is.
	Kind ChangeKind `json:"kind"`

	// Changes are the fields that change. Of a new Deployment there are none.
	Changes []v1alpha1.FieldChange `json:"changes,omitempty"`

	// Revision is the one that the rollout will have, and Again the one that the
	// same pod template had before; 0 when there is no rollout, or it is new.
	Revision int64 `json:"revision,omitempty"`
	Again    int64 `json:"again,omitempty"`

	// Strategy is how the pods are replaced, with percentages made into numbers.
	Strategy *v1alpha1.RolloutStrategy `json:"strategy,omitempty"`

	// Rounding says how the numbers came about.
	Rounding string `json:"rounding,omitempty"`

	// Waves are the steps of the controller, in their order. If the nodes have
	// room for it all, Completes says that they lead to the end.
	Waves     []Wave `json:"waves,omitempty"`
	Completes bool   `json:"completes"`

	// Blocks are what keeps the rollout from being complete, and Warnings what
	// does not, but should be known.
	Blocks   []Finding `json:"blocks,omitempty"`
	Warnings []Finding `json:"warnings,omitempty"`

	// Duration is how long it should take.
	Duration *Duration `json:"duration,omitempty"`
}

// ChangeKind says what kind of change something is.
type ChangeKind string

// The kinds of change.
const (
	KindFirst   ChangeKind = "first-rollout" // the Deployment is new
	KindRollout ChangeKind = "rollout"       // its pods are replaced
	KindScale   ChangeKind = "scale"         // pods come or go, none is replaced
	KindEdit    ChangeKind = "edit"          // no pod is touched
	KindNone    ChangeKind = "none"          // nothing changes
	KindRefused ChangeKind = "refused"       // the API server refuses it
)

// Finding is something that was found to be wrong.
type Finding struct {
	What    string   `json:"what"`
	Field   string   `json:"field,omitempty"`
	Value   string   `json:"value,omitempty"`
	Details []string `json:"details,omitempty"`
	Mend    string   `json:"mend,omitempty"`
}

// Succeeds says whether the change can succeed as things are.
func (f *Foresight) Succeeds() bool { return len(f.Blocks) == 0 }

// Of returns what a change will do.
func Of(facts Facts) Foresight {
	f := Foresight{Namespace: facts.Namespace, Name: facts.Name, Stateful: facts.Stateful != nil}
	if f.Stateful {
		facts.see()
	}
	if facts.After == nil {
		f.Kind, f.Blocks = KindRefused, Refusals(facts.Refused)
		return f
	}
	f.describe(&facts)
	if facts.Stateful != nil {
		f.describeStateful(&facts, forecastIn(&facts, rollout.Endless{}))
	}
	rolls := f.Kind == KindFirst || f.Kind == KindRollout
	if facts.will = facts.After.DeepCopy(); rolls {
		facts.will.Spec.Paused = false // what it does once it is resumed
	}
	ideal, real := forecasts(&facts)
	f.steps(&facts, ideal, real)
	if len(f.Waves) == 0 && (ideal.Complete || facts.will.Spec.Paused) {
		return f
	}
	if rolls {
		f.Blocks = append(f.Blocks, paused(&facts)...)
	}
	f.Blocks = append(f.Blocks, stuck(ideal)...)
	f.Blocks = append(f.Blocks, noRoom(&facts, ideal, real)...)
	f.Blocks = append(f.Blocks, overQuota(&facts, ideal)...)
	f.find(missingImages(&facts))
	f.find(missingObjects(&facts))
	f.Duration = expected(&facts, ideal, real)
	f.find(cautions(&facts, &f, ideal))
	f.Completes = f.Completes && len(f.Blocks) == 0
	return f
}

// find adds what blocks and what is only to be known.
func (f *Foresight) find(blocks, warnings []Finding) {
	f.Blocks = append(f.Blocks, blocks...)
	f.Warnings = append(f.Warnings, warnings...)
}

// describe says what changes, and what kind of change that makes it.
func (f *Foresight) describe(facts *Facts) {
	before, after := facts.Before, facts.After
	if before == nil {
		f.Kind, f.Revision = KindFirst, 1
		return
	}
	f.Changes = Changes(before, after)
	switch {
	case len(f.Changes) == 0:
		f.Kind = KindNone
	case !rollout.SameTemplate(&before.Spec.Template, &after.Spec.Template):
		f.Kind = KindRollout
		f.Revision, f.Again = revisions(facts)
	case rollout.BudgetOf(before).Replicas != rollout.BudgetOf(after).Replicas:
		f.Kind = KindScale
	default:
		f.Kind = KindEdit
	}
}

// revisions returns the revision that the new template will have, and the one
// that it had before.
func revisions(facts *Facts) (next, again int64) {
	var same *appsv1.ReplicaSet
	for _, rs := range facts.controlled() {
		if same == nil && rollout.SameTemplate(&rs.Spec.Template, &facts.After.Spec.Template) {
			same, again = rs, revisionOf(rs)
			continue
		}
		next = max(next, revisionOf(rs))
	}
	if next++; again >= next {
		return again, 0 // the set is the last one still
	}
	return next, again
}

// revisionOf returns the revision of a set, 0 when it has none.
func revisionOf(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[rollout.AnnotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// paused finds a Deployment that does not roll.
func paused(facts *Facts) []Finding {
	if !facts.After.Spec.Paused {
		return nil
	}
	return []Finding{{
		What:  "the Deployment is paused: its pods are not replaced until it is resumed",
		Field: "spec.paused", Value: "true",
		Mend: "kubectl rollout resume deployment/" + facts.Name + " -n " + facts.Namespace,
	}}
}

// stuck finds that not even room without end would let the rollout be complete.
func stuck(ideal rollout.Forecast) []Finding {
	if ideal.Complete {
		return nil
	}
	if ideal.Instead != "" {
		return []Finding{{What: "the rollout that is under way has failed, and the controller will act on it: " + ideal.Instead}}
	}
	return []Finding{{What: "it would wait for " + ideal.Stuck}}
}

// snapshot is what the controller will see: the Deployment after the change, and
// all else as it is.
func snapshot(facts *Facts) rollout.Snapshot {
	return rollout.Snapshot{
		Deployment: facts.will.DeepCopy(), ReplicaSets: facts.ReplicaSets, Pods: podsByOwner(facts.Pods),
		OnFailure: facts.OnFailure, Now: facts.Now,
	}
}

// forecasts plays the change with the room that there is, and, if that does not
// lead to its end, with as much as it needs.
func forecasts(facts *Facts) (ideal, real rollout.Forecast) {
	real = forecastIn(facts, roomOf(facts))
	if real.Complete {
		return real, real
	}
	return forecastIn(facts, rollout.Endless{}), real
}

func isRecreate(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
}
