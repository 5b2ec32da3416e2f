package namespace

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// parallel is how many kinds of a namespace are emptied at a time.
const parallel = 4

// content is what is in namespaces, of whatever kind.
type content struct {
	discovery discovery.DiscoveryInterface
	objects   metadata.Interface
}

// kind is a resource of which a namespace can hold objects.
type kind struct {
	resource   schema.GroupVersionResource
	collection bool // it can be deleted in one request
}

// sweep deletes everything in a namespace and says what is left. Pods and other
// things that end gracefully, and those that a finalizer holds, are left for a while.
func (c content) sweep(ctx context.Context, namespace string) sweep {
	kinds, s := c.kinds()
	var mu sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, k := range kinds {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			left, deleted, err := c.empty(ctx, k, namespace)
			mu.Lock()
			defer mu.Unlock()
			s.Deleted += deleted
			if err != nil {
				s.Failed = append(s.Failed, err.Error())
			}
			if left.Count > 0 {
				s.Remaining = append(s.Remaining, left)
			}
		})
	}
	running.Wait()
	return s
}

// kinds returns the kinds that can be in a namespace and be deleted. What could
// not be found out is in the sweep.
func (c content) kinds() ([]kind, sweep) {
	var s sweep
	lists, err := discovery.ServerPreferredNamespacedResources(c.discovery)
	if err != nil {
		var groups *discovery.ErrGroupDiscoveryFailed
		if errors.As(err, &groups) {
			for gv, cause := range groups.Groups {
				s.Undiscovered = append(s.Undiscovered, fmt.Sprintf("%s: %v", gv, cause))
			}
		} else {
			s.Undiscovered = append(s.Undiscovered, err.Error())
		}
	}
	var kinds []kind
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"delete", "list"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			k := kind{resource: gv.WithResource(r.Name)}
			for _, verb := range r.Verbs {
				k.collection = k.collection || verb == "deletecollection"
			}
			kinds = append(kinds, k)
		}
	}
	return kinds, s
}

// empty deletes the objects of a kind in a namespace. It returns what is left
// and how many it deleted.
func (c content) empty(ctx context.Context, k kind, namespace string) (remains, int, error) {
	name := k.resource.Resource + "." + k.resource.Group
	objects := c.objects.Resource(k.resource).Namespace(namespace)
	list, err := objects.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return remains{}, 0, nil
	}
	if err != nil {
		return remains{}, 0, fmt.Errorf("list %s: %w", name, err)
	}
	found := alive(list)
	if found == 0 {
		return count(name, list), 0, nil
	}
	if err := c.remove(ctx, objects, k, list); err != nil {
		return count(name, list), 0, fmt.Errorf("delete %s: %w", name, err)
	}
	if list, err = objects.List(ctx, metav1.ListOptions{}); err != nil {
		return remains{}, found, fmt.Errorf("list %s: %w", name, err)
	}
	return count(name, list), found, nil
}

// remove deletes the objects of a list, with their own grace periods.
func (c content) remove(ctx context.Context, objects metadata.ResourceInterface, k kind, list *metav1.PartialObjectMetadataList) error {
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if k.collection {
		err := objects.DeleteCollection(ctx, options, metav1.ListOptions{})
		if err == nil || !apierrors.IsMethodNotSupported(err) {
			return err
		}
	}
	for i := range list.Items {
		if err := objects.Delete(ctx, list.Items[i].Name, options); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// alive counts the objects whose deletion has not begun.
func alive(list *metav1.PartialObjectMetadataList) int {
	n := 0
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

// count sums up the objects of a kind and what holds them.
func count(name string, list *metav1.PartialObjectMetadataList) remains {
	r := remains{Resource: name, Count: len(list.Items), Finalizers: map[string]int{}}
	for i := range list.Items {
		for _, f := range list.Items[i].Finalizers {
			r.Finalizers[f]++
		}
	}
	return r
}
