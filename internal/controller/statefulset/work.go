package statefulset

import (
	"context"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// work carries out the steps of one plan, each on what the last has left.
type work struct {
	*reconciler
	set     *appsv1.StatefulSet
	changed map[types.UID]client.Object // as the last step left them
}

func newWork(r *reconciler, s rollout.StatefulSnapshot) *work {
	return &work{reconciler: r, set: s.Set, changed: map[types.UID]client.Object{}}
}

// do carries out a step. It returns loop.ErrStale when something has changed, and
// loop.Taken when another revision has the name of a new one.
func (w *work) do(ctx context.Context, step rollout.Step) error {
	switch step := step.(type) {
	case rollout.AdoptPod:
		return w.adopt(ctx, step.Pod)
	case rollout.AdoptRevision:
		return w.adopt(ctx, step.Revision)
	case rollout.ReleasePod:
		return w.edit(ctx, step.Pod, func(object client.Object) { object.SetOwnerReferences(owned.Released(object, w.set.UID)) })
	case rollout.LabelPod:
		return w.edit(ctx, step.Pod, func(object client.Object) { object.SetLabels(merged(object.GetLabels(), step.Labels)) })
	case rollout.OwnClaim:
		return w.edit(ctx, step.Claim, func(object client.Object) { object.SetOwnerReferences(step.Owners) })
	case rollout.DescribeRevision:
		return w.edit(ctx, step.Revision, func(object client.Object) {
			object.SetAnnotations(merged(object.GetAnnotations(), step.Annotations))
			object.(*appsv1.ControllerRevision).Revision = step.Number
		})
	case rollout.CreateRevision:
		return w.createRevision(ctx, step.Revision)
	case rollout.DeleteRevision:
		return w.delete(ctx, step.Revision)
	case rollout.CreatePod:
		return w.createPod(ctx, step)
	case rollout.CreateClaims:
		return w.createClaims(ctx, step.Claims, step.Pod.Name, step.Set)
	case rollout.DeletePod:
		return w.deletePod(ctx, step)
	case rollout.SetStatefulStatus:
		return w.setStatus(ctx, step.Status)
	case rollout.Rollback:
		return w.answer(ctx, step.Note(), func(set *appsv1.StatefulSet) { set.Spec.Template = step.Template })
	case rollout.Pause:
		return w.answer(ctx, step.Note(), func(*appsv1.StatefulSet) {})
	case rollout.GiveUp:
		return w.answer(ctx, step.Note(), func(*appsv1.StatefulSet) {})
	}
	return fmt.Errorf("no way to do %T", step)
}

// adopt makes the set the controller of an object, if a live read shows that it
// still exists and is to stay.
func (w *work) adopt(ctx context.Context, object client.Object) error {
	if err := loop.MayAdopt(ctx, w.live, w.set, &appsv1.StatefulSet{}); err != nil {
		return err
	}
	return w.edit(ctx, object, func(object client.Object) {
		object.SetOwnerReferences(owned.Adopted(object, w.set, appsv1.SchemeGroupVersion.WithKind("StatefulSet")))
	})
}

func merged(a, b map[string]string) map[string]string {
	out := make(map[string]string, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// edit changes an object that must not have changed since it was read.
func (w *work) edit(ctx context.Context, object client.Object, change func(client.Object)) error {
	before := object
	if later, ok := w.changed[object.GetUID()]; ok {
		before = later
	}
	after := before.DeepCopyObject().(client.Object)
	change(after)
	err := w.client.Patch(ctx, after, loop.IfUnchanged(before))
	if err != nil {
		return w.failed("update", object, err)
	}
	w.changed[object.GetUID()] = after
	if _, is := after.(*appsv1.ControllerRevision); is {
		w.written.Keep(after)
	}
	return nil
}

// failed says why an object was not written.
func (w *work) failed(verb string, object client.Object, err error) error {
	return fmt.Errorf("%s %T %s: %w", verb, object, object.GetName(), loop.Stale(err))
}

func (w *work) createRevision(ctx context.Context, revision *appsv1.ControllerRevision) error {
	made := revision.DeepCopy()
	err := w.client.Create(ctx, made)
	if apierrors.IsAlreadyExists(err) {
		return loop.WhoHas(ctx, w.live, client.ObjectKeyFromObject(revision), &appsv1.ControllerRevision{})
	}
	if going := loop.Going(err); going != nil {
		return going
	}
	if err != nil {
		return w.failed("create", revision, err)
	}
	w.written.Keep(made)
	return nil
}

// delete deletes an object as it was read.
func (w *work) delete(ctx context.Context, object client.Object) error {
	if later, ok := w.changed[object.GetUID()]; ok {
		object = later
	}
	uid, version := object.GetUID(), object.GetResourceVersion()
	target := object.DeepCopyObject().(client.Object)
	err := w.client.Delete(ctx, target, client.Preconditions{UID: &uid, ResourceVersion: &version})
	if err != nil {
		return w.failed("delete", object, err)
	}
	return nil
}

// answerer is the field manager of what is done about failures. A revision that
// was rolled back to names it as its author.
const answerer = "statefulset-controller"

// answer notes a failure and changes the set, in one write, if it has not changed
// since it was read.
func (w *work) answer(ctx context.Context, note map[string]string, change func(*appsv1.StatefulSet)) error {
	written := w.set.DeepCopy()
	written.Annotations = merged(written.Annotations, note)
	change(written)
	err := w.client.Patch(ctx, written, loop.IfUnchanged(w.set), client.FieldOwner(answerer))
	return w.noteSet(written, "answer the failure of", err)
}

func (w *work) setStatus(ctx context.Context, status appsv1.StatefulSetStatus) error {
	written := w.set.DeepCopy()
	written.Status = status
	err := w.client.Status().Update(ctx, written)
	return w.noteSet(written, "update the status of", err)
}

func (w *work) noteSet(written *appsv1.StatefulSet, verb string, err error) error {
	if err != nil {
		return w.failed(verb, w.set, err)
	}
	w.set = written
	w.written.Keep(written)
	return nil
}
