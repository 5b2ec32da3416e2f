// Package eviction decides which pod a node gives up when it runs out of memory,
// disk space or processes, and which has taken more than it may. It is pure: the
// agent reads the levels and acts
// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
package eviction
