package persistentvolume

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"
)

// match finds the volume for a claim: the one that names it, or else of those that
// are available and satisfy it those with the fewest access modes, of them the
// smallest. Where binding is delayed, a volume that does not name the claim
// must be usable on node; without a node there is none. The error is that the
// claim cannot be understood.
func match(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, delayed bool, node *corev1.Node) (*corev1.PersistentVolume, error) {
	fitting := slices.DeleteFunc(slices.Clone(volumes), func(v *corev1.PersistentVolume) bool { return !volume.CheckAccessModes(claim, v) })
	slices.SortFunc(fitting, func(a, b *corev1.PersistentVolume) int {
		return cmp.Or(cmp.Compare(len(a.Spec.AccessModes), len(b.Spec.AccessModes)), cmp.Compare(a.Name, b.Name))
	})
	var best *corev1.PersistentVolume
	for len(fitting) > 0 {
		same := 1
		for same < len(fitting) && len(fitting[same].Spec.AccessModes) == len(fitting[0].Spec.AccessModes) {
			same++
		}
		found, err := volume.FindMatchingVolume(claim, fitting[:same], node, nil, delayed, true)
		if err != nil {
			return nil, err
		}
		if found != nil && found.Spec.ClaimRef != nil {
			return found, nil // it names the claim: nothing fits better
		}
		if best == nil {
			best = found
		}
		fitting = fitting[same:]
	}
	return best, nil
}

// satisfies says why a volume that a claim names cannot serve it; "" when it can.
func satisfies(claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) string {
	asked, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case has.Cmp(asked) < 0:
		return "requested PV is too small"
	case volume.GetPersistentVolumeClass(v) != volume.GetPersistentVolumeClaimClass(claim):
		return "storageClassName does not match"
	case volume.CheckVolumeModeMismatches(&claim.Spec, &v.Spec):
		return "incompatible volumeMode"
	case !volume.CheckAccessModes(claim, v):
		return "incompatible accessMode"
	case v.DeletionTimestamp != nil:
		return "the volume is being deleted"
	}
	return ""
}

// waits says whether a class binds its claims when a pod needs them.
func waits(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
