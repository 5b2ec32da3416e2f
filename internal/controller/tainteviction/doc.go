// Package tainteviction deletes the pods that do not tolerate a NoExecute taint of
// their node, at once or when their toleration has run out:
// https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/.
//
// When a taint was added is in the taint (controller/node writes it where others
// have not). That a node is not ready or not reachable is held against it only as
// long as this process has looked on without a break: a server that was down, stopped
// or asleep has heard of no node, and gives all of them their time anew, as
// Kubernetes does.
//
// Nobody is evicted for it while no node at all is ready, nor while more than two
// nodes of a zone, and 55% of it or more, are not: more likely the control plane is
// cut off than so many machines lost at once, and there is hardly anywhere to go.
// Afterwards the pods have their time anew.
// https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction;
// there large zones go on slowly, and healthy ones at one node in 10 s.
package tainteviction
