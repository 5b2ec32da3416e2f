package rolloutrecord

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// typeSwitch is the strategy of a switch, in records.
	typeSwitch = "Switch"

	// maxSwitches is how many records of a Service are kept.
	maxSwitches = 10

	// unclear is how long a new selector may select no controller's pods before
	// it is taken for no switch: the controller may be on its way.
	unclear = 30 * time.Second
)

// The reasons of a switch's phase.
const (
	ReasonEndpointsSwitching = "EndpointsSwitching" // not all endpoints are new
	ReasonEndpointsSwitched  = "EndpointsSwitched"  // all are
	ReasonControllerGone     = "ControllerGone"     // the one that the switch leads to was deleted
)

// SwitchFacts are all that a decision about the records of a Service rests on.
// They are not changed.
type SwitchFacts struct {
	Service *corev1.Service

	// Was is the selector before the change that was seen at ChangedAt, nil when
	// none was seen since the last decision.
	Was       map[string]string
	ChangedAt time.Time

	// Controllers are the ReplicationControllers and ReplicaSets of the namespace.
	Controllers []Controller

	// Ready says how many ready endpoints are pods of which controller, by its
	// UID.
	Ready map[types.UID]int32

	Records []*v1alpha1.RolloutRecord // of the Service
	Now     time.Time
}

// Controller is a ReplicationController or ReplicaSet.
type Controller struct {
	Name     string
	UID      types.UID
	Group    types.UID // its Deployment, if it has one, else its own UID
	Revision int64
	Replicas int32
	Template *corev1.PodTemplateSpec
}

// SwitchPlan is what to do about the records of a Service.
type SwitchPlan struct {
	Create   *v1alpha1.RolloutRecord // nil for none
	Statuses []StatusChange
	Delete   []string // records that are too old

	// Open says whether a switch goes on, so that changes of the endpoints
	// matter.
	Open bool

	// Unclear says that the change of the selector is still to be decided about,
	// in a beat.
	Unclear bool
}

// DecideSwitch returns what to do about the records of a Service. A switch begins
// when the selector leaves the pods of one controller and selects those of one
// other; it is complete when all ready endpoints are pods of the other,
// superseded when the selector leaves that before, and failed when the other is
// deleted before.
//
// The controller before is the one that the earlier selector selected. When that
// was not seen, it is the one that the last record leads to; a switch before
// which there is no record, and which nobody saw, is not known.
func DecideSwitch(f SwitchFacts) SwitchPlan {
	var plan SwitchPlan
	records := slices.SortedFunc(slices.Values(f.Records), func(a, b *v1alpha1.RolloutRecord) int {
		return cmp.Compare(a.Spec.Revision, b.Spec.Revision)
	})
	var last *v1alpha1.RolloutRecord
	if len(records) > 0 {
		last = records[len(records)-1]
	}
	if f.Service.DeletionTimestamp != nil {
		return plan
	}
	from, to := f.before(last), f.selected(f.Service.Spec.Selector)
	if from != nil && !selects(f.Service.Spec.Selector, from.Template.Labels) {
		if to != nil && to.Group != from.Group {
			plan.Create = f.newSwitch(from, to, last)
			plan.Open = true
		}
		plan.Unclear = to == nil && f.Was != nil && f.Now.Sub(f.ChangedAt) < unclear
	}
	if last != nil && !last.Status.Phase.Over() {
		status := f.status(last, plan.Create)
		plan.Open = plan.Open || !status.Phase.Over()
		stored := last.Status
		stored.Traffic = nil
		if !equality.Semantic.DeepEqual(stored, status) {
			plan.Statuses = append(plan.Statuses, StatusChange{Record: last.Name, Revision: last.Spec.Revision, Status: status})
		}
	}
	if plan.Create != nil {
		for _, old := range records[:max(len(records)+1-maxSwitches, 0)] {
			plan.Delete = append(plan.Delete, old.Name)
		}
	}
	return plan
}

// before returns the controller whose pods the Service had before, nil when that
// is not known.
func (f *SwitchFacts) before(last *v1alpha1.RolloutRecord) *Controller {
	if f.Was != nil {
		return f.selected(f.Was)
	}
	if last == nil {
		return nil
	}
	return f.named(last.Spec.To.Name)
}

func (f *SwitchFacts) named(name string) *Controller {
	for i := range f.Controllers {
		if f.Controllers[i].Name == name {
			return &f.Controllers[i]
		}
	}
	return nil
}

// selected returns the controller whose pods a selector selects: the one of the
// highest revision, if all belong to one Deployment; nil when there is none, or
// more than one. Those that should have pods go before those that should not.
func (f *SwitchFacts) selected(selector map[string]string) *Controller {
	var found *Controller
	for i := range f.Controllers {
		c := &f.Controllers[i]
		switch {
		case !selects(selector, c.Template.Labels):
		case found == nil || found.Replicas == 0 && c.Replicas > 0:
			found = c
		case c.Group == found.Group && c.Revision > found.Revision && c.Replicas > 0:
			found = c
		}
	}
	for i := range f.Controllers {
		c := &f.Controllers[i]
		if selects(selector, c.Template.Labels) && c.Group != found.Group && (c.Replicas > 0 || found.Replicas == 0) {
			return nil
		}
	}
	return found
}

// newSwitch returns the record of a switch that begins.
func (f *SwitchFacts) newSwitch(from, to *Controller, last *v1alpha1.RolloutRecord) *v1alpha1.RolloutRecord {
	service, number, startedAt := f.Service, int64(1), f.Now
	if last != nil {
		number = last.Spec.Revision + 1
	}
	if f.Was != nil {
		startedAt = f.ChangedAt
	}
	changes := selectorChanges(f.was(from), service.Spec.Selector)
	return &v1alpha1.RolloutRecord{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%s-switch-%d", service.Name, number),
			Namespace: service.Namespace,
			Labels:    targetLabels("Service", service.Name),
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Service", Name: service.Name, UID: service.UID},
			},
		},
		Spec: v1alpha1.RolloutRecordSpec{
			Target:        v1alpha1.RolloutTarget{APIVersion: "v1", Kind: "Service", Name: service.Name, UID: service.UID},
			Revision:      number,
			From:          &v1alpha1.RolloutSide{Name: from.Name, Revision: from.Revision, Images: imagesOf(from.Template)},
			To:            v1alpha1.RolloutSide{Name: to.Name, Revision: to.Revision, Images: imagesOf(to.Template)},
			Cause:         selectorCause(changes),
			CauseComputed: true,
			Changes:       changes,
			By:            parseAuthor(service.Annotations[v1alpha1.AnnotationChangedBy]),
			Strategy:      v1alpha1.RolloutStrategy{Type: typeSwitch, Replicas: to.Replicas},
			Services:      []string{service.Name},
			StartedAt:     *moment(startedAt),
		},
	}
}

// was returns the selector before, or, when it was not seen, the labels that the
// old pods have in its place.
func (f *SwitchFacts) was(from *Controller) map[string]string {
	if f.Was != nil {
		return f.Was
	}
	was := map[string]string{}
	for key := range f.Service.Spec.Selector {
		if value, ok := from.Template.Labels[key]; ok {
			was[key] = value
		}
	}
	return was
}

func selectorChanges(from, to map[string]string) (changes []v1alpha1.FieldChange) {
	all := maps.Clone(from)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, to)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if from[key] != to[key] {
			changes = append(changes, v1alpha1.FieldChange{Path: "spec.selector[" + key + "]", From: from[key], To: to[key]})
		}
	}
	return changes
}

// selectorCause puts the changes of a selector into words.
func selectorCause(changes []v1alpha1.FieldChange) string {
	var causes []string
	for _, c := range changes {
		key := strings.TrimSuffix(strings.TrimPrefix(c.Path, "spec.selector["), "]")
		switch {
		case c.From == "":
			causes = append(causes, key+" set to "+c.To)
		case c.To == "":
			causes = append(causes, key+" removed")
		default:
			causes = append(causes, key+" "+c.From+" → "+c.To)
		}
	}
	return "selector " + strings.Join(causes, ", ")
}

// status returns how a switch stands; next is the record of one that takes its
// place, or nil.
func (f *SwitchFacts) status(record, next *v1alpha1.RolloutRecord) v1alpha1.RolloutRecordStatus {
	var total, updated int32
	to := f.named(record.Spec.To.Name)
	for uid, n := range f.Ready {
		total += n
		for i := range f.Controllers {
			if c := &f.Controllers[i]; c.UID == uid && to != nil && c.Group == to.Group {
				updated += n
			}
		}
	}
	st := v1alpha1.RolloutRecordStatus{
		Phase:    v1alpha1.RolloutProgressing,
		Reason:   ReasonEndpointsSwitching,
		Message:  fmt.Sprintf("%d of %d ready endpoints are pods of %s", updated, total, record.Spec.To.Name),
		Replicas: total, UpdatedReplicas: updated, AvailableReplicas: total,
	}
	ended := f.Now
	switch {
	case next != nil || to != nil && !selects(f.Service.Spec.Selector, to.Template.Labels):
		st.Phase, st.Reason, st.Message = v1alpha1.RolloutSuperseded, ReasonNewSelector, "another selector is wanted"
		if next != nil {
			ended = next.Spec.StartedAt.Time
		}
	case to == nil: // its pods go with it
		st.Phase, st.Reason, st.Message = v1alpha1.RolloutFailed, ReasonControllerGone, record.Spec.To.Name+" was deleted before all endpoints were its pods"
	case total > 0 && updated == total:
		st.Phase, st.Reason = v1alpha1.RolloutCompleted, ReasonEndpointsSwitched
	default:
		return st
	}
	st.EndedAt = moment(ended)
	st.Duration = &metav1.Duration{Duration: max(st.EndedAt.Sub(record.Spec.StartedAt.Time), 0)}
	return st
}

// String is the plan as a script shows it.
func (p SwitchPlan) String() string {
	var b strings.Builder
	if p.Create != nil {
		fmt.Fprintf(&b, "create %s\n", describe(p.Create))
	}
	for _, s := range p.Statuses {
		fmt.Fprintf(&b, "status of %s: %s\n", s.Record, describeStatus(&s.Status))
	}
	for _, name := range p.Delete {
		fmt.Fprintf(&b, "delete %s\n", name)
	}
	if p.Unclear {
		b.WriteString("unclear for now\n")
	}
	if p.Open {
		b.WriteString("goes on\n")
	}
	return b.String()
}
