package apiserver

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"

	"windlass.dev/windlass/api/v1alpha1"
)

// kind says everything that is particular about one served kind. What is not
// said is as for most kinds.
type kind struct {
	group      string // "" is the core group
	apiVersion string // of the group; "" is v1
	resource   string // plural, lower case
	singular   string
	shortNames []string
	categories []string
	global     bool // not in a namespace

	newObject func() runtime.Object
	newList   func() runtime.Object

	// prefix is the place in the store, when it is not "/" + resource.
	prefix string

	// uncached kinds are read from the store, not from a watch cache.
	uncached bool

	// ttl is how many seconds an object lives; 0 is forever.
	ttl uint64

	// generation says that metadata.generation counts changes of the spec.
	generation bool

	// createOnUpdate lets PUT make what does not exist.
	createOnUpdate bool

	// mustBeCurrent refuses updates that do not name a resourceVersion.
	mustBeCurrent bool

	// noStatus leaves the status subresource out.
	noStatus bool

	// keepsStatus lets a new object bring its status along.
	keepsStatus bool

	// collection is what deletion does with dependents when not told.
	collection rest.GarbageCollectionPolicy

	// fields returns what field selectors may look at, beyond the name and
	// namespace. Every field that selectors support must be in every answer.
	fields func(obj runtime.Object) fields.Set

	// prepareCreate and prepareUpdate normalize an object before it is
	// validated, after what is common to all kinds.
	prepareCreate func(ctx context.Context, obj runtime.Object)
	prepareUpdate func(ctx context.Context, obj, old runtime.Object)

	// prepareStatus restores, in an update of the status, what it may not touch
	// besides the spec.
	prepareStatus func(obj, old runtime.Object)

	// authored returns the part of an object whose last author is kept with it.
	authored func(obj runtime.Object) any

	// warnings returns what to tell the one who writes obj; old is nil at creation.
	warnings func(obj, old runtime.Object) []string

	// graceful implements rest.RESTGracefulDeleteStrategy.
	graceful gracefulFunc
}

func (k *kind) version() schema.GroupVersion {
	if k.apiVersion != "" {
		return schema.GroupVersion{Group: k.group, Version: k.apiVersion}
	}
	return schema.GroupVersion{Group: k.group, Version: "v1"}
}

func (k *kind) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.group, Resource: k.resource}
}

func (k *kind) storePrefix() string {
	if k.prefix != "" {
		return k.prefix
	}
	return "/" + k.resource
}

var all = []string{"all"}

// object makes an object of type T; object[T] is a kind's constructor.
func object[T any, P interface {
	*T
	runtime.Object
}]() runtime.Object {
	return P(new(T))
}

// kinds returns every kind that is served with the usual verbs.
func kinds() map[string]*kind {
	out := map[string]*kind{}
	for _, k := range []*kind{
		{resource: "namespaces", singular: "namespace", shortNames: []string{"ns"}, global: true,
			newObject: object[corev1.Namespace], newList: object[corev1.NamespaceList],
			fields: namespaceFields, prepareCreate: namespaceCreate, prepareUpdate: namespaceUpdate},

		{resource: "pods", singular: "pod", shortNames: []string{"po"}, categories: all,
			newObject: object[corev1.Pod], newList: object[corev1.PodList],
			generation: true, fields: podFields, prepareCreate: podCreate, prepareUpdate: podUpdate, prepareStatus: podStatus,
			warnings: podWarnings, graceful: podGrace},

		{resource: "services", singular: "service", shortNames: []string{"svc"}, categories: all, prefix: "/services/specs",
			newObject: object[corev1.Service], newList: object[corev1.ServiceList],
			createOnUpdate: true, fields: serviceFields, prepareUpdate: serviceUpdate, authored: serviceAuthored},

		{resource: "endpoints", singular: "endpoints", shortNames: []string{"ep"}, prefix: "/services/endpoints",
			newObject: object[corev1.Endpoints], newList: object[corev1.EndpointsList], createOnUpdate: true},

		{resource: "configmaps", singular: "configmap", shortNames: []string{"cm"},
			newObject: object[corev1.ConfigMap], newList: object[corev1.ConfigMapList]},

		{resource: "secrets", singular: "secret",
			newObject: object[corev1.Secret], newList: object[corev1.SecretList],
			fields: secretFields, prepareCreate: secretCreate, prepareUpdate: secretUpdate},

		{resource: "serviceaccounts", singular: "serviceaccount", shortNames: []string{"sa"},
			newObject: object[corev1.ServiceAccount], newList: object[corev1.ServiceAccountList]},

		{resource: "events", singular: "event", shortNames: []string{"ev"}, uncached: true, ttl: eventSeconds,
			newObject: object[corev1.Event], newList: object[corev1.EventList],
			createOnUpdate: true, collection: rest.Unsupported, fields: eventFields, prepareCreate: untrack},

		{resource: "nodes", singular: "node", shortNames: []string{"no"}, global: true, prefix: "/minions", keepsStatus: true,
			newObject: object[corev1.Node], newList: object[corev1.NodeList], fields: nodeFields},

		{resource: "replicationcontrollers", singular: "replicationcontroller", shortNames: []string{"rc"}, categories: all,
			prefix: "/controllers", newObject: object[corev1.ReplicationController], newList: object[corev1.ReplicationControllerList],
			generation: true, collection: rest.OrphanDependents, fields: controllerFields,
			prepareCreate: workloadCreate, prepareUpdate: workloadUpdate, authored: controllerAuthored},

		{resource: "persistentvolumes", singular: "persistentvolume", shortNames: []string{"pv"}, global: true,
			newObject: object[corev1.PersistentVolume], newList: object[corev1.PersistentVolumeList],
			prepareCreate: volumeCreate, prepareStatus: volumeStatus, warnings: volumeWarnings},

		{resource: "persistentvolumeclaims", singular: "persistentvolumeclaim", shortNames: []string{"pvc"},
			newObject: object[corev1.PersistentVolumeClaim], newList: object[corev1.PersistentVolumeClaimList],
			prepareCreate: claimCreate},

		{group: "apps", resource: "deployments", singular: "deployment", shortNames: []string{"deploy"}, categories: all,
			newObject: object[appsv1.Deployment], newList: object[appsv1.DeploymentList],
			generation: true, prepareCreate: workloadCreate, prepareUpdate: deploymentUpdate, prepareStatus: deploymentStatus,
			authored: deploymentAuthored},

		{group: "apps", resource: "replicasets", singular: "replicaset", shortNames: []string{"rs"}, categories: all,
			newObject: object[appsv1.ReplicaSet], newList: object[appsv1.ReplicaSetList],
			generation: true, fields: replicaSetFields, prepareCreate: workloadCreate, prepareUpdate: workloadUpdate},

		{group: "apps", resource: "statefulsets", singular: "statefulset", shortNames: []string{"sts"}, categories: all,
			newObject: object[appsv1.StatefulSet], newList: object[appsv1.StatefulSetList],
			generation: true, prepareCreate: workloadCreate, prepareUpdate: workloadUpdate, authored: statefulSetAuthored},

		{group: "apps", resource: "controllerrevisions", singular: "controllerrevision",
			newObject: object[appsv1.ControllerRevision], newList: object[appsv1.ControllerRevisionList]},

		{group: rbacv1.GroupName, resource: "roles", singular: "role",
			newObject: object[rbacv1.Role], newList: object[rbacv1.RoleList]},

		{group: rbacv1.GroupName, resource: "rolebindings", singular: "rolebinding",
			newObject: object[rbacv1.RoleBinding], newList: object[rbacv1.RoleBindingList]},

		{group: rbacv1.GroupName, resource: "clusterroles", singular: "clusterrole", global: true,
			newObject: object[rbacv1.ClusterRole], newList: object[rbacv1.ClusterRoleList]},

		{group: rbacv1.GroupName, resource: "clusterrolebindings", singular: "clusterrolebinding", global: true,
			newObject: object[rbacv1.ClusterRoleBinding], newList: object[rbacv1.ClusterRoleBindingList]},

		{group: "coordination.k8s.io", resource: "leases", singular: "lease",
			newObject: object[coordinationv1.Lease], newList: object[coordinationv1.LeaseList],
			createOnUpdate: true, mustBeCurrent: true},

		{group: "discovery.k8s.io", resource: "endpointslices", singular: "endpointslice",
			newObject: object[discoveryv1.EndpointSlice], newList: object[discoveryv1.EndpointSliceList],
			prepareCreate: endpointSliceCreate, prepareUpdate: endpointSliceUpdate},

		{group: "policy", resource: "poddisruptionbudgets", singular: "poddisruptionbudget", shortNames: []string{"pdb"},
			newObject: object[policyv1.PodDisruptionBudget], newList: object[policyv1.PodDisruptionBudgetList], generation: true},

		{group: "scheduling.k8s.io", resource: "priorityclasses", singular: "priorityclass", shortNames: []string{"pc"}, global: true,
			newObject: object[schedulingv1.PriorityClass], newList: object[schedulingv1.PriorityClassList]},

		{group: "storage.k8s.io", resource: "storageclasses", singular: "storageclass", shortNames: []string{"sc"}, global: true,
			newObject: object[storagev1.StorageClass], newList: object[storagev1.StorageClassList]},

		{group: v1alpha1.GroupVersion.Group, apiVersion: v1alpha1.GroupVersion.Version,
			resource: "rolloutrecords", singular: "rolloutrecord", shortNames: []string{"rr"}, prefix: "/windlass.dev/rolloutrecords",
			newObject: object[v1alpha1.RolloutRecord], newList: object[v1alpha1.RolloutRecordList],
			generation: true, fields: recordFields, prepareCreate: untrack, prepareStatus: recordStatus},
	} {
		out[k.resource] = k
	}
	return out
}
