// Package service gives Services of type LoadBalancer their external addresses:
// the nodes' own. Every node's proxy answers on them.
package service
