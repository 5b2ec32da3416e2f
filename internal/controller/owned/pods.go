// Package owned finds the pods of a controller in the cache that all controllers
// share.
//
// A list by the client copies every pod into a slice: of a set with thousands of
// pods that is megabytes for each look at it. Here a look gets pointers to what
// the cache holds, by an index that all controllers have in common.
package owned

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// Nobody stands for the controller of pods that nothing controls.
	Nobody types.UID = "none"

	// Index is the index of pods by their controller.
	Index = "owned.windlass.dev/controller"
)

// Pods returns the pods of a namespace that a controller, or Nobody, controls, in
// no order. They belong to the cache: they must not be changed.
type Pods func(ctx context.Context, namespace string, controller types.UID) ([]*corev1.Pod, error)

// Cached returns Pods of a cache of all namespaces, to which it adds the index
// unless it is there. They are complete once the cache has synced, as it has
// before a controller that watches pods reconciles.
func Cached(ctx context.Context, shared cache.Cache) (Pods, error) {
	informer, err := shared.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	indexed, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("the cache keeps pods in a %T, which has no index", informer)
	}
	indexer := indexed.GetIndexer()
	if _, there := indexer.GetIndexers()[Index]; !there {
		if err := indexed.AddIndexers(toolscache.Indexers{Index: keys}); err != nil {
			return nil, fmt.Errorf("index pods by controller: %w", err)
		}
	}
	return func(_ context.Context, namespace string, controller types.UID) ([]*corev1.Pod, error) {
		found, err := indexer.ByIndex(Index, key(namespace, controller))
		if err != nil {
			return nil, fmt.Errorf("find pods by controller: %w", err)
		}
		pods := make([]*corev1.Pod, len(found))
		for i, object := range found {
			pods[i] = object.(*corev1.Pod)
		}
		return pods, nil
	}, nil
}

// Listed returns Pods of a client that lists by the field Index, as that of a
// test does.
func Listed(c client.Reader) Pods {
	return func(ctx context.Context, namespace string, controller types.UID) ([]*corev1.Pod, error) {
		var list corev1.PodList
		if err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{Index: string(controller)}); err != nil {
			return nil, fmt.Errorf("list pods: %w", err)
		}
		pods := make([]*corev1.Pod, len(list.Items))
		for i := range list.Items {
			pods[i] = &list.Items[i]
		}
		return pods, nil
	}
}

// ControllerOf returns the UID of an object's controller, Nobody when it has none.
func ControllerOf(object metav1.Object) types.UID {
	if owner := metav1.GetControllerOfNoCopy(object); owner != nil {
		return owner.UID
	}
	return Nobody
}

// ByController indexes objects by the UID of their controller, or Nobody.
func ByController(object client.Object) []string { return []string{string(ControllerOf(object))} }

// Released returns the owners of an object without one of them.
func Released(object metav1.Object, owner types.UID) []metav1.OwnerReference {
	var others []metav1.OwnerReference
	for _, ref := range object.GetOwnerReferences() {
		if ref.UID != owner {
			others = append(others, ref)
		}
	}
	return others
}

// Adopted returns the owners of an object with one, of a kind, as its controller.
func Adopted(object, owner metav1.Object, kind schema.GroupVersionKind) []metav1.OwnerReference {
	return append(Released(object, owner.GetUID()), *metav1.NewControllerRef(owner, kind))
}

func keys(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("a %T is no pod", object)
	}
	return []string{key(pod.Namespace, ControllerOf(pod))}, nil
}

func key(namespace string, controller types.UID) string { return namespace + "/" + string(controller) }
