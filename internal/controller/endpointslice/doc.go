// Package endpointslice keeps the EndpointSlices of every Service that has a
// selector. It is on the path of every rollout: a pod that becomes ready gets
// traffic, and a pod that is being deleted loses it, by the write made here.
//
// Nothing is batched or delayed: one change of a pod is one reconcile and, when
// an endpoint changed, one write. What this process wrote last is laid over the
// cache (see memory), so the next change is planned at once, without waiting
// for the cache to catch up and without making a slice twice.
//
// Slices are shaped as Kubernetes' own controller shapes them:
// https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/.
package endpointslice
