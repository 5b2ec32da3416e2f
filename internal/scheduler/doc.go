// Package scheduler gives pending pods a node.
//
// Which node is best, if any fits, is decided by its pure part, package fit. The
// loop feeds it: pods wait in a queue, by priority and then by age; a pod that
// is given a node counts on that node at once, before the API has confirmed it,
// so that no node is promised twice while the cache is behind; the writes are
// made beside the loop. A pod that fits nowhere is parked until a node or
// another pod changes.
//
// Messages and reasons are those of Kubernetes' scheduler:
// https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/.
package scheduler
