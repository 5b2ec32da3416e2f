package volume

import (
	"errors"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// Claims finds the PersistentVolumes that a pod's claims are bound to.
type Claims interface {
	// Claim returns the directory of this node that is the PersistentVolume bound
	// to a claim of the pod's namespace. The error says why there is none yet (the
	// claim does not exist, is not bound, its volume is not of this node); it is
	// asked again later.
	Claim(name string) (Directory, error)
}

// Directory is a directory of this node that serves as a volume.
type Directory struct {
	Path     string
	ReadOnly bool // whatever the mounts say
	NoExec   bool // nothing in it can be run

	// Owned: files belong to the pod's fsGroup while it runs, as those of a local
	// PersistentVolume do and those of a hostPath do not.
	Owned bool
}

// ClaimName is the name of the claim that a volume of a pod is, whether the pod
// names it or has it made for itself; "" for volumes of other kinds.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

// claimed is the directory of a volume that is a claim.
func claimed(v *corev1.Volume, name string, claims Claims) (Directory, error) {
	if claims == nil {
		return Directory{}, errors.New("persistent volume claims are not supported on this node")
	}
	found, err := claims.Claim(name)
	if err != nil {
		return Directory{}, err
	}
	if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly {
		found.ReadOnly = true
	}
	_, err = os.Stat(found.Path)
	return found, err
}

// claim has the files of a claim's volume belong to the pod's fsGroup.
func claim(v *corev1.Volume, pod *corev1.Pod, claims Claims) error {
	found, err := claimed(v, ClaimName(pod, v), claims)
	if err != nil || !found.Owned || found.ReadOnly {
		return err
	}
	return own(found.Path, pod)
}
