// Package podrange gives each node its share of the addresses for pods: a range
// that no other node has, in the Node's spec.podCIDR. The range of a node that is
// deleted is free when no pod has an address of it any more; nothing else changes one.
package podrange
