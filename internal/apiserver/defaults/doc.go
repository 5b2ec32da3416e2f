// Package defaults fills in the fields that a manifest may leave out, with the
// values that the Kubernetes API reference documents.
//
// The hub types are the versioned types of k8s.io/api themselves, so every
// function works on them in place. Defaulting is pure and idempotent: it takes
// an object and changes nothing else, and a second call changes nothing.
package defaults
