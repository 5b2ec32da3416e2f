package columns

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"
)

// terminating stands in the place of the phase of what is being deleted.
const terminating = "Terminating"

// Annotations that make a class the default one.
var defaultClassAnnotations = []string{
	"storageclass.kubernetes.io/is-default-class",
	"storageclass.beta.kubernetes.io/is-default-class",
}

var (
	volumeDocs = corev1.PersistentVolumeSpec{}.SwaggerDoc()
	claimDocs  = corev1.PersistentVolumeClaimSpec{}.SwaggerDoc()
	classDocs  = storagev1.StorageClass{}.SwaggerDoc()

	persistentVolumes = tableOf(volumeCells,
		nameColumn,
		text("Capacity", volumeDocs["capacity"]),
		text("Access Modes", volumeDocs["accessModes"]),
		text("Reclaim Policy", volumeDocs["persistentVolumeReclaimPolicy"]),
		text("Status", corev1.PersistentVolumeStatus{}.SwaggerDoc()["phase"]),
		text("Claim", volumeDocs["claimRef"]),
		text("StorageClass", volumeDocs["storageClassName"]),
		text("VolumeAttributesClass", volumeDocs["volumeAttributesClassName"]),
		text("Reason", corev1.PersistentVolumeStatus{}.SwaggerDoc()["reason"]),
		ageColumn,
		wide(text("VolumeMode", volumeDocs["volumeMode"])))

	persistentVolumeClaims = tableOf(claimCells,
		nameColumn,
		text("Status", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["phase"]),
		text("Volume", claimDocs["volumeName"]),
		text("Capacity", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["capacity"]),
		text("Access Modes", corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()["accessModes"]),
		text("StorageClass", claimDocs["storageClassName"]),
		text("VolumeAttributesClass", claimDocs["volumeAttributesClassName"]),
		ageColumn,
		wide(text("VolumeMode", claimDocs["volumeMode"])))

	storageClasses = tableOf(classCells,
		nameColumn,
		text("Provisioner", classDocs["provisioner"]),
		text("ReclaimPolicy", classDocs["reclaimPolicy"]),
		text("VolumeBindingMode", classDocs["volumeBindingMode"]),
		metav1.TableColumnDefinition{Name: "AllowVolumeExpansion", Type: "boolean", Description: classDocs["allowVolumeExpansion"]},
		ageColumn)
)

func volumeCells(v *corev1.PersistentVolume, now time.Time) []any {
	claim := ""
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	return []any{
		v.Name,
		storage(v.Spec.Capacity),
		modes(v.Spec.AccessModes),
		string(v.Spec.PersistentVolumeReclaimPolicy),
		phase(string(v.Status.Phase), &v.ObjectMeta),
		claim,
		volume.GetPersistentVolumeClass(v),
		attributesClass(v.Spec.VolumeAttributesClassName),
		v.Status.Reason,
		age(&v.ObjectMeta, now),
		volumeMode(v.Spec.VolumeMode),
	}
}

// claimCells show what a claim got, once it is bound.
func claimCells(c *corev1.PersistentVolumeClaim, now time.Time) []any {
	capacity, got := "", ""
	if c.Spec.VolumeName != "" {
		capacity, got = storage(c.Status.Capacity), modes(c.Status.AccessModes)
	}
	return []any{
		c.Name,
		phase(string(c.Status.Phase), &c.ObjectMeta),
		c.Spec.VolumeName,
		capacity,
		got,
		volume.GetPersistentVolumeClaimClass(c),
		attributesClass(c.Spec.VolumeAttributesClassName),
		age(&c.ObjectMeta, now),
		volumeMode(c.Spec.VolumeMode),
	}
}

func classCells(c *storagev1.StorageClass, now time.Time) []any {
	name := c.Name
	if slices.ContainsFunc(defaultClassAnnotations, func(a string) bool { return c.Annotations[a] == "true" }) {
		name += " (default)"
	}
	reclaim, binding := corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingImmediate
	if c.ReclaimPolicy != nil {
		reclaim = *c.ReclaimPolicy
	}
	if c.VolumeBindingMode != nil {
		binding = *c.VolumeBindingMode
	}
	return []any{
		name,
		c.Provisioner,
		string(reclaim),
		string(binding),
		c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion,
		age(&c.ObjectMeta, now),
	}
}

func phase(phase string, meta *metav1.ObjectMeta) string {
	if meta.DeletionTimestamp != nil {
		return terminating
	}
	return phase
}

func storage(list corev1.ResourceList) string {
	size := list[corev1.ResourceStorage]
	return size.String()
}

// modes are the short names of access modes, in Kubernetes' order.
func modes(list []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, mode := range []struct {
		mode corev1.PersistentVolumeAccessMode
		name string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	} {
		if slices.Contains(list, mode.mode) {
			short = append(short, mode.name)
		}
	}
	return strings.Join(short, ",")
}

func attributesClass(name *string) string {
	if name == nil {
		return unset
	}
	return *name
}

func volumeMode(mode *corev1.PersistentVolumeMode) string {
	if mode == nil {
		return unset
	}
	return string(*mode)
}
