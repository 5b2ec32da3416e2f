package validation

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"windlass.dev/windlass/api/v1alpha1"
)

// Create returns the faults of obj, about to be stored for the first time.
// Its defaults, name and namespace must be set. A kind without rules here is refused
// with an internal error, so that a forgotten kind cannot be stored unchecked.
//
// Bindings, Evictions and Scales, which are sent to a subresource, are checked here too.
func Create(obj runtime.Object) field.ErrorList {
	switch obj := obj.(type) {
	case *corev1.Pod:
		return ValidatePod(obj)
	case *corev1.Namespace:
		return namespaceCreate(obj)
	case *corev1.Node:
		return nodeCreate(obj)
	case *corev1.Service:
		return serviceCreate(obj)
	case *corev1.Endpoints:
		return endpointsCreate(obj)
	case *corev1.ConfigMap:
		return configMapCreate(obj)
	case *corev1.Secret:
		return secretCreate(obj)
	case *corev1.ServiceAccount:
		return serviceAccountCreate(obj)
	case *corev1.Event:
		return eventCreate(obj)
	case *corev1.ReplicationController:
		return replicationControllerCreate(obj)
	case *corev1.PersistentVolume:
		return persistentVolumeCreate(obj)
	case *corev1.PersistentVolumeClaim:
		return persistentVolumeClaimCreate(obj)
	case *corev1.Binding:
		return bindingCreate(obj)
	case *appsv1.Deployment:
		return deploymentCreate(obj)
	case *appsv1.ReplicaSet:
		return replicaSetCreate(obj)
	case *appsv1.StatefulSet:
		return statefulSetCreate(obj)
	case *appsv1.ControllerRevision:
		return controllerRevisionCreate(obj)
	case *autoscalingv1.Scale:
		return scaleCreate(obj)
	case *coordinationv1.Lease:
		return leaseCreate(obj)
	case *discoveryv1.EndpointSlice:
		return endpointSliceCreate(obj)
	case *eventsv1.Event:
		return newEventCreate(obj)
	case *policyv1.Eviction:
		return evictionCreate(obj)
	case *policyv1.PodDisruptionBudget:
		return disruptionBudgetCreate(obj)
	case *schedulingv1.PriorityClass:
		return priorityClassCreate(obj)
	case *rbacv1.Role:
		return roleCreate(obj)
	case *rbacv1.ClusterRole:
		return clusterRoleCreate(obj)
	case *rbacv1.RoleBinding:
		return roleBindingCreate(obj)
	case *rbacv1.ClusterRoleBinding:
		return clusterRoleBindingCreate(obj)
	case *storagev1.StorageClass:
		return storageClassCreate(obj)
	case *v1alpha1.RolloutRecord:
		return rolloutRecordCreate(obj)
	}
	return unknownKind(obj)
}

// Update returns the faults of obj as the replacement of old, both of one kind.
// Status is taken as it is: the strategy resets it to the old one beforehand.
func Update(obj, old runtime.Object) field.ErrorList {
	switch obj := obj.(type) {
	case *corev1.Pod:
		return replacing(obj, old, ValidatePodUpdate)
	case *corev1.Namespace:
		return replacing(obj, old, namespaceUpdate)
	case *corev1.Node:
		return replacing(obj, old, nodeUpdate)
	case *corev1.Service:
		return replacing(obj, old, serviceUpdate)
	case *corev1.Endpoints:
		return replacing(obj, old, endpointsUpdate)
	case *corev1.ConfigMap:
		return replacing(obj, old, configMapUpdate)
	case *corev1.Secret:
		return replacing(obj, old, secretUpdate)
	case *corev1.ServiceAccount:
		return replacing(obj, old, serviceAccountUpdate)
	case *corev1.Event:
		return replacing(obj, old, eventUpdate)
	case *corev1.ReplicationController:
		return replacing(obj, old, replicationControllerUpdate)
	case *corev1.PersistentVolume:
		return replacing(obj, old, persistentVolumeUpdate)
	case *corev1.PersistentVolumeClaim:
		return replacing(obj, old, persistentVolumeClaimUpdate)
	case *appsv1.Deployment:
		return replacing(obj, old, deploymentUpdate)
	case *appsv1.ReplicaSet:
		return replacing(obj, old, replicaSetUpdate)
	case *appsv1.StatefulSet:
		return replacing(obj, old, statefulSetUpdate)
	case *appsv1.ControllerRevision:
		return replacing(obj, old, controllerRevisionUpdate)
	case *autoscalingv1.Scale:
		return scaleCreate(obj)
	case *coordinationv1.Lease:
		return replacing(obj, old, leaseUpdate)
	case *discoveryv1.EndpointSlice:
		return replacing(obj, old, endpointSliceUpdate)
	case *eventsv1.Event:
		return replacing(obj, old, newEventUpdate)
	case *policyv1.PodDisruptionBudget:
		return replacing(obj, old, disruptionBudgetUpdate)
	case *schedulingv1.PriorityClass:
		return replacing(obj, old, priorityClassUpdate)
	case *rbacv1.Role:
		return replacing(obj, old, roleUpdate)
	case *rbacv1.ClusterRole:
		return replacing(obj, old, clusterRoleUpdate)
	case *rbacv1.RoleBinding:
		return replacing(obj, old, roleBindingUpdate)
	case *rbacv1.ClusterRoleBinding:
		return replacing(obj, old, clusterRoleBindingUpdate)
	case *storagev1.StorageClass:
		return replacing(obj, old, storageClassUpdate)
	case *v1alpha1.RolloutRecord:
		return replacing(obj, old, rolloutRecordUpdate)
	}
	return unknownKind(obj)
}

// StatusUpdate returns the faults of obj as a replacement of old through the status
// subresource: the strategy resets everything but status and some metadata beforehand.
// Kinds without a status are refused with an internal error.
func StatusUpdate(obj, old runtime.Object) field.ErrorList {
	switch obj := obj.(type) {
	case *corev1.Pod:
		return replacing(obj, old, ValidatePodStatusUpdate)
	case *corev1.Namespace:
		return replacing(obj, old, namespaceStatusUpdate)
	case *corev1.Node:
		return replacing(obj, old, nodeUpdate)
	case *corev1.Service:
		return replacing(obj, old, serviceStatusUpdate)
	case *corev1.ReplicationController:
		return replacing(obj, old, replicationControllerStatusUpdate)
	case *corev1.PersistentVolume:
		return replacing(obj, old, persistentVolumeStatusUpdate)
	case *corev1.PersistentVolumeClaim:
		return replacing(obj, old, persistentVolumeClaimStatusUpdate)
	case *appsv1.Deployment:
		return replacing(obj, old, deploymentStatusUpdate)
	case *appsv1.ReplicaSet:
		return replacing(obj, old, replicaSetStatusUpdate)
	case *appsv1.StatefulSet:
		return replacing(obj, old, statefulSetStatusUpdate)
	case *policyv1.PodDisruptionBudget:
		return replacing(obj, old, disruptionBudgetStatusUpdate)
	case *v1alpha1.RolloutRecord:
		return replacing(obj, old, rolloutRecordStatusUpdate)
	}
	return unknownKind(obj)
}

// replacing applies a rule about an object and its predecessor, after making sure that
// the predecessor is of the object's kind.
func replacing[T runtime.Object](obj T, old runtime.Object, rule func(obj, old T) field.ErrorList) field.ErrorList {
	was, ok := old.(T)
	if !ok {
		return field.ErrorList{field.InternalError(nil, fmt.Errorf("a %T cannot replace a %T", obj, old))}
	}
	return rule(obj, was)
}

func unknownKind(obj runtime.Object) field.ErrorList {
	return field.ErrorList{field.InternalError(nil, fmt.Errorf("no rules for a write of a %T", obj))}
}
