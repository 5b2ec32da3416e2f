// Package localvolume makes, grows and deletes the volumes of a node's own: the
// directories of class windlass-local, below the data directory.
//
// It is a part of a node and meets the rest through the API, as an external
// provisioner does. A claim whose annotations name this provisioner and this node
// gets a directory and then a PersistentVolume, in this order, so that a volume
// in the API is never without its directory; a directory without a volume is empty
// and is removed at the next start. A volume that is released, where its policy is
// Delete, loses its directory and then its object: the directory is first renamed,
// so that its data is either all there or on its way out; a finalizer holds the
// object until then, also while the node is away.
//
// Where the file system has project quotas (ext4 and xfs mounted with prjquota) a
// directory cannot hold more than the volume's capacity. Elsewhere it can: the
// volume's annotation windlass.dev/capacity says so, and why.
package localvolume
