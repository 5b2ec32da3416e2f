package namespace

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/internal/controller/loop"
)

// workers is how many namespaces are emptied at a time.
const workers = 4

// Setup adds the controller to a manager; it runs once the manager starts. It
// records no events: a namespace that waits says why in its conditions. It
// returns the error of making a discovery or metadata client, or the manager's
// when the name "namespace" is taken.
func Setup(mgr ctrl.Manager, _ record.EventRecorder) error {
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("namespace: make a discovery client: %w", err)
	}
	objects, err := metadata.NewForConfigAndClient(metadata.ConfigFor(mgr.GetConfig()), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("namespace: make a metadata client: %w", err)
	}
	r := &reconciler{client: mgr.GetClient(), content: content{discovery: kinds, objects: objects}, now: time.Now}
	return ctrl.NewControllerManagedBy(mgr).
		Named("namespace").
		For(&corev1.Namespace{}).
		Watches(&corev1.Pod{}, r.podHandler()).
		WithOptions(loop.Options(workers)).
		Complete(r)
}

// sweeper deletes the content of a namespace.
type sweeper interface {
	// sweep deletes everything in a namespace and says what is left.
	sweep(ctx context.Context, namespace string) sweep
}

// reconciler brings a namespace that is being deleted to its end.
type reconciler struct {
	client  client.Client
	content sweeper
	now     func() time.Time
}

// Reconcile sweeps a namespace that is being deleted and finalizes it when it is empty.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var namespace corev1.Namespace
	if err := r.client.Get(ctx, req.NamespacedName, &namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp == nil || !slices.Contains(namespace.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return ctrl.Result{}, nil
	}
	next := plan(&namespace, r.content.sweep(ctx, namespace.Name), r.now())
	log.FromContext(ctx).V(1).Info("Deleting a namespace", "finalize", next.Finalize, "why", next.Why)
	err := r.write(ctx, &namespace, next)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) { // the cache is behind
		return ctrl.Result{RequeueAfter: firstLook}, nil
	}
	return ctrl.Result{RequeueAfter: next.WakeAt}, err
}

// write makes one step true.
func (r *reconciler) write(ctx context.Context, namespace *corev1.Namespace, next step) error {
	changed := namespace.DeepCopy()
	if next.Finalize {
		changed.Spec.Finalizers = slices.DeleteFunc(changed.Spec.Finalizers,
			func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		if err := r.client.SubResource("finalize").Update(ctx, changed); err != nil {
			return fmt.Errorf("finalize: %w", err)
		}
		return nil
	}
	changed.Status.Conditions = next.Conditions
	if equality.Semantic.DeepEqual(changed.Status, namespace.Status) {
		return nil
	}
	if err := r.client.Status().Update(ctx, changed); err != nil {
		return fmt.Errorf("update conditions: %w", err)
	}
	return nil
}

// podHandler looks at a namespace again when a pod of it is gone, as pods are
// what a deletion usually waits for.
func (r *reconciler) podHandler() handler.EventHandler {
	return loop.Events[*corev1.Pod]{
		Deleted: func(ctx context.Context, pod *corev1.Pod, q loop.Queue) {
			var namespace corev1.Namespace
			if r.client.Get(ctx, client.ObjectKey{Name: pod.Namespace}, &namespace) == nil && namespace.DeletionTimestamp != nil {
				loop.Wake(q, loop.For(&namespace))
			}
		},
	}.Handler()
}
