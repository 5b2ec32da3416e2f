// Package podgc deletes the pods that no agent will: those bound to a node that
// is gone, those being deleted that were never bound, and the oldest finished
// ones when there are too many.
package podgc
