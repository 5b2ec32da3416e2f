package scheduler

import (
	"cmp"
	"container/heap"

	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/internal/scheduler/fit"
)

// queue holds the pending pods: those to look at next, by priority and then by
// age, and those that are parked until something changes.
type queue struct {
	next   order
	items  map[types.UID]*item
	parked map[types.UID]*item
	count  int64
}

// item is a pending pod.
type item struct {
	pod      *fit.Pod
	number   int64 // in the order that pods became known
	index    int   // in next; -1 while parked or being written
	failures int   // writes that failed in a row
}

func newQueue() *queue {
	return &queue{items: map[types.UID]*item{}, parked: map[types.UID]*item{}}
}

// add makes a pod one to look at, whether or not it was known.
func (q *queue) add(p *fit.Pod) {
	it := q.items[p.UID]
	if it == nil {
		q.count++
		it = &item{index: -1, number: q.count}
		q.items[p.UID] = it
	}
	it.pod = p
	delete(q.parked, p.UID)
	if it.index < 0 {
		heap.Push(&q.next, it)
	} else {
		heap.Fix(&q.next, it.index)
	}
}

// pop returns the first pod to look at, nil when there is none. The pod stays
// known: it is to be parked, added again or removed.
func (q *queue) pop() *item {
	if len(q.next) == 0 {
		return nil
	}
	return heap.Pop(&q.next).(*item)
}

// park keeps a pod that was popped until wake.
func (q *queue) park(it *item) { q.parked[it.pod.UID] = it }

// wake makes all parked pods ones to look at.
func (q *queue) wake() {
	for _, it := range q.parked {
		heap.Push(&q.next, it)
	}
	clear(q.parked)
}

// wakeSocial makes those parked pods ones to look at whose place depends on
// others, and says whether there are any.
func (q *queue) wakeSocial() bool {
	woken := false
	for uid, it := range q.parked {
		if it.pod.Social() {
			heap.Push(&q.next, it)
			delete(q.parked, uid)
			woken = true
		}
	}
	return woken
}

// remove forgets a pod.
func (q *queue) remove(uid types.UID) {
	it := q.items[uid]
	if it == nil {
		return
	}
	if it.index >= 0 {
		heap.Remove(&q.next, it.index)
	}
	delete(q.items, uid)
	delete(q.parked, uid)
}

// order is a heap: higher priority first, then older, then known for longer.
type order []*item

func (o order) Len() int { return len(o) }

func (o order) Less(i, j int) bool {
	a, b := o[i].pod, o[j].pod
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		a.Created.Compare(b.Created),
		cmp.Compare(o[i].number, o[j].number)) < 0
}

func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].index, o[j].index = i, j
}

// Push is part of heap.Interface.
func (o *order) Push(x any) {
	it := x.(*item)
	it.index = len(*o)
	*o = append(*o, it)
}

// Pop is part of heap.Interface.
func (o *order) Pop() any {
	last := len(*o) - 1
	it := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	it.index = -1
	return it
}
