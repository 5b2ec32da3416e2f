// Package garbage deletes what nobody owns any more, and carries out cascading
// deletion: in the background, in the foreground (an owner waits, with the
// finalizer foregroundDeletion, for the dependents that block it), and as
// orphans (the finalizer orphan: dependents lose their reference and stay). See
// https://kubernetes.io/docs/concepts/architecture/garbage-collection/.
//
// A graph of owners and dependents is kept in memory, of names and references
// alone. It is fed by watches of every kind that can be deleted: for kinds that
// other controllers watch anyway by their informers, for the rest by watches of
// metadata. What the graph shows is acted on at once. An owner that it does not
// show is asked for at the API before a dependent is deleted, and every write
// is conditional on the UID and resourceVersion it was decided on.
package garbage
