package defaults

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Register adds to scheme the defaulting function of every served kind that has
// defaults, and of its list, so that decoding a request or a stored object
// defaults it. Kinds without defaults of their own (ConfigMap, ServiceAccount,
// Event, Lease, Scale, Binding) need none.
//
// The kinds must be known to scheme already: Register returns an error, having
// registered some, when one is not, since its objects would then never be defaulted.
func Register(scheme *runtime.Scheme) error {
	for _, add := range []func(*runtime.Scheme) error{
		kind(pod, func(l *corev1.PodList) []corev1.Pod { return l.Items }),
		kind(podTemplate, func(l *corev1.PodTemplateList) []corev1.PodTemplate { return l.Items }),
		kind(replicationController, func(l *corev1.ReplicationControllerList) []corev1.ReplicationController { return l.Items }),
		kind(service, func(l *corev1.ServiceList) []corev1.Service { return l.Items }),
		kind(endpoints, func(l *corev1.EndpointsList) []corev1.Endpoints { return l.Items }),
		kind(namespace, func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items }),
		kind(node, func(l *corev1.NodeList) []corev1.Node { return l.Items }),
		kind(secret, func(l *corev1.SecretList) []corev1.Secret { return l.Items }),
		kind(persistentVolume, func(l *corev1.PersistentVolumeList) []corev1.PersistentVolume { return l.Items }),
		kind(persistentVolumeClaim, func(l *corev1.PersistentVolumeClaimList) []corev1.PersistentVolumeClaim { return l.Items }),
		kind(deployment, func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items }),
		kind(replicaSet, func(l *appsv1.ReplicaSetList) []appsv1.ReplicaSet { return l.Items }),
		kind(statefulSet, func(l *appsv1.StatefulSetList) []appsv1.StatefulSet { return l.Items }),
		kind(roleBinding, func(l *rbacv1.RoleBindingList) []rbacv1.RoleBinding { return l.Items }),
		kind(clusterRoleBinding, func(l *rbacv1.ClusterRoleBindingList) []rbacv1.ClusterRoleBinding { return l.Items }),
		kind(endpointSlice, func(l *discoveryv1.EndpointSliceList) []discoveryv1.EndpointSlice { return l.Items }),
		kind(priorityClass, func(l *schedulingv1.PriorityClassList) []schedulingv1.PriorityClass { return l.Items }),
		kind(storageClass, func(l *storagev1.StorageClassList) []storagev1.StorageClass { return l.Items }),
	} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	return nil
}

// object is a pointer to T that is an API object.
type object[T any] interface {
	*T
	runtime.Object
}

// kind returns what registers fill for objects of type T and, item by item, for lists of type L.
func kind[T, L any, PT object[T], PL object[L]](fill func(*T), items func(*L) []T) func(*runtime.Scheme) error {
	return func(scheme *runtime.Scheme) error {
		one, many := PT(new(T)), PL(new(L))
		for _, obj := range []runtime.Object{one, many} {
			if _, _, err := scheme.ObjectKinds(obj); err != nil {
				return fmt.Errorf("defaults for %T: %w", obj, err)
			}
		}
		scheme.AddTypeDefaultingFunc(one, func(obj any) { fill((*T)(obj.(PT))) })
		scheme.AddTypeDefaultingFunc(many, func(obj any) {
			list := items((*L)(obj.(PL)))
			for i := range list {
				fill(&list[i])
			}
		})
		return nil
	}
}

// orElse sets *field to value when it is empty.
func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// orPointer sets *field to point to value when it is nil.
func orPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
