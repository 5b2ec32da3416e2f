// Package namespace empties namespaces that are being deleted. The API marks a
// namespace Terminating and refuses anything new in it; this controller finds
// every kind of object that can be in a namespace by discovery, deletes what is
// there (pods gracefully), says in the namespace's conditions what is left and
// why, and when nothing is left takes the finalizer "kubernetes" off, upon which
// the API removes the namespace. See
// https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/.
package namespace
