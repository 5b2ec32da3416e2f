package apiserver

import (
	"context"
	"fmt"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/store"
)

// api is the storage behind every path, by version and then by resource with
// its subresource.
type api struct {
	namespaces namespaces
	accounts   rest.Getter // ServiceAccounts
	classes    storageClasses
	priorities priorityClasses
	paths      map[schema.GroupVersion]map[string]rest.Storage
	tokens     accountTokens
	roles      storedRoles
	may        authorizer.Authorizer
	pods       *registry.Store
	volumes    *registry.Store // PersistentVolumes
	joiner     joiner
	members    *memberships
	faults     []serviceFault // of stored services
}

// newAPI opens all kinds and gives each its subresources.
func newAPI(ctx context.Context, cfg Config, r registries) (*api, error) {
	a := &api{paths: map[schema.GroupVersion]map[string]rest.Storage{}}
	opened := map[string]resource{}
	for name, k := range kinds() {
		res, err := r.open(k)
		if err != nil {
			return nil, err
		}
		opened[name] = res
		a.put(k.version(), name, res)
		if part(k.newObject(), "Status").IsValid() && !k.noStatus {
			a.put(k.version(), name+"/status", res.status())
		}
	}
	core := opened["pods"].kind.version()
	apps := opened["deployments"].kind.version()

	a.namespaces = newNamespaces(opened["namespaces"])
	a.accounts = opened["serviceaccounts"].Store
	a.classes = opened["storageclasses"].Store
	a.priorities = opened["priorityclasses"].Store
	a.put(core, "namespaces", a.namespaces)
	a.put(core, "namespaces/status", a.namespaces.resource.status()) // with what newNamespaces changed: it must not delete
	a.put(core, "namespaces/finalize", a.namespaces.finalize())

	a.pods, a.volumes = opened["pods"].Store, opened["persistentvolumes"].Store
	a.members = newMemberships(opened["nodes"].Store)
	a.joiner = joiner{cfg, a.members, &claims{}, opened["secrets"].Store, opened["nodes"].Store}
	agents, err := newAgents(cfg, opened["nodes"].Store)
	if err != nil {
		return nil, err
	}
	if a.tokens, err = newAccountTokens(cfg, opened); err != nil {
		return nil, err
	}
	a.put(core, "serviceaccounts/token", tokenRequest{a.tokens})
	a.put(authenticationv1.SchemeGroupVersion, "tokenreviews", newTokenReviews(a.tokens))
	a.put(authenticationv1.SchemeGroupVersion, "selfsubjectreviews", newSelfSubjectReviews())
	a.roles = newStoredRoles(opened)
	if a.may, err = newAuthorizer(nodeAuthorizer{a.members, a.pods, a.volumes}, a.roles); err != nil {
		return nil, err
	}
	for name, review := range newAccessReviews(a.may, a.roles) {
		a.put(authorizationv1.SchemeGroupVersion, name, review)
	}
	a.put(authorizationv1.SchemeGroupVersion, "localsubjectaccessreviews", newLocalAccessReviews(a.may))

	a.putPodParts(core, opened, agents)
	a.putProxies(core, opened, agents, newProxyTransport(cfg))
	a.put(metricsv1beta1.SchemeGroupVersion, "pods", podMetrics{opened["pods"].Store, agents})
	a.put(metricsv1beta1.SchemeGroupVersion, "nodes", nodeMetrics{opened["nodes"].Store, agents})

	a.put(core, "replicationcontrollers/scale", newScale(opened["replicationcontrollers"]))
	a.put(apps, "deployments/scale", newScale(opened["deployments"]))
	a.put(apps, "replicasets/scale", newScale(opened["replicasets"]))
	a.put(apps, "statefulsets/scale", newScale(opened["statefulsets"]))

	a.put(eventsv1.SchemeGroupVersion, "events", opened["events"])

	stored, err := r.stored(ctx, opened["services"].kind)
	if err != nil {
		return nil, err
	}
	services, faults, err := newServices(cfg, opened["services"], stored.(*corev1.ServiceList))
	if err != nil {
		return nil, err
	}
	a.put(core, "services", services)
	a.faults = faults
	return a, nil
}

// putPodParts serves what can be done with a pod beside writing it.
func (a *api) putPodParts(core schema.GroupVersion, opened map[string]resource, agents agents) {
	pods := opened["pods"]
	binder := binding{pods.Store}
	a.put(core, "bindings", legacyBinding{binder})
	a.put(core, "pods/binding", binder)
	a.put(core, "pods/eviction", eviction{pods.Store, opened["poddisruptionbudgets"].Store})
	a.put(core, "pods/ephemeralcontainers", ephemeralContainers(pods))
	a.put(core, "pods/resize", podResize(pods))
	a.put(core, "pods/log", logs{pods.Store, agents})
	a.put(core, "pods/portforward", portForward{pods.Store, agents})
	processes := streams{pods.Store, agents}
	a.put(core, "pods/exec", execute{processes})
	a.put(core, "pods/attach", attach{processes})
}

// putProxies serves the ways through the API to what pods, Services and nodes serve.
func (a *api) putProxies(core schema.GroupVersion, opened map[string]resource, agents agents, transport *http.Transport) {
	a.put(core, "pods/proxy", podProxy{opened["pods"].Store, transport})
	a.put(core, "services/proxy", serviceProxy{opened["services"].Store, opened["endpointslices"].Store, opened["pods"].Store, transport})
	a.put(core, "nodes/proxy", nodeProxy{agents, transport})
}

func (a *api) put(version schema.GroupVersion, path string, storage rest.Storage) {
	if a.paths[version] == nil {
		a.paths[version] = map[string]rest.Storage{}
	}
	a.paths[version][path] = storage
}

// groupOrder is the order in which discovery lists the groups, and in which
// kubectl looks for a resource by its short name.
var groupOrder = []schema.GroupVersion{
	appsv1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion, rbacv1.SchemeGroupVersion,
	eventsv1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion,
	discoveryv1.SchemeGroupVersion, policyv1.SchemeGroupVersion, schedulingv1.SchemeGroupVersion, storagev1.SchemeGroupVersion,
	metricsv1beta1.SchemeGroupVersion, v1alpha1.GroupVersion,
}

// install serves the paths.
func (a *api) install(server *genericapiserver.GenericAPIServer, scheme *runtime.Scheme, codecs codecs) error {
	group := func(version schema.GroupVersion) *genericapiserver.APIGroupInfo {
		info := genericapiserver.NewDefaultAPIGroupInfo(version.Group, scheme, runtime.NewParameterCodec(scheme), codecs.CodecFactory)
		info.NegotiatedSerializer = codecs.of(version.Group)
		info.PrioritizedVersions = []schema.GroupVersion{version}
		info.VersionedResourcesStorageMap[version.Version] = a.paths[version]
		return &info
	}
	if err := server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, group(corev1.SchemeGroupVersion)); err != nil {
		return fmt.Errorf("install the core group: %w", err)
	}
	var groups []*genericapiserver.APIGroupInfo
	for _, version := range groupOrder {
		groups = append(groups, group(version))
	}
	if err := server.InstallAPIGroups(groups...); err != nil {
		return fmt.Errorf("install the API groups: %w", err)
	}
	return nil
}

// storeCheck is the readiness check of the store.
func storeCheck(s *store.Store) func(*http.Request) error {
	return func(request *http.Request) error { return s.Ready(request.Context()) }
}
