// Package podrange gives each node its share of the addresses for pods: a range
// that no other node has, in the Node's spec.podCIDR. A node that is deleted lets
// go of its range; nothing else changes one.
package podrange
