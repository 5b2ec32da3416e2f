package replicaset

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// takeover is done once, before the first decision of a process. The process
// before it may have written what the cache, which may have synced long ago and
// be late, does not show: pods made and deleted, and sets resized. What differs
// from a live list is noted as if this process had done it.
type takeover struct {
	mu   sync.Mutex
	done bool
}

func (r *reconciler) takeOver(ctx context.Context) error {
	r.takeover.mu.Lock()
	defer r.takeover.mu.Unlock()
	if r.takeover.done {
		return nil
	}
	sets, err := r.liveList(ctx, r.kind.GroupVersionKind)
	if err != nil {
		return err
	}
	pods, err := r.liveList(ctx, corev1.SchemeGroupVersion.WithKind("Pod"))
	if err != nil {
		return err
	}
	r.written.expect(sets)
	cached := func() ([]corev1.Pod, error) {
		var list corev1.PodList
		err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy)
		return list.Items, err
	}
	if err := r.written.recall(pods, cached, r.kind, r.now()); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	r.takeover.done = true
	return nil
}

// liveList reads the metadata of all objects of a kind from the API.
func (r *reconciler) liveList(ctx context.Context, gvk schema.GroupVersionKind) (*metav1.PartialObjectMetadataList, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	if err := r.live.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list %s objects: %w", gvk.Kind, err)
	}
	return list, nil
}

// expect notes the versions of all sets, older than which none is to be acted on.
func (m *memory) expect(live *metav1.PartialObjectMetadataList) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since = live.ResourceVersion
	for i := range live.Items {
		m.expected[live.Items[i].UID] = live.Items[i].ResourceVersion
	}
}

// isBehind says whether the cache shows a set older than it was when this process
// took over, or one that was gone then: what is newer comes by the watch.
func (m *memory) isBehind(set metav1.Object) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	expected, was := m.expected[set.GetUID()]
	if !was {
		expected = m.since
	}
	return olderThan(set.GetResourceVersion(), expected)
}

// recall notes how the cache differs from a live list of all pods. It holds the
// lock meanwhile: what the cache comes to show later is reported (seen, gone) later.
func (m *memory) recall(live *metav1.PartialObjectMetadataList, cached func() ([]corev1.Pod, error), kind kind, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	pods, err := cached()
	if err != nil {
		return err
	}
	shown := make(map[string]*corev1.Pod, len(pods))
	for i := range pods {
		shown[string(pods[i].UID)] = &pods[i]
	}
	for i := range live.Items {
		pod := &live.Items[i]
		owner := controllerOfKind(pod, kind)
		known := shown[string(pod.UID)]
		delete(shown, string(pod.UID))
		switch {
		case owner == nil:
		case known == nil:
			m.of(owner.UID).made[pod.Name] = made{pod: &corev1.Pod{ObjectMeta: pod.ObjectMeta}, at: now}
		case pod.DeletionTimestamp != nil && known.DeletionTimestamp == nil:
			m.of(owner.UID).deleted[pod.UID] = true
		}
	}
	for _, pod := range shown { // gone, unless they came after the list
		if owner := controllerOfKind(pod, kind); owner != nil && olderThan(pod.ResourceVersion, live.ResourceVersion) {
			m.of(owner.UID).deleted[pod.UID] = true
		}
	}
	return nil
}

func controllerOfKind(object metav1.Object, kind kind) *metav1.OwnerReference {
	owner := metav1.GetControllerOfNoCopy(object)
	if owner == nil || owner.Kind != kind.Kind || owner.APIVersion != kind.GroupVersion().String() {
		return nil
	}
	return owner
}

// olderThan compares resource versions; none is older than one that is no number.
func olderThan(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err == nil && order < 0
}
