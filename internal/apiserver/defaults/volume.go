package defaults

import (
	corev1 "k8s.io/api/core/v1"
)

const (
	// tokenSeconds is how long a projected service account token is valid.
	tokenSeconds int64 = 60 * 60
	// certificateSeconds is the longest life asked for a projected pod certificate.
	certificateSeconds int32 = 24 * 60 * 60
)

// volume fills in one volume; one that names no source is an empty directory.
func volume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	fileVolume(&v.VolumeSource)
	networkVolume(&v.VolumeSource)
}

// fileVolume fills in the sources that make files of API objects and of the node.
func fileVolume(v *corev1.VolumeSource) {
	if s := v.Secret; s != nil {
		orPointer(&s.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if s := v.ConfigMap; s != nil {
		orPointer(&s.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if s := v.DownwardAPI; s != nil {
		orPointer(&s.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		downwardFiles(s.Items)
	}
	if s := v.Projected; s != nil {
		orPointer(&s.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
		for i := range s.Sources {
			projection(&s.Sources[i])
		}
	}
	if s := v.HostPath; s != nil {
		orPointer(&s.Type, corev1.HostPathUnset)
	}
	if s := v.Image; s != nil {
		orElse(&s.PullPolicy, pullPolicy(s.Reference))
	}
	if s := v.Ephemeral; s != nil && s.VolumeClaimTemplate != nil {
		claimSpec(&s.VolumeClaimTemplate.Spec)
	}
}

func projection(p *corev1.VolumeProjection) {
	if p.DownwardAPI != nil {
		downwardFiles(p.DownwardAPI.Items)
	}
	if p.ServiceAccountToken != nil {
		orPointer(&p.ServiceAccountToken.ExpirationSeconds, tokenSeconds)
	}
	if p.PodCertificate != nil {
		orPointer(&p.PodCertificate.MaxExpirationSeconds, certificateSeconds)
	}
}

func downwardFiles(files []corev1.DownwardAPIVolumeFile) {
	for i := range files {
		fieldRef(files[i].FieldRef)
	}
}

// networkVolume fills in the sources that mount a volume of some storage system.
func networkVolume(v *corev1.VolumeSource) {
	if s := v.ISCSI; s != nil {
		orElse(&s.ISCSIInterface, "default")
	}
	if s := v.RBD; s != nil {
		orElse(&s.RBDPool, "rbd")
		orElse(&s.RadosUser, "admin")
		orElse(&s.Keyring, "/etc/ceph/keyring")
	}
	if s := v.AzureDisk; s != nil {
		orPointer(&s.CachingMode, corev1.AzureDataDiskCachingReadWrite)
		orPointer(&s.Kind, corev1.AzureSharedBlobDisk)
		orPointer(&s.FSType, "ext4")
		orPointer(&s.ReadOnly, false)
	}
	if s := v.ScaleIO; s != nil {
		orElse(&s.StorageMode, "ThinProvisioned")
		orElse(&s.FSType, "xfs")
	}
}
