package defaults

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// persistentVolume keeps a volume that is released, unless it says otherwise.
func persistentVolume(v *corev1.PersistentVolume) {
	orElse(&v.Status.Phase, corev1.VolumePending)
	orElse(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	orPointer(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	milli(v.Spec.Capacity)
	persistentSource(&v.Spec.PersistentVolumeSource)
}

func persistentSource(v *corev1.PersistentVolumeSource) {
	if s := v.HostPath; s != nil {
		orPointer(&s.Type, corev1.HostPathUnset)
	}
	if s := v.ISCSI; s != nil {
		orElse(&s.ISCSIInterface, "default")
	}
	if s := v.RBD; s != nil {
		orElse(&s.RBDPool, "rbd")
		orElse(&s.RadosUser, "admin")
		orElse(&s.Keyring, "/etc/ceph/keyring")
	}
	if s := v.ScaleIO; s != nil {
		orElse(&s.StorageMode, "ThinProvisioned")
		orElse(&s.FSType, "xfs")
	}
	networkVolume(&corev1.VolumeSource{AzureDisk: v.AzureDisk})
}

func persistentVolumeClaim(c *corev1.PersistentVolumeClaim) {
	orElse(&c.Status.Phase, corev1.ClaimPending)
	claimSpec(&c.Spec)
	milli(c.Status.Capacity)
	milli(c.Status.AllocatedResources)
}

// claimSpec fills in what is claimed, wherever it stands.
func claimSpec(s *corev1.PersistentVolumeClaimSpec) {
	orPointer(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
	milli(s.Resources.Limits)
	milli(s.Resources.Requests)
}

func storageClass(c *storagev1.StorageClass) {
	orPointer(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
	orPointer(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
}
