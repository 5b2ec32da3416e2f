package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/internal/controller/loop"
)

const (
	accountName  = "default"
	rootCAName   = "kube-root-ca.crt"
	rootCAKey    = "ca.crt"
	rootCAReason = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Setup adds the controller to a manager; it runs once the manager starts.
// rootCA is the PEM of the certificate authority that signed the API's
// certificate.
func Setup(mgr ctrl.Manager, rootCA []byte) error {
	namespaceOf := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, object client.Object) []reconcile.Request {
		return []reconcile.Request{loop.Named("", object.GetNamespace())}
	})
	named := func(name string) builder.WatchesOption {
		return builder.WithPredicates(predicate.NewPredicateFuncs(func(object client.Object) bool { return object.GetName() == name }))
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("serviceaccount").
		For(&corev1.Namespace{}).
		Watches(&corev1.ServiceAccount{}, namespaceOf, named(accountName)).
		Watches(&corev1.ConfigMap{}, namespaceOf, named(rootCAName)).
		Complete(&reconciler{client: mgr.GetClient(), rootCA: string(rootCA)})
}

type reconciler struct {
	client client.Client
	rootCA string
}

// Reconcile makes what a namespace lacks, and mends what was changed.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var namespace corev1.Namespace
	if err := r.client.Get(ctx, req.NamespacedName, &namespace); err != nil || namespace.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	for _, ensure := range []func(context.Context, string) error{r.ensureAccount, r.ensureRootCA} {
		err := ensure(ctx, namespace.Name)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err) {
			return ctrl.Result{}, nil // the namespace is on its way out
		}
		if err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, nil
}

func (r *reconciler) ensureAccount(ctx context.Context, namespace string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: accountName}}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(account), account)
	if !apierrors.IsNotFound(err) {
		return err
	}
	if err := r.client.Create(ctx, account); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ServiceAccount %s/%s: %w", namespace, accountName, err)
	}
	return nil
}

func (r *reconciler) ensureRootCA(ctx context.Context, namespace string) error {
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: rootCAName,
		Annotations: map[string]string{"kubernetes.io/description": rootCAReason},
	}}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(config), config)
	switch {
	case apierrors.IsNotFound(err):
		config.Data = map[string]string{rootCAKey: r.rootCA}
		if err := r.client.Create(ctx, config); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create ConfigMap %s/%s: %w", namespace, rootCAName, err)
		}
		return nil
	case err != nil:
		return err
	case len(config.Data) == 1 && config.Data[rootCAKey] == r.rootCA:
		return nil
	}
	config.Data = map[string]string{rootCAKey: r.rootCA}
	if err := r.client.Update(ctx, config); err != nil {
		return fmt.Errorf("update ConfigMap %s/%s: %w", namespace, rootCAName, err)
	}
	return nil
}
