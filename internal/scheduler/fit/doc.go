// Package fit decides which node a pod fits best. It is pure: a Cluster is fed
// the nodes and the pods on them, and Decide takes a pod and returns a node, or
// why there is none and what would mend it. The scheduler's loop asks it before
// it binds a pod; a forecast asks it whether there would be room.
//
// Filters, reasons and messages are those of Kubernetes' scheduler:
// https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/.
package fit
