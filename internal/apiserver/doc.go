// Package apiserver assembles the Kubernetes API from k8s.io/apiserver: the
// served kinds, how they behave when written, who may do what, and where they
// are kept.
//
// The types of k8s.io/api serve as wire format, as memory format and as storage
// format: there is no internal version to convert to. kinds.go is the list of
// what is served; one reflective strategy (strategy.go) serves all of it, and the
// kinds with a will of their own add hooks in files of their own names.
// Subpackages hold what is decided purely: defaults, validation, columns.
package apiserver
