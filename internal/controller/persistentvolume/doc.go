// Package persistentvolume binds claims to volumes and says in which phase each
// is, as Kubernetes' persistentvolume-controller does
// (https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim).
//
//	volume   Pending ─► Available ─► Bound ─► Released ─► deleted by who made it (Delete), or stays (Retain)
//	                                              └─► Failed: nobody can delete or recycle it
//	claim    Pending ─► Bound ─► Lost: its volume is gone
//
// A binding is two writes: first the volume names the claim, by its UID, then the
// claim names the volume. Both are refused if the object has changed since it was
// read, so that what is decided from a cache that is behind, or cut short between
// the two, is taken up again and never makes a volume serve two claims.
//
// A claim whose class waits for its first consumer is bound, or provisioned, on
// the node that the scheduler writes into its annotation
// volume.kubernetes.io/selected-node. The volumes of the class windlass-local are
// directories; each node's agent makes and deletes its own.
package persistentvolume
