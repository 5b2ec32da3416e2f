package persistentvolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/storage/volume"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/internal/condition"
)

// writer carries out plans. Its reads come from the cache; what is about to be
// taken for gone is asked for at the API itself.
type writer struct {
	client   client.Client
	live     client.Reader
	recorder record.EventRecorder
}

// certain reads an object from the cache and, when it is not there, from the API.
// It says whether there is one.
func (w *writer) certain(ctx context.Context, key types.NamespacedName, into client.Object) (bool, error) {
	err := w.client.Get(ctx, key, into)
	if apierrors.IsNotFound(err) {
		err = w.live.Get(ctx, key, into)
	}
	return err == nil, client.IgnoreNotFound(err)
}

func (w *writer) tell(of client.Object, events []event) {
	for _, e := range events {
		w.recorder.Event(of, e.Type, e.Reason, e.Message)
	}
}

// put writes an object as a whole, and its status if there is one to write. Where
// somebody else was faster, the cache will show it: it says false.
func (w *writer) put(ctx context.Context, object client.Object, spec bool, status func()) (bool, error) {
	var err error
	if spec {
		err = w.client.Update(ctx, object)
	}
	if err == nil && status != nil {
		status()
		err = w.client.Status().Update(ctx, object)
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// claims reconciles PersistentVolumeClaims.
type claims struct{ writer }

// Reconcile brings one claim a step on.
func (c *claims) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var claim corev1.PersistentVolumeClaim
	if err := c.client.Get(ctx, req.NamespacedName, &claim); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	facts, err := c.facts(ctx, &claim)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, c.act(ctx, &claim, planClaim(&claim, facts))
}

func (c *claims) act(ctx context.Context, claim *corev1.PersistentVolumeClaim, p claimPlan) error {
	log.FromContext(ctx).V(1).Info("Looked at a claim", "claim", client.ObjectKeyFromObject(claim), "why", p.Why)
	if p.Volume != nil {
		if written, err := c.put(ctx, p.Volume, true, nil); err != nil || !written {
			return wrapped(err, "bind volume %s to claim %s/%s", p.Volume.Name, claim.Namespace, claim.Name)
		}
	}
	c.tell(claim, p.Events)
	if p.Claim == nil && p.Status == nil {
		return nil
	}
	object := claim.DeepCopy()
	if p.Claim != nil {
		object = p.Claim
	}
	var status func()
	if p.Status != nil {
		status = func() { object.Status = *p.Status }
	}
	_, err := c.put(ctx, object, p.Claim != nil, status)
	return wrapped(err, "write claim %s/%s", claim.Namespace, claim.Name)
}

func wrapped(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// facts reads what a claim's plan rests on.
func (c *claims) facts(ctx context.Context, claim *corev1.PersistentVolumeClaim) (claimFacts, error) {
	var facts claimFacts
	var volumes corev1.PersistentVolumeList
	if err := c.client.List(ctx, &volumes, client.UnsafeDisableDeepCopy); err != nil {
		return facts, fmt.Errorf("list PersistentVolumes: %w", err)
	}
	for i := range volumes.Items {
		facts.Volumes = append(facts.Volumes, &volumes.Items[i])
	}
	if name := claim.Spec.VolumeName; name != "" && named(facts.Volumes, name) == nil {
		var missed corev1.PersistentVolume
		there, err := c.certain(ctx, types.NamespacedName{Name: name}, &missed)
		if err != nil {
			return facts, fmt.Errorf("get PersistentVolume %s: %w", name, err)
		}
		if there {
			facts.Volumes = append(facts.Volumes, &missed)
		}
	}
	if name := volume.GetPersistentVolumeClaimClass(claim); name != "" {
		var class storagev1.StorageClass
		there, err := c.certain(ctx, types.NamespacedName{Name: name}, &class)
		if err != nil {
			return facts, fmt.Errorf("get StorageClass %s: %w", name, err)
		}
		if there {
			facts.Class = &class
		}
	}
	return facts, c.nodes(ctx, claim, &facts)
}

// nodes reads the nodes, and the pod that waits, of a claim that has no volume.
func (c *claims) nodes(ctx context.Context, claim *corev1.PersistentVolumeClaim, facts *claimFacts) error {
	if claim.Spec.VolumeName != "" {
		return nil
	}
	var nodes corev1.NodeList
	if err := c.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if !condition.OfNode(n, corev1.NodeReady) {
			continue
		}
		if n.Name == claim.Annotations[volume.AnnSelectedNode] {
			facts.Node = n
		}
		if !n.Spec.Unschedulable {
			facts.Nodes = append(facts.Nodes, n)
		}
	}
	var pods corev1.PodList
	if err := c.client.List(ctx, &pods, client.InNamespace(claim.Namespace), client.MatchingFields{podClaims: claim.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName == "" && p.DeletionTimestamp == nil && (facts.Consumer == "" || p.Name < facts.Consumer) {
			facts.Consumer = p.Name
		}
	}
	return nil
}

// volumes reconciles PersistentVolumes.
type volumes struct{ writer }

// Reconcile brings one volume a step on.
func (r *volumes) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var v corev1.PersistentVolume
	if err := r.client.Get(ctx, req.NamespacedName, &v); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	claim, err := r.claim(ctx, v.Spec.ClaimRef)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("find the claim of volume %s: %w", v.Name, err)
	}
	stranded := false
	if node := nodeOf(&v); v.DeletionTimestamp != nil && local(&v) && node != "" {
		there, err := r.certain(ctx, types.NamespacedName{Name: node}, &corev1.Node{})
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("look for node %s: %w", node, err)
		}
		stranded = !there
	}
	return ctrl.Result{}, r.act(ctx, &v, planVolume(&v, claim, stranded))
}

func (r *volumes) act(ctx context.Context, v *corev1.PersistentVolume, p volumePlan) error {
	log.FromContext(ctx).V(1).Info("Looked at a volume", "volume", v.Name, "why", p.Why)
	if p.Volume == nil && p.Status == nil {
		return nil
	}
	object := v.DeepCopy()
	if p.Volume != nil {
		object = p.Volume
	}
	var status func()
	if p.Status != nil {
		status = func() { object.Status = *p.Status }
	}
	written, err := r.put(ctx, object, p.Volume != nil, status)
	if written {
		r.tell(v, p.Events)
	}
	return wrapped(err, "write volume %s", v.Name)
}

// claim returns the claim that a volume names, nil when there certainly is none of
// its name and UID.
func (r *volumes) claim(ctx context.Context, ref *corev1.ObjectReference) (*corev1.PersistentVolumeClaim, error) {
	if ref == nil || ref.UID == "" {
		return nil, nil
	}
	key := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
	for _, reader := range []client.Reader{r.client, r.live} {
		var claim corev1.PersistentVolumeClaim
		switch err := reader.Get(ctx, key, &claim); {
		case client.IgnoreNotFound(err) != nil:
			return nil, err
		case err == nil && claim.UID == ref.UID:
			return &claim, nil
		}
	}
	return nil, nil
}
