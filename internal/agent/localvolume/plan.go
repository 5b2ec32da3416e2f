package localvolume

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"windlass.dev/windlass/api/v1alpha1"
)

// nameOf is the name of the volume that is made for a claim. It is the same on all
// nodes, so that there is one at most.
func nameOf(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// asked says whether a claim asks this node for a volume.
func asked(claim *corev1.PersistentVolumeClaim, node string) bool {
	return claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil &&
		claim.Annotations[volume.AnnStorageProvisioner] == v1alpha1.LocalProvisioner && claim.Annotations[volume.AnnSelectedNode] == node
}

// refusal says what of a claim or its class cannot be had of a directory; "" if
// all of it can.
func refusal(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) string {
	switch {
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return "volumeMode Block is not supported: use Filesystem"
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return "volumes begin empty: leave out dataSource and dataSourceRef"
	case claim.Spec.Selector != nil:
		return "claim.Spec.Selector is not supported for dynamic provisioning"
	case len(class.Parameters) > 0:
		return fmt.Sprintf("the class has parameters, of which there are none: %v", slices.Sorted(maps.Keys(class.Parameters)))
	case len(class.MountOptions) > 0:
		return fmt.Sprintf("the class has mountOptions, of which there are none: %v", class.MountOptions)
	}
	return ""
}

// volumeFor is the volume for a claim: a directory of a node.
func volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node, path, capacity string) *corev1.PersistentVolume {
	policy, mode := corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeFilesystem
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: nameOf(claim),
			Annotations: map[string]string{
				volume.AnnDynamicallyProvisioned: v1alpha1.LocalProvisioner,
				v1alpha1.AnnotationCapacity:      capacity,
			},
			Finalizers: []string{v1alpha1.FinalizerLocalVolume},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    &mode,
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			ClaimRef: &corev1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity:           affinityTo(node),
		},
	}
}

func affinityTo(node string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}}
}

// made says whether this node made a volume, as which directory it may then treat path.
func made(v *corev1.PersistentVolume, node, path string) bool {
	return v.Annotations[volume.AnnDynamicallyProvisioned] == v1alpha1.LocalProvisioner &&
		v.Spec.Local != nil && v.Spec.Local.Path == path &&
		volume.CheckNodeAffinity(v, map[string]string{corev1.LabelHostname: node}) == nil
}

// protection is on a volume until the controller of volumes has found at the API
// itself that nobody has it.
const protection = "kubernetes.io/pv-protection"

// deed is what to do about a volume that this node made.
type deed struct {
	Why    string
	Remove bool // its directory, and then the object
	LetGo  bool // of the object, which is being deleted; the directory stays
	Grow   *resource.Quantity
}

// planVolume decides about a volume that this node made. claim is the one that it
// names, nil if none is known.
func planVolume(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) deed {
	mine := claim != nil && (claim.Spec.VolumeName == v.Name || claim.Spec.VolumeName == "" && v.DeletionTimestamp == nil)
	switch {
	case v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, protection):
		return deed{Why: "it may be in use"}
	case mine && claim.Spec.VolumeName == v.Name && v.DeletionTimestamp == nil:
		wants, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
		if wants.Cmp(has) > 0 {
			return deed{Why: "its claim wants more", Grow: &wants}
		}
	case mine || v.Status.Phase == corev1.VolumeBound:
	case v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete && (v.Status.Phase == corev1.VolumeReleased || v.DeletionTimestamp != nil):
		return deed{Why: "its claim is gone", Remove: true}
	case v.DeletionTimestamp != nil:
		return deed{Why: "its data is retained", LetGo: true}
	}
	return deed{Why: "nothing is to be done"}
}
