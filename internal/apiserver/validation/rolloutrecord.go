package validation

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"windlass.dev/windlass/api/v1alpha1"
)

// The most that one record may list, so that it stays far below what the store
// takes in one piece (1.5 MiB).
const (
	maxRecordChanges  = 1000
	maxRecordServices = 100
	maxRecordSteps    = 1000
	maxRecordPods     = 1000
	maxRecordNodes    = 5000
)

func rolloutRecordCreate(r *v1alpha1.RolloutRecord) field.ErrorList {
	return append(namespaced(&r.ObjectMeta, subdomainName), rolloutRecordRules(&r.Spec)...)
}

// rolloutRecordUpdate lets the cause change, and which Services' traffic counts.
func rolloutRecordUpdate(r, old *v1alpha1.RolloutRecord) field.ErrorList {
	errs := metadataUpdate(&r.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, rolloutRecordRules(&r.Spec)...)
	for _, part := range []struct {
		name       string
		value, was any
	}{
		{"target", r.Spec.Target, old.Spec.Target},
		{"revision", r.Spec.Revision, old.Spec.Revision},
		{"from", r.Spec.From, old.Spec.From},
		{"to", r.Spec.To, old.Spec.To},
		{"changes", r.Spec.Changes, old.Spec.Changes},
		{"by", r.Spec.By, old.Spec.By},
		{"strategy", r.Spec.Strategy, old.Spec.Strategy},
		{"startedAt", r.Spec.StartedAt, old.Spec.StartedAt},
	} {
		errs = append(errs, immutable(specPath.Child(part.name), part.value, part.was)...)
	}
	return errs
}

func rolloutRecordRules(spec *v1alpha1.RolloutRecordSpec) field.ErrorList {
	var errs field.ErrorList
	target := specPath.Child("target")
	for _, part := range []struct{ name, value, mend string }{
		{"apiVersion", spec.Target.APIVersion, "must be the version of what was rolled out, such as apps/v1"},
		{"kind", spec.Target.Kind, "must be the kind of what was rolled out, such as Deployment"},
		{"name", spec.Target.Name, "must be the name of what was rolled out"},
	} {
		if part.value == "" {
			errs = append(errs, field.Required(target.Child(part.name), part.mend))
		}
	}
	if spec.Revision < 1 {
		errs = append(errs, field.Invalid(specPath.Child("revision"), spec.Revision, "must be 1 or more: rollouts are counted from 1"))
	}
	if spec.StartedAt.IsZero() {
		errs = append(errs, field.Required(specPath.Child("startedAt"), "must be the time when the rollout began"))
	}
	errs = append(errs, atMost(specPath.Child("changes"), len(spec.Changes), maxRecordChanges, "")...)
	errs = append(errs, atMost(specPath.Child("services"), len(spec.Services), maxRecordServices, "")...)
	return append(errs, rolloutStrategy(specPath.Child("strategy"), &spec.Strategy)...)
}

func rolloutStrategy(fld *field.Path, strategy *v1alpha1.RolloutStrategy) field.ErrorList {
	errs := nonNegative(fld.Child("replicas"), strategy.Replicas)
	errs = append(errs, nonNegative(fld.Child("maxSurge"), strategy.MaxSurge)...)
	errs = append(errs, nonNegative(fld.Child("maxUnavailable"), strategy.MaxUnavailable)...)
	errs = append(errs, nonNegative(fld.Child("minReadySeconds"), strategy.MinReadySeconds)...)
	errs = append(errs, optionalNonNegative(fld.Child("progressDeadlineSeconds"), strategy.ProgressDeadlineSeconds)...)
	if strategy.OnFailure != "" {
		errs = append(errs, choice(fld.Child("onFailure"), strategy.OnFailure, failurePolicies...)...)
	}
	return errs
}

var rolloutPhases = []v1alpha1.RolloutPhase{
	v1alpha1.RolloutProgressing, v1alpha1.RolloutPaused,
	v1alpha1.RolloutCompleted, v1alpha1.RolloutRolledBack, v1alpha1.RolloutSuperseded, v1alpha1.RolloutFailed,
}

func rolloutRecordStatusUpdate(r, old *v1alpha1.RolloutRecord) field.ErrorList {
	errs := metadataUpdate(&r.ObjectMeta, &old.ObjectMeta)
	status := &r.Status
	if status.Phase != "" {
		errs = append(errs, choice(statusPath.Child("phase"), status.Phase, rolloutPhases...)...)
	}
	for _, c := range []replicaCount{
		{"replicas", status.Replicas}, {"updatedReplicas", status.UpdatedReplicas}, {"availableReplicas", status.AvailableReplicas},
		{"stepsOmitted", status.StepsOmitted}, {"podsOmitted", status.PodsOmitted},
	} {
		errs = append(errs, nonNegative(statusPath.Child(c.name), c.count)...)
	}
	errs = append(errs, atMost(statusPath.Child("steps"), len(status.Steps), maxRecordSteps, "; leave some out and count them in stepsOmitted")...)
	errs = append(errs, atMost(statusPath.Child("pods"), len(status.Pods), maxRecordPods, "; leave some out and count them in podsOmitted")...)
	errs = append(errs, atMost(statusPath.Child("traffic"), len(status.Traffic), maxRecordNodes, "")...)
	for _, node := range slices.Sorted(maps.Keys(status.Traffic)) {
		fld, count := statusPath.Child("traffic").Key(node), status.Traffic[node]
		errs = append(errs, nonNegative(fld.Child("connections"), count.Connections)...)
		errs = append(errs, nonNegative(fld.Child("refused"), count.Refused)...)
		errs = append(errs, nonNegative(fld.Child("reset"), count.Reset)...)
	}
	return errs
}

// atMost refuses a list that is too long; mend says what else to do.
func atMost(fld *field.Path, length, limit int, mend string) field.ErrorList {
	if length <= limit {
		return nil
	}
	fault := field.TooMany(fld, length, limit)
	fault.Detail += mend
	return field.ErrorList{fault}
}
