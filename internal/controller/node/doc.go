// Package node watches over the nodes' lives: a node whose Lease was not
// renewed for the grace period is Ready=Unknown, and a node that is not Ready
// carries the taints by which the scheduler avoids it and its pods are told.
//
// The node's agent writes the Ready condition while it lives; this controller
// writes it only when the agent does not.
package node
