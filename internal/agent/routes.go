package agent

import (
	"context"
	"fmt"
	"strconv"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// readRoutes reads from the cache, without copying, who may send a pod traffic.
func readRoutes(ctx context.Context, reader client.Reader, pod *corev1.Pod) (Routes, error) {
	var routes Routes
	var services corev1.ServiceList
	if err := reader.List(ctx, &services, client.InNamespace(pod.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return routes, fmt.Errorf("list services: %w", err)
	}
	selects := map[string]bool{} // Services with a selector: whether it selects the pod
	for i := range services.Items {
		s := &services.Items[i]
		if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		selects[s.Name] = labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels))
		if selects[s.Name] {
			routes.Services = append(routes.Services, s.Name)
		}
	}
	if len(selects) == 0 {
		return routes, nil
	}
	var listed discoveryv1.EndpointSliceList
	if err := reader.List(ctx, &listed, client.InNamespace(pod.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return routes, fmt.Errorf("list endpoint slices: %w", err)
	}
	for i := range listed.Items {
		slice := &listed.Items[i]
		service := slice.Labels[discoveryv1.LabelServiceName]
		selected, has := selects[service]
		version, err := strconv.ParseUint(slice.ResourceVersion, 10, 64)
		if !has || err != nil {
			continue
		}
		if !selected {
			routes.Others = max(routes.Others, version)
		}
		if as, ok := listedAs(slice, pod); ok {
			as.Service, as.Version = service, version
			routes.Slices = append(routes.Slices, as)
		}
	}
	if len(routes.Slices) == 0 && len(routes.Services) == 0 && routes.Others == 0 {
		return routes, nil
	}
	var err error
	routes.Proxies, err = readProxies(ctx, reader)
	return routes, err
}

// listedAs returns the conditions with which a slice lists a pod, if it does.
func listedAs(slice *discoveryv1.EndpointSlice, pod *corev1.Pod) (Slice, bool) {
	is := func(condition *bool, otherwise bool) bool {
		if condition == nil {
			return otherwise
		}
		return *condition
	}
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if e.TargetRef != nil && e.TargetRef.UID == pod.UID {
			ready := is(e.Conditions.Ready, true)
			return Slice{Serving: is(e.Conditions.Serving, ready), Terminating: is(e.Conditions.Terminating, false)}, true
		}
	}
	return Slice{}, false
}

// readProxies returns how far the proxy of each live node is. A node lives until
// the control plane, by the node's Lease and one clock, says that it does not know.
// Hollow nodes have no proxy.
func readProxies(ctx context.Context, reader client.Reader) ([]Proxy, error) {
	var nodes corev1.NodeList
	if err := reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var list coordinationv1.LeaseList
	if err := reader.List(ctx, &list, client.InNamespace(v1alpha1.NamespaceNodeLease), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	leases := map[string]*coordinationv1.Lease{}
	for i := range list.Items {
		leases[list.Items[i].Name] = &list.Items[i]
	}
	var proxies []Proxy
	for i := range nodes.Items {
		node := nodes.Items[i].Name
		own := leases[node]
		if nodes.Items[i].Labels[v1alpha1.LabelHollow] != "" || own == nil || own.Spec.RenewTime == nil || silent(&nodes.Items[i]) {
			continue
		}
		proxy := Proxy{Node: node}
		if lease := leases[v1alpha1.ProxyLeaseName(node)]; lease != nil {
			if version, err := strconv.ParseUint(lease.Annotations[v1alpha1.AnnotationAppliedVersion], 10, 64); err == nil {
				proxy.Applied = version
			}
		}
		proxies = append(proxies, proxy)
	}
	return proxies, nil
}

// silent: nobody has heard of the node's agent for as long as its Lease says.
func silent(node *corev1.Node) bool {
	ready := condition.FindNode(node.Status.Conditions, corev1.NodeReady)
	return ready != nil && ready.Status == corev1.ConditionUnknown
}
