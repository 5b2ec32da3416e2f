// Package validation decides whether an object may be stored: every rule that the
// Kubernetes API reference states for the served kinds, with Kubernetes' own field
// paths, error types and words, since people and programs read them.
//
// All functions are pure. They take defaulted objects of the k8s.io/api types and
// return every fault found, not the first; an empty list means that the object may
// be stored. Nothing is looked up: rules that need other objects (does the
// namespace exist, is the node port free) belong to admission and allocation.
package validation
