package replicaset

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// memory holds what this process has done to the pods of each set and its cache
// has not shown yet. The cache's watch must report every pod that it shows
// (seen) and loses (gone), after the cache has changed.
type memory struct {
	mu   sync.Mutex
	sets map[types.UID]*writes

	expected map[types.UID]string // versions of the sets that there were
	since    string               // the version of all when this process took over
}

// writes are those for one set.
type writes struct {
	made    map[string]made // by name
	deleted map[types.UID]bool
}

// made is a pod that was made, as far as is known.
type made struct {
	pod *corev1.Pod
	at  time.Time
}

func newMemory() *memory {
	return &memory{sets: map[types.UID]*writes{}, expected: map[types.UID]string{}}
}

func (m *memory) of(set types.UID) *writes {
	w := m.sets[set]
	if w == nil {
		w = &writes{made: map[string]made{}, deleted: map[types.UID]bool{}}
		m.sets[set] = w
	}
	return w
}

// making notes that a pod is about to be made.
func (m *memory) making(set types.UID, pod *corev1.Pod, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(set).made[pod.Name] = made{pod: pod, at: now}
}

// made notes how a pod has come out, unless the cache shows it already.
func (m *memory) made(set types.UID, pod *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.of(set); w.made[pod.Name].pod != nil {
		w.made[pod.Name] = made{pod: pod, at: w.made[pod.Name].at}
	}
}

// notMade notes that there is no such pod.
func (m *memory) notMade(set types.UID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of(set).made, name)
}

// deleting notes that a pod is about to be deleted.
func (m *memory) deleting(set, pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(set).deleted[pod] = true
}

// notDeleted notes that a pod was not deleted.
func (m *memory) notDeleted(set, pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of(set).deleted, pod)
}

// seen notes that the cache shows a pod.
func (m *memory) seen(pod metav1.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, owner := range pod.GetOwnerReferences() {
		if w := m.sets[owner.UID]; w != nil {
			delete(w.made, pod.GetName())
			if pod.GetDeletionTimestamp() != nil {
				delete(w.deleted, pod.GetUID())
			}
		}
	}
}

// gone notes that the cache has lost a pod.
func (m *memory) gone(pod metav1.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, owner := range pod.GetOwnerReferences() {
		if w := m.sets[owner.UID]; w != nil {
			delete(w.made, pod.GetName())
			delete(w.deleted, pod.GetUID())
		}
	}
}

// forget drops what is known of a set that is gone.
func (m *memory) forget(set types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sets, set)
	delete(m.expected, set)
}

// overlay returns a function that adds what is in memory now to pods that are
// read from the cache afterwards. In this order nothing is missed: what leaves
// the memory in between is in the cache.
func (m *memory) overlay(set types.UID, now time.Time) func([]*corev1.Pod) []*corev1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.sets[set]
	if w == nil || len(w.made)+len(w.deleted) == 0 {
		return func(cached []*corev1.Pod) []*corev1.Pod { return cached }
	}
	pods := make(map[string]*corev1.Pod, len(w.made))
	for name, made := range w.made {
		pods[name] = made.pod
	}
	deleted := make(map[types.UID]bool, len(w.deleted))
	for uid := range w.deleted {
		deleted[uid] = true
	}
	return func(cached []*corev1.Pod) []*corev1.Pod {
		out := slices.Clone(cached)
		there := make(map[types.UID]bool, len(out))
		for i, pod := range out {
			there[pod.UID] = true
			delete(pods, pod.Name)
			if deleted[pod.UID] && pod.DeletionTimestamp == nil {
				stopping := *pod
				stopping.DeletionTimestamp = &metav1.Time{Time: now}
				out[i] = &stopping
			}
		}
		for _, pod := range pods {
			out = append(out, pod)
		}
		for uid := range deleted {
			if !there[uid] {
				m.notDeleted(set, uid) // it was gone before we noted that we delete it
			}
		}
		return out
	}
}

// overdue returns the names of pods that were made before a time and that the
// cache has never shown. It also says whether there are later ones.
func (m *memory) overdue(set types.UID, before time.Time) (names []string, later bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.sets[set]
	if w == nil {
		return nil, false
	}
	for name, made := range w.made {
		if made.at.Before(before) {
			names = append(names, name)
		} else {
			later = true
		}
	}
	return names, later || len(w.deleted) > 0
}
