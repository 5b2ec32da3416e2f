package rollout

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

const (
	// labelRevisionHash has the hash in the name of a ControllerRevision.
	labelRevisionHash = "controller.kubernetes.io/hash"

	// maxRevisionName bounds the name of a ControllerRevision, which is a label's
	// value on the pods.
	maxRevisionName = 63
)

// revision is a ControllerRevision of a StatefulSet while a plan is being made.
type revision struct {
	object   *appsv1.ControllerRevision
	template corev1.PodTemplateSpec
	number   int64 // as planned
}

func (r *revision) name() string {
	if r == nil {
		return ""
	}
	return r.object.Name
}

// done says whether all pods were of the revision once, and available.
func (r *revision) done() bool { return r.object.Annotations[v1alpha1.AnnotationCompleted] != "" }

// history is the revisions of a StatefulSet, the lowest number first.
type history struct {
	revisions  []*revision
	update     *revision // the one with the wanted template
	current    *revision // that pods below the partition have
	collisions *int32
	begins     bool // the wanted one has just become so
}

// completed says whether the revision of a name was complete once.
func (h *history) completed(name string) bool {
	r := h.named(name)
	return r != nil && r.done()
}

func (h *history) named(name string) *revision {
	for _, r := range h.revisions {
		if r.object.Name == name {
			return r
		}
	}
	return nil
}

// lastComplete returns the latest revision that was complete, other than the
// wanted one; nil when there is none.
func (h *history) lastComplete() (last *revision) {
	for _, r := range h.revisions {
		if r != h.update && r.done() {
			last = r
		}
	}
	return last
}

// before returns the latest revision other than the wanted one.
func (h *history) before() (last *revision) {
	for _, r := range h.revisions {
		if r != h.update {
			last = r
		}
	}
	return last
}

// findRevisions finds the revision with the wanted template, or makes it, and the
// current one.
func (d *statefulDraft) findRevisions() {
	h := &d.history
	h.collisions = d.Set.Status.CollisionCount
	d.claimRevisions()
	for _, r := range h.revisions {
		if equality.Semantic.DeepEqual(&r.template, &d.Set.Spec.Template) {
			h.update = r // the highest of equal ones
		}
	}
	var highest int64
	if last := h.before(); last != nil {
		highest = last.number
	}
	going := d.Set.DeletionTimestamp != nil
	switch {
	case h.update == nil && !going:
		h.begins = true
		d.createRevision(highest + 1)
	case h.update == nil:
		h.update = &revision{object: &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: d.Set.Status.UpdateRevision}}}
	case h.update.number <= highest && !going:
		h.begins = true
		d.renumber(highest + 1)
	case !going:
		d.causeNow()
	}
	if h.current = h.named(d.Set.Status.CurrentRevision); h.current == nil {
		h.current = h.update
	}
	slices.SortFunc(h.revisions, func(a, b *revision) int { return int(a.number - b.number) })
}

// claimRevisions takes the revisions that the set controls, and adopts those that
// nothing controls and that match its selector.
func (d *statefulDraft) claimRevisions() {
	all := slices.Clone(d.Revisions)
	for _, taken := range d.Taken {
		if !slices.ContainsFunc(all, func(r *appsv1.ControllerRevision) bool { return r.UID == taken.UID }) {
			all = append(all, taken)
		}
	}
	for _, object := range all {
		template, err := TemplateOf(object)
		if err != nil || object.DeletionTimestamp != nil {
			continue
		}
		if !d.mine(object) {
			if metav1.GetControllerOfNoCopy(object) != nil || d.Set.DeletionTimestamp != nil || !d.selector.Matches(labels.Set(object.Labels)) {
				continue
			}
			d.do(AdoptRevision{Revision: object, Why: "the selector matches its labels and nothing controls it"})
		}
		d.history.revisions = append(d.history.revisions, &revision{object: object, template: *template, number: object.Revision})
	}
	slices.SortFunc(d.history.revisions, func(a, b *revision) int { return int(a.number - b.number) })
}

// createRevision adds the step that makes the revision of the wanted template.
func (d *statefulDraft) createRevision(number int64) {
	h := &d.history
	data := revisionData(&d.Set.Spec.Template)
	hash := revisionHash(data, h.collisions)
	for d.nameTaken(revisionName(d.Set.Name, hash)) {
		h.collisions = ptr.To(ptr.Deref(h.collisions, 0) + 1)
		hash = revisionHash(data, h.collisions)
	}
	annotations := map[string]string{}
	for key, value := range without(d.Set.Annotations, notCopied...) {
		annotations[key] = value
	}
	for key, value := range d.causeOfRevision(nil) {
		annotations[key] = value
	}
	object := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name:            revisionName(d.Set.Name, hash),
			Namespace:       d.Set.Namespace,
			Labels:          with(d.Set.Spec.Template.Labels, labelRevisionHash, hash),
			Annotations:     annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d.Set, statefulSetKind)},
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: number,
	}
	h.update = &revision{object: object, template: d.Set.Spec.Template, number: number}
	h.revisions = append(h.revisions, h.update)
	d.do(CreateRevision{Revision: object, Why: "no revision has this template"})
}

func (d *statefulDraft) nameTaken(name string) bool {
	has := func(r *appsv1.ControllerRevision) bool { return r.Name == name }
	return slices.ContainsFunc(d.Revisions, has) || slices.ContainsFunc(d.Taken, has)
}

// renumber makes an earlier revision the latest, for its template is wanted again.
func (d *statefulDraft) renumber(number int64) {
	r := d.history.update
	was := r.number
	r.number = number
	annotations := with(d.causeOfRevision(r), AnnotationRevisionHistory,
		appendHistory(r.object.Annotations[AnnotationRevisionHistory], strconv.FormatInt(was, 10)))
	d.do(DescribeRevision{Revision: r.object, Number: number, Annotations: annotations,
		Why: fmt.Sprintf("its template is wanted: it becomes revision %d again, after %d", number, was)})
}

// causeNow gives the wanted revision a cause that the user gives it later.
func (d *statefulDraft) causeNow() {
	r := d.history.update
	given := d.Set.Annotations[AnnotationChangeCause]
	if given == r.object.Annotations[v1alpha1.AnnotationNotedCause] || given == "" || r.object.Annotations[v1alpha1.AnnotationNotedCause] == "" && r.object.Annotations[AnnotationChangeCause] == given {
		return
	}
	d.do(DescribeRevision{Revision: r.object, Number: r.number, Why: "its cause is given",
		Annotations: map[string]string{AnnotationChangeCause: given, v1alpha1.AnnotationNotedCause: given}})
}

// causeOfRevision returns the annotations with the cause of the revision that
// becomes the wanted one; r is nil when it is new. What the set said already when
// the last revision began was not said of this one.
func (d *statefulDraft) causeOfRevision(r *revision) map[string]string {
	given := d.Set.Annotations[AnnotationChangeCause]
	noted := map[string]string{v1alpha1.AnnotationNotedCause: given}
	last := d.history.before()
	if given != "" && (last == nil || last.object.Annotations[v1alpha1.AnnotationNotedCause] != given) {
		return with(noted, AnnotationChangeCause, given)
	}
	if r != nil {
		own := r.object.Annotations[AnnotationChangeCause]
		if own != "" && own != r.object.Annotations[v1alpha1.AnnotationComputedCause] {
			return noted // it keeps what the user said of it
		}
		if failed := parseRevision(d.Set.Annotations[v1alpha1.AnnotationFailedRevision]); last != nil && failed == last.number {
			because := d.Set.Annotations[v1alpha1.AnnotationFailedBecause]
			return merge(noted, computed(clip(fmt.Sprintf("back to revision %d: %s", r.object.Revision, because), maxBackLength)))
		}
	}
	var from *corev1.PodTemplateSpec
	if last != nil {
		from = &last.template
	}
	return merge(noted, computed(CauseOf(Changes(from, &d.Set.Spec.Template))))
}

func merge(a, b map[string]string) map[string]string {
	for key, value := range b {
		a = with(a, key, value)
	}
	return a
}

// trimRevisions deletes the oldest revisions beyond revisionHistoryLimit that no
// pod has. The one to go back to stays while the wanted one is not complete.
func (d *statefulDraft) trimRevisions() {
	limit := ptr.Deref(d.Set.Spec.RevisionHistoryLimit, math.MaxInt32)
	h := &d.history
	live := map[string]bool{h.update.name(): true, h.current.name(): true}
	for _, pod := range d.Pods {
		live[revisionOfPod(pod)] = true
	}
	unused := slices.DeleteFunc(slices.Clone(h.revisions), func(r *revision) bool { return live[r.object.Name] })
	var needed *revision
	if !h.update.done() {
		needed = h.lastComplete()
	}
	for _, r := range unused[:max(len(unused)-int(limit), 0)] {
		if r != needed {
			d.do(DeleteRevision{Revision: r.object, Why: fmt.Sprintf("only the last %d old revisions are kept", limit)})
		}
	}
}

// revisionPatch is what a ControllerRevision of a StatefulSet holds: a patch that
// makes the set's template what it was.
type revisionPatch struct {
	Spec struct {
		Template json.RawMessage `json:"template"`
	} `json:"spec"`
}

// revisionData returns the content of the revision of a template, in the form
// that `kubectl rollout undo` patches a set with.
func revisionData(template *corev1.PodTemplateSpec) []byte {
	encoded, err := json.Marshal(template)
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(encoded, &fields)
	}
	if err != nil {
		panic("rollout: pod template is not representable in JSON: " + err.Error()) // it came from JSON
	}
	fields["$patch"] = "replace"
	data, err := json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
	if err != nil {
		panic("rollout: what came from JSON does not go back: " + err.Error())
	}
	return data
}

// TemplateOf returns the pod template that a ControllerRevision of a StatefulSet
// holds. It fails on one whose data is of another form.
func TemplateOf(revision *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var patch revisionPatch
	if err := json.Unmarshal(revision.Data.Raw, &patch); err != nil {
		return nil, fmt.Errorf("data of revision %s: %w", revision.Name, err)
	}
	template := &corev1.PodTemplateSpec{}
	if len(patch.Spec.Template) == 0 {
		return nil, fmt.Errorf("data of revision %s has no template", revision.Name)
	}
	if err := json.Unmarshal(patch.Spec.Template, template); err != nil {
		return nil, fmt.Errorf("template of revision %s: %w", revision.Name, err)
	}
	return template, nil
}

// revisionHash returns the hash of a revision's content for its name; each
// collision count gives another.
func revisionHash(data []byte, collisions *int32) string {
	h := fnv.New64a()
	h.Write(data)
	if collisions != nil {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(*collisions)))
	}
	return letters(h.Sum64())
}

func revisionName(set, hash string) string {
	return set[:min(len(set), maxRevisionName-1-hashLength)] + "-" + hash
}

// numberText is a revision's number as annotations have it.
func (r *revision) numberText() string { return strconv.FormatInt(r.number, 10) }
