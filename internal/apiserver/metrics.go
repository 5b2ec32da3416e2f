package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// What bounds the asking of agents for what their nodes use.
const (
	usageTimeout = 5 * time.Second
	usageAtOnce  = 16 // agents
	maxUsage     = 8 << 20
)

// podMetrics is the resource pods of metrics.k8s.io: what the pods use now, as
// the agents of their nodes tell. Nothing of it is stored.
type podMetrics struct {
	pods   *registry.Store
	agents agents
}

// nodeMetrics is the resource nodes of metrics.k8s.io.
type nodeMetrics struct {
	nodes  *registry.Store
	agents agents
}

var (
	_ rest.Getter = podMetrics{}
	_ rest.Lister = podMetrics{}
	_ rest.Scoper = podMetrics{}
	_ rest.Getter = nodeMetrics{}
	_ rest.Lister = nodeMetrics{}
	_ rest.Scoper = nodeMetrics{}
)

// New implements rest.Storage.
func (podMetrics) New() runtime.Object { return &metricsv1beta1.PodMetrics{} }

// Destroy implements rest.Storage.
func (podMetrics) Destroy() {}

// NewList implements rest.Lister.
func (podMetrics) NewList() runtime.Object { return &metricsv1beta1.PodMetricsList{} }

// NamespaceScoped implements rest.Scoper.
func (podMetrics) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider. Without one, clients
// know it by its kind, podmetrics: "pod" is another resource.
func (podMetrics) GetSingularName() string { return "" }

// ConvertToTable implements rest.TableConvertor.
func (podMetrics) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(metricsv1beta1.Resource("pods")).ConvertToTable(ctx, obj, options)
}

// Get implements rest.Getter.
func (m podMetrics) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	found, err := m.pods.Get(ctx, name, &metav1.GetOptions{})
	missing := apierrors.NewNotFound(metricsv1beta1.Resource("podmetrics"), request.NamespaceValue(ctx)+"/"+name)
	if apierrors.IsNotFound(err) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	list := m.of(ctx, []corev1.Pod{*found.(*corev1.Pod)})
	if len(list) == 0 {
		return nil, missing
	}
	return &list[0], nil
}

// List implements rest.Lister. The selectors are those of pods. A pod that does
// not run, or whose node does not answer, is left out.
func (m podMetrics) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	found, err := m.pods.List(ctx, options)
	if err != nil {
		return nil, err
	}
	return &metricsv1beta1.PodMetricsList{Items: m.of(ctx, found.(*corev1.PodList).Items)}, nil
}

// of asks the agents what pods use. Each is believed about the pods of its node
// alone.
func (m podMetrics) of(ctx context.Context, pods []corev1.Pod) []metricsv1beta1.PodMetrics {
	byNode := map[string]map[string]*corev1.Pod{}
	for i := range pods {
		p := &pods[i]
		if p.Spec.NodeName == "" || p.Status.Phase != corev1.PodRunning {
			continue
		}
		if byNode[p.Spec.NodeName] == nil {
			byNode[p.Spec.NodeName] = map[string]*corev1.Pod{}
		}
		byNode[p.Spec.NodeName][p.Namespace+"/"+p.Name] = p
	}
	var nodes []string
	for node := range byNode {
		nodes = append(nodes, node)
	}
	items := []metricsv1beta1.PodMetrics{}
	askAll(ctx, m.agents, nodes, "/usage/pods", decodePodUsage, func(node string, told []metricsv1beta1.PodMetrics) {
		for _, item := range told {
			if p := byNode[node][item.Namespace+"/"+item.Name]; p != nil {
				item.Labels, item.CreationTimestamp = p.Labels, metav1.Now()
				items = append(items, item)
			}
		}
	})
	slices.SortFunc(items, func(a, b metricsv1beta1.PodMetrics) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return items
}

// New implements rest.Storage.
func (nodeMetrics) New() runtime.Object { return &metricsv1beta1.NodeMetrics{} }

// Destroy implements rest.Storage.
func (nodeMetrics) Destroy() {}

// NewList implements rest.Lister.
func (nodeMetrics) NewList() runtime.Object { return &metricsv1beta1.NodeMetricsList{} }

// NamespaceScoped implements rest.Scoper.
func (nodeMetrics) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider.
func (nodeMetrics) GetSingularName() string { return "" }

// ConvertToTable implements rest.TableConvertor.
func (nodeMetrics) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(metricsv1beta1.Resource("nodes")).ConvertToTable(ctx, obj, options)
}

// Get implements rest.Getter.
func (m nodeMetrics) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	found, err := m.nodes.Get(ctx, name, &metav1.GetOptions{})
	missing := apierrors.NewNotFound(metricsv1beta1.Resource("nodemetrics"), name)
	if apierrors.IsNotFound(err) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	list := m.of(ctx, []corev1.Node{*found.(*corev1.Node)})
	if len(list) == 0 {
		return nil, missing
	}
	return &list[0], nil
}

// List implements rest.Lister. A node that does not answer is left out.
func (m nodeMetrics) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	found, err := m.nodes.List(ctx, options)
	if err != nil {
		return nil, err
	}
	return &metricsv1beta1.NodeMetricsList{Items: m.of(ctx, found.(*corev1.NodeList).Items)}, nil
}

func (m nodeMetrics) of(ctx context.Context, list []corev1.Node) []metricsv1beta1.NodeMetrics {
	var names []string
	labels := map[string]map[string]string{}
	for i := range list {
		names = append(names, list[i].Name)
		labels[list[i].Name] = list[i].Labels
	}
	items := []metricsv1beta1.NodeMetrics{}
	askAll(ctx, m.agents, names, "/usage/node", decodeNodeUsage, func(node string, told metricsv1beta1.NodeMetrics) {
		told.Name, told.Labels, told.CreationTimestamp = node, labels[node], metav1.Now()
		items = append(items, told)
	})
	slices.SortFunc(items, func(a, b metricsv1beta1.NodeMetrics) int { return strings.Compare(a.Name, b.Name) })
	return items
}

// askAll asks the agents of nodes, some at a time, and has take called with each
// answer, one after the other. Those that do not answer are logged.
func askAll[T any](ctx context.Context, agents agents, nodes []string, path string, decode func([]byte) (T, error), take func(node string, told T)) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	slots := make(chan struct{}, usageAtOnce)
	for _, node := range nodes {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			told, err := ask(ctx, agents, node, path, decode)
			if err != nil {
				klog.FromContext(ctx).V(2).Info("Node does not tell what it uses", "node", node, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			take(node, told)
		})
	}
	asking.Wait()
}

func ask[T any](ctx context.Context, agents agents, node, path string, decode func([]byte) (T, error)) (told T, err error) {
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	host, err := agents.hostPort(ctx, node)
	if err != nil {
		return told, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		return told, err
	}
	response, err := agents.transport.RoundTrip(req)
	if err != nil {
		return told, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxUsage))
	if err != nil {
		return told, err
	}
	if response.StatusCode != http.StatusOK {
		return told, fmt.Errorf("%s: %.200s", response.Status, content)
	}
	return decode(content)
}

// decodePodUsage reads an agent's answer of what its pods use.
func decodePodUsage(content []byte) ([]metricsv1beta1.PodMetrics, error) {
	var list metricsv1beta1.PodMetricsList
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("what the pods use: %w", err)
	}
	for i := range list.Items {
		item := &list.Items[i]
		item.ObjectMeta = metav1.ObjectMeta{Namespace: item.Namespace, Name: item.Name}
		for _, c := range item.Containers {
			if err := checkUsage(c.Usage, item.Window); err != nil {
				return nil, fmt.Errorf("container %.70q of pod %.300q: %w", c.Name, item.Name, err)
			}
		}
	}
	return list.Items, nil
}

// decodeNodeUsage reads an agent's answer of what its node uses.
func decodeNodeUsage(content []byte) (metricsv1beta1.NodeMetrics, error) {
	var told metricsv1beta1.NodeMetrics
	if err := json.Unmarshal(content, &told); err != nil {
		return told, fmt.Errorf("what the node uses: %w", err)
	}
	told.ObjectMeta = metav1.ObjectMeta{}
	return told, checkUsage(told.Usage, told.Window)
}

func checkUsage(usage corev1.ResourceList, window metav1.Duration) error {
	for name, quantity := range usage {
		if quantity.Sign() < 0 {
			return fmt.Errorf("usage of %.70q is negative", name)
		}
	}
	if window.Duration < 0 {
		return errors.New("the window is negative")
	}
	return nil
}
