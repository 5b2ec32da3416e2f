// Package v1alpha1 holds what Windlass adds to the Kubernetes API: the names of
// its annotations and labels, and in time its own kinds. Everything else is
// k8s.io/api.
package v1alpha1
