package persistentvolume

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"windlass.dev/windlass/api/v1alpha1"
)

// protection keeps a volume that is bound.
const protection = "kubernetes.io/pv-protection"

// volumePlan is what to write of a volume, in this order, each only if it is set
// and only if the volume has not changed; and what to tell of it.
type volumePlan struct {
	Why    string
	Volume *corev1.PersistentVolume
	Status *corev1.PersistentVolumeStatus
	Events []event
}

// planVolume says in which phase a volume is, lets go of a claim that has another,
// and of the volume itself when it is being deleted and nobody has it. claim is the
// one that the volume names, nil when it certainly does not exist (any more).
// stranded says that the volume is a directory of a node that does not exist.
func planVolume(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim, stranded bool) volumePlan {
	ref := v.Spec.ClaimRef
	var p volumePlan
	switch {
	case ref == nil:
		p = phase(v, corev1.VolumeAvailable, "no claim has it")
	case ref.UID == "":
		p = phase(v, corev1.VolumeAvailable, "it is kept for a claim that has not come")
	case claim == nil:
		p = release(v)
	case claim.Spec.VolumeName == "":
		p = volumePlan{Why: "the claim is about to be bound"}
	case claim.Spec.VolumeName == v.Name:
		p = phase(v, corev1.VolumeBound, "its claim has it")
	case madeFor(v) && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		p = release(v)
	default:
		p = letGo(v)
	}
	used := v.Status.Phase == corev1.VolumeBound || claim != nil && claim.Spec.VolumeName == v.Name
	if v.DeletionTimestamp == nil || used || p.Volume != nil || p.Status != nil {
		return p
	}
	held := func(f string) bool { return f == protection || stranded && f == v1alpha1.FinalizerLocalVolume }
	if slices.ContainsFunc(v.Finalizers, held) {
		p.Why, p.Volume = "it is being deleted and nobody has it", v.DeepCopy()
		p.Volume.Finalizers = slices.DeleteFunc(p.Volume.Finalizers, held)
	}
	return p
}

// phase says a volume's phase, once.
func phase(v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, why string) volumePlan {
	p := volumePlan{Why: why}
	if v.Status.Phase != phase {
		p.Status = &corev1.PersistentVolumeStatus{Phase: phase}
	}
	return p
}

// release follows a volume whose claim is gone. Who made it deletes it, where its
// policy is Delete; nobody empties one for the next claim.
func release(v *corev1.PersistentVolume) volumePlan {
	if v.Status.Phase != corev1.VolumeReleased && v.Status.Phase != corev1.VolumeFailed {
		return phase(v, corev1.VolumeReleased, "its claim is gone")
	}
	fail := func(reason, message string) volumePlan {
		p := volumePlan{Why: message}
		if v.Status.Phase != corev1.VolumeFailed {
			p.Status = &corev1.PersistentVolumeStatus{Phase: corev1.VolumeFailed, Reason: reason, Message: message}
			p.Events = warning(reason, message)
		}
		return p
	}
	switch {
	case v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle:
		return fail("VolumeFailedRecycle", "the Recycle reclaim policy is not supported; the data is kept: "+
			"use Retain or Delete, and dynamic provisioning for new empty volumes")
	case v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && !madeFor(v):
		return fail("VolumeFailedDelete", fmt.Sprintf("no deletable volume plugin matched: only volumes that a provisioner made are deleted with their data; "+
			"delete PersistentVolume %s and what it stands for by hand", v.Name))
	}
	return volumePlan{Why: "its claim is gone"}
}

// letGo takes a claim that has another volume out of this one.
func letGo(v *corev1.PersistentVolume) volumePlan {
	after := v.DeepCopy()
	if metav1.HasAnnotation(v.ObjectMeta, volume.AnnBoundByController) {
		after.Spec.ClaimRef = nil
		delete(after.Annotations, volume.AnnBoundByController)
	} else {
		after.Spec.ClaimRef.UID = ""
	}
	return volumePlan{Why: "its claim has another volume", Volume: after}
}

// madeFor says whether a provisioner made a volume, which it then deletes.
func madeFor(v *corev1.PersistentVolume) bool {
	return metav1.HasAnnotation(v.ObjectMeta, volume.AnnDynamicallyProvisioned)
}

// local says whether the volume is a directory that a node's agent made.
func local(v *corev1.PersistentVolume) bool {
	return v.Annotations[volume.AnnDynamicallyProvisioned] == v1alpha1.LocalProvisioner
}
