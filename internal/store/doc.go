// Package store keeps the cluster's state: an etcd server inside this process,
// without a network listener, spoken to by function calls, and on top of it the
// Kubernetes storage layer that the API server's resources use.
//
// There is one etcd client for all resources. Everything above the Store sees
// nothing but that client, so an external etcd cluster can stand in for the
// embedded one.
package store
