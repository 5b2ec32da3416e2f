// Package tainteviction deletes the pods that do not tolerate a NoExecute taint of
// their node, at once or when their toleration has run out:
// https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/.
//
// When a taint was added is in the taint (controller/node writes it where others
// have not), so that nothing has to be remembered. While no node at all is ready
// nobody is evicted for it: more likely the control plane is cut off than every
// machine lost at once, and there is nowhere to go.
package tainteviction
