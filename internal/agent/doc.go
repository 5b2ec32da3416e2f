// Package agent lives the life of a node's pods: a state machine that takes
// what is and returns the next acts and the next status, with adapters for
// containers, images and the network at its edges.
package agent
