package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/controller/owned"
	"windlass.dev/windlass/internal/rollout"
)

// work carries out the steps of one plan, each on what the last has left.
type work struct {
	*reconciler
	deployment *appsv1.Deployment
	sets       map[string]*appsv1.ReplicaSet // by name, as last read or written
}

func newWork(r *reconciler, s rollout.Snapshot) *work {
	w := &work{reconciler: r, deployment: s.Deployment, sets: map[string]*appsv1.ReplicaSet{}}
	for _, rs := range append(s.ReplicaSets, s.Taken...) {
		w.sets[rs.Name] = rs
	}
	return w
}

// do carries out a step. It returns loop.ErrStale when something has changed, and
// loop.Taken when another set has the name of a new one.
func (w *work) do(ctx context.Context, step rollout.Step) error {
	switch step := step.(type) {
	case rollout.Adopt:
		return w.adopt(ctx, step.ReplicaSet)
	case rollout.Release:
		return w.update(ctx, step.ReplicaSet, func(rs *appsv1.ReplicaSet) {
			rs.OwnerReferences = owned.Released(rs, w.deployment.UID)
		})
	case rollout.Create:
		return w.create(ctx, step.ReplicaSet)
	case rollout.Describe:
		return w.update(ctx, step.ReplicaSet, func(rs *appsv1.ReplicaSet) {
			if rs.Annotations == nil {
				rs.Annotations = map[string]string{}
			}
			maps.Copy(rs.Annotations, step.Annotations)
			rs.Spec.MinReadySeconds = step.MinReadySeconds
		})
	case rollout.Scale:
		return w.scale(ctx, step)
	case rollout.Delete:
		return w.delete(ctx, step.ReplicaSet)
	case rollout.SetRevision:
		return w.setRevision(ctx, step)
	case rollout.SetStatus:
		return w.setStatus(ctx, step.Status)
	case rollout.Rollback:
		return w.answer(ctx, step.Note(), func(d *appsv1.Deployment) { d.Spec.Template = step.Template })
	case rollout.Pause:
		return w.answer(ctx, step.Note(), func(d *appsv1.Deployment) { d.Spec.Paused = true })
	case rollout.GiveUp:
		return w.answer(ctx, step.Note(), func(*appsv1.Deployment) {})
	}
	return fmt.Errorf("no way to do %T", step)
}

// adopt makes the Deployment the controller of a set, if a live read shows that
// it still exists and is to stay.
func (w *work) adopt(ctx context.Context, rs *appsv1.ReplicaSet) error {
	if err := loop.MayAdopt(ctx, w.live, w.deployment, &appsv1.Deployment{}); err != nil {
		return err
	}
	return w.update(ctx, rs, func(rs *appsv1.ReplicaSet) {
		rs.OwnerReferences = owned.Adopted(rs, w.deployment, appsv1.SchemeGroupVersion.WithKind("Deployment"))
	})
}

// update changes a set that must not have changed since it was read.
func (w *work) update(ctx context.Context, rs *appsv1.ReplicaSet, change func(*appsv1.ReplicaSet)) error {
	before := w.sets[rs.Name]
	after := before.DeepCopy()
	change(after)
	err := w.client.Patch(ctx, after, loop.IfUnchanged(before))
	return w.note(after, "update", err)
}

func (w *work) create(ctx context.Context, rs *appsv1.ReplicaSet) error {
	made := rs.DeepCopy()
	err := w.client.Create(ctx, made)
	if apierrors.IsAlreadyExists(err) {
		return loop.WhoHas(ctx, w.live, client.ObjectKeyFromObject(rs), &appsv1.ReplicaSet{})
	}
	if err != nil {
		return w.reportCreateFailed(ctx, rs, err)
	}
	return w.note(made, "create", nil)
}

// scale sets a set's replicas if they are what the step says they are. Its
// status may change at the same time.
func (w *work) scale(ctx context.Context, step rollout.Scale) error {
	rs := w.sets[step.Name]
	patch := []map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": rs.UID},
		{"op": "test", "path": "/spec/replicas", "value": step.From},
		{"op": "replace", "path": "/spec/replicas", "value": step.To},
	}
	if rs.Annotations == nil {
		patch = append(patch, map[string]any{"op": "add", "path": "/metadata/annotations", "value": map[string]string{}})
	}
	annotations := map[string]string{
		rollout.AnnotationDesiredReplicas: strconv.Itoa(int(step.Desired)),
		rollout.AnnotationMaxReplicas:     strconv.Itoa(int(step.Max)),
	}
	if step.From != step.To {
		annotations[v1alpha1.AnnotationScaledBecause] = step.Why
	}
	for key, value := range annotations {
		path := "/metadata/annotations/" + strings.ReplaceAll(key, "/", "~1")
		patch = append(patch, map[string]any{"op": "add", "path": path, "value": value})
	}
	encoded, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	scaled := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: rs.Namespace, Name: rs.Name}}
	err = w.client.Patch(ctx, scaled, client.RawPatch(types.JSONPatchType, encoded))
	if apierrors.IsInvalid(err) && w.otherwise(ctx, rs, step.From) {
		err = loop.ErrStale
	}
	scaled.UID = rs.UID
	return w.note(scaled, "scale", err)
}

// otherwise says whether a live read shows another set, or another number of
// replicas.
func (w *work) otherwise(ctx context.Context, rs *appsv1.ReplicaSet, replicas int32) bool {
	var current appsv1.ReplicaSet
	if err := w.live.Get(ctx, client.ObjectKeyFromObject(rs), &current); err != nil {
		return apierrors.IsNotFound(err)
	}
	return current.UID != rs.UID || current.Spec.Replicas == nil || *current.Spec.Replicas != replicas
}

func (w *work) delete(ctx context.Context, rs *appsv1.ReplicaSet) error {
	current := w.sets[rs.Name]
	err := w.client.Delete(ctx, current.DeepCopy(),
		client.Preconditions{UID: &current.UID, ResourceVersion: &current.ResourceVersion},
		client.PropagationPolicy(metav1.DeletePropagationBackground))
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("delete replica set %s: %w", rs.Name, loop.ErrStale)
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("delete replica set %s: %w", rs.Name, err)
	}
	w.written.Forget(current)
	delete(w.sets, rs.Name)
	return nil
}

// note keeps a set that was written, or says why it was not.
func (w *work) note(rs *appsv1.ReplicaSet, verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s replica set %s: %w", verb, rs.Name, loop.Stale(err))
	}
	w.sets[rs.Name] = rs
	w.written.Keep(rs)
	return nil
}

func (w *work) setRevision(ctx context.Context, step rollout.SetRevision) error {
	annotations := map[string]*string{rollout.AnnotationRevision: &step.Revision}
	if step.Cause != nil {
		annotations[v1alpha1.AnnotationNotedCause] = step.Cause
	}
	for _, key := range step.Drop {
		annotations[key] = nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         w.deployment.UID,
		"annotations": annotations,
	}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	written := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.deployment.Namespace, Name: w.deployment.Name}}
	err = w.client.Patch(ctx, written, client.RawPatch(types.MergePatchType, patch))
	return w.noteDeployment(written, "note revision of", err)
}

// answerer is the field manager of what is done about failures. A revision that
// was rolled back to names it as its author.
const answerer = "deployment-controller"

// answer notes a failure and changes the Deployment, in one write, if it has not
// changed since it was read.
func (w *work) answer(ctx context.Context, note map[string]string, change func(*appsv1.Deployment)) error {
	written := w.deployment.DeepCopy()
	if written.Annotations == nil {
		written.Annotations = map[string]string{}
	}
	maps.Copy(written.Annotations, note)
	change(written)
	err := w.client.Patch(ctx, written, loop.IfUnchanged(w.deployment), client.FieldOwner(answerer))
	return w.noteDeployment(written, "answer the failure of", err)
}

func (w *work) setStatus(ctx context.Context, status appsv1.DeploymentStatus) error {
	written := w.deployment.DeepCopy()
	written.Status = status
	err := w.client.Status().Update(ctx, written)
	return w.noteDeployment(written, "update status of", err)
}

func (w *work) noteDeployment(written *appsv1.Deployment, verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s deployment %s: %w", verb, w.deployment.Name, loop.Stale(err))
	}
	w.deployment = written
	w.written.Keep(written)
	return nil
}
