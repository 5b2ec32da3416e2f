package rolloutrecord

import (
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// maxNotes bounds how many sizes, and how many pods that are gone, are kept for
// a target until its next decision.
const maxNotes = 10_000

// memory holds what the watches saw, until it is in a book, and the books.
// Everything that the watches do with it takes the same time however much there
// is.
type memory struct {
	mu      sync.Mutex
	now     func() time.Time
	targets map[types.NamespacedName]*notes
	pods    map[types.UID]Seen
	sets    map[types.UID]Beginning
	active  map[types.UID]struct{} // pods of StatefulSets
}

// notes are what is remembered of a target.
type notes struct {
	uid   types.UID
	books map[int64]Book
	made  map[int64]*v1alpha1.RolloutRecord // created, and perhaps not in the cache yet

	sizes []Size
	gone  map[types.UID][]Pod // by the UID of the set

	active map[string]int32 // how many pods of a StatefulSet have a revision, by its name

	idle bool // no record is open: what happens to pods matters to none

	// stopping counts down the pods that rollouts that are over wait for.
	stopping int
}

func newMemory(now func() time.Time) *memory {
	return &memory{
		now:     now,
		targets: map[types.NamespacedName]*notes{},
		pods:    map[types.UID]Seen{},
		sets:    map[types.UID]Beginning{},
		active:  map[types.UID]struct{}{},
	}
}

// of returns the notes of a target. The lock is held.
func (m *memory) of(target types.NamespacedName) *notes {
	n := m.targets[target]
	if n == nil {
		n = &notes{books: map[int64]Book{}, made: map[int64]*v1alpha1.RolloutRecord{}, gone: map[types.UID][]Pod{}}
		m.targets[target] = n
	}
	return n
}

// seeSet notes the size and the revision of a set of a target, which differ
// from before; before is nil when the set was not known, and fresh says that it
// is new and not only new to us.
func (m *memory) seeSet(target types.NamespacedName, before, set *appsv1.ReplicaSet, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, revision := m.now(), rollout.RevisionOf(set)
	if (before != nil || fresh) && (before == nil || rollout.RevisionOf(before) != revision) {
		m.sets[set.UID] = Beginning{Revision: revision, At: now}
	}
	size := Size{Time: now, Set: set.Name, To: ptr.Deref(set.Spec.Replicas, 1), Why: set.Annotations[v1alpha1.AnnotationScaledBecause]}
	switch {
	case before != nil:
		size.From = ptr.To(ptr.Deref(before.Spec.Replicas, 1))
	case fresh:
		size.From = ptr.To[int32](0)
	}
	n := m.of(target)
	n.idle = false
	if (size.From == nil || *size.From != size.To) && len(n.sizes) < maxNotes {
		n.sizes = append(n.sizes, size)
	}
}

// forgetSet drops what is known of a set that is gone.
func (m *memory) forgetSet(set types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sets, set)
}

// seePod notes the stages that a pod has reached.
func (m *memory) seePod(pod *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.pods[pod.UID]
	seen.see(pod, m.now())
	m.pods[pod.UID] = seen
}

// losePod keeps the last state of a pod of a target's set that is gone. It
// says whether the pod was the last one that was waited for.
func (m *memory) losePod(target types.NamespacedName, set types.UID, pod *corev1.Pod) (last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, now := m.pods[pod.UID], m.now()
	delete(m.pods, pod.UID)
	n := m.of(target)
	if n.idle {
		return false
	}
	if len(n.gone[set]) < maxNotes {
		n.gone[set] = append(n.gone[set], Pod{Pod: pod, Seen: seen, Gone: now})
	}
	n.stopping--
	return n.stopping == 0
}

// forgetPod drops what was seen of a pod that is gone and of no target.
func (m *memory) forgetPod(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, pod)
}

// wakes says whether what happens to the pods of a target matters.
func (m *memory) wakes(target types.NamespacedName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.targets[target]
	return n == nil || !n.idle
}

// forget drops all that is known of a target that is gone.
func (m *memory) forget(target types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.targets, target)
}

// tell completes facts with what is remembered, and takes the sizes and the pods
// that are gone out of the memory: the books that follow from the facts hold them.
func (m *memory) tell(target types.NamespacedName, f *Facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(target)
	if n.uid != f.Deployment.UID {
		n.uid, n.books, n.made = f.Deployment.UID, map[int64]Book{}, map[int64]*v1alpha1.RolloutRecord{}
	}
	f.Books = n.books
	f.Began = map[types.UID]Beginning{}
	gone := map[types.UID]bool{}
	for _, rs := range f.ReplicaSets {
		if began, ok := m.sets[rs.UID]; ok {
			f.Began[rs.UID] = began
		}
		for _, pod := range n.gone[rs.UID] {
			gone[pod.UID] = true
		}
		there := f.Pods[rs.UID]
		f.Pods[rs.UID] = n.gone[rs.UID]
		for _, pod := range there {
			if !gone[pod.UID] {
				pod.Seen = m.pods[pod.UID]
				f.Pods[rs.UID] = append(f.Pods[rs.UID], pod)
			}
		}
	}
	for _, record := range f.Records {
		delete(n.made, record.Spec.Revision)
	}
	for _, record := range n.made {
		f.Records = append(f.Records, record)
	}
	f.Sizes, n.sizes, n.gone = n.sizes, nil, map[types.UID][]Pod{}
	f.Now = m.now()
}

// keep remembers what a decision left open.
func (m *memory) keep(target types.NamespacedName, plan Plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(target)
	n.books = plan.Books
	n.stopping = plan.Stopping - countGone(n)
	n.idle = len(plan.Books) == 0 && len(n.sizes) == 0
}

func countGone(n *notes) (count int) {
	for _, pods := range n.gone {
		count += len(pods)
	}
	return count
}

// made remembers a record that was created, until the cache has it.
func (m *memory) made(target types.NamespacedName, record *v1alpha1.RolloutRecord) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(target).made[record.Spec.Revision] = record
}

// unmade forgets a record that turned out to be gone.
func (m *memory) unmade(target types.NamespacedName, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of(target).made, revision)
}

// wrote remembers that a status was written.
func (m *memory) wrote(target types.NamespacedName, revision int64, status v1alpha1.RolloutRecordStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(target)
	if book, ok := n.books[revision]; ok {
		book.Written = &status
		n.books[revision] = book
	}
}
