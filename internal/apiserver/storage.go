package apiserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/component-helpers/storage/volume"
)

// The finalizers that keep a claim that pods use, and a volume that is bound.
const (
	claimProtection  = "kubernetes.io/pvc-protection"
	volumeProtection = "kubernetes.io/pv-protection"
)

func volumeCreate(_ context.Context, obj runtime.Object) {
	v := obj.(*corev1.PersistentVolume)
	now := metav1.Now()
	v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
}

// volumeStatus notes when the phase changes, where the writer does not.
func volumeStatus(obj, old runtime.Object) {
	v, before := obj.(*corev1.PersistentVolume), old.(*corev1.PersistentVolume)
	unsaid := v.Status.LastPhaseTransitionTime == nil || v.Status.LastPhaseTransitionTime.Equal(before.Status.LastPhaseTransitionTime)
	if v.Status.Phase != before.Status.Phase && unsaid {
		now := metav1.Now()
		v.Status.LastPhaseTransitionTime = &now
	}
}

// volumeWarnings tells of what volumes may ask for and do not get.
func volumeWarnings(obj, old runtime.Object) []string {
	v := obj.(*corev1.PersistentVolume)
	var out []string
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		out = append(out, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated and not supported: "+
			"once released, the volume becomes Failed and keeps its data. Use Retain or Delete; for new empty volumes use dynamic provisioning.")
	}
	if old == nil && v.Spec.HostPath == nil && v.Spec.Local == nil {
		for name := range sources(&v.Spec.PersistentVolumeSource) {
			out = append(out, fmt.Sprintf("spec.%s: no node can mount volumes of this kind: those of kind hostPath and local can be used by pods", name))
		}
	}
	return out
}

// sources are the fields of a source that are set, by their names in manifests.
func sources(s *corev1.PersistentVolumeSource) map[string]any {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	if err != nil {
		return nil
	}
	return fields
}

func claimCreate(_ context.Context, obj runtime.Object) {
	obj.(*corev1.PersistentVolumeClaim).Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
}

// storageClasses reads StorageClasses.
type storageClasses interface {
	rest.Getter
	rest.Lister
}

// storageAdmission completes new claims and volumes, and decides which claims may
// grow, as Kubernetes' plugins DefaultStorageClass, StorageObjectInUseProtection
// and PersistentVolumeClaimResize do.
type storageAdmission struct {
	*admission.Handler
	classes storageClasses
}

var (
	_ admission.MutationInterface   = storageAdmission{}
	_ admission.ValidationInterface = storageAdmission{}
)

// Admit implements admission.MutationInterface.
func (s storageAdmission) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetOperation() != admission.Create || a.GetSubresource() != "" {
		return nil
	}
	switch object := a.GetObject().(type) {
	case *corev1.PersistentVolume:
		protect(object, volumeProtection)
	case *corev1.PersistentVolumeClaim:
		protect(object, claimProtection)
		if volume.PersistentVolumeClaimHasClass(object) {
			return nil
		}
		class, err := s.defaultClass(ctx)
		if err != nil {
			return admission.NewForbidden(a, err)
		}
		if class != "" {
			object.Spec.StorageClassName = &class
		}
	}
	return nil
}

func protect(object metav1.Object, finalizer string) {
	if list := object.GetFinalizers(); !slices.Contains(list, finalizer) {
		object.SetFinalizers(append(list, finalizer))
	}
}

// defaultClass returns the name of the default class, "" when there is none. Of
// several it is the newest, then the first by name.
func (s storageAdmission) defaultClass(ctx context.Context) (string, error) {
	list, err := s.classes.List(ctx, &internalversion.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list StorageClasses: %w", err)
	}
	classes := slices.DeleteFunc(slices.Clone(list.(*storagev1.StorageClassList).Items), func(c storagev1.StorageClass) bool {
		return c.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" &&
			c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] != "true"
	})
	if len(classes) == 0 {
		return "", nil
	}
	return slices.MinFunc(classes, func(a, b storagev1.StorageClass) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	}).Name, nil
}

// Validate implements admission.ValidationInterface: a claim may ask for more when
// it is bound and its class says that its volumes can grow.
func (s storageAdmission) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	claim, ok := a.GetObject().(*corev1.PersistentVolumeClaim)
	if !ok || a.GetOperation() != admission.Update || a.GetSubresource() != "" {
		return nil
	}
	old, ok := a.GetOldObject().(*corev1.PersistentVolumeClaim)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("expected a PersistentVolumeClaim, got a %T", a.GetOldObject()))
	}
	asked, before := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if asked.Cmp(before) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return admission.NewForbidden(a, errors.New("Only bound persistent volume claims can be expanded")) // Kubernetes' words
	}
	if s.growing(ctx, claim) {
		return nil
	}
	return admission.NewForbidden(a, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
}

func (s storageAdmission) growing(ctx context.Context, claim *corev1.PersistentVolumeClaim) bool {
	name := volume.GetPersistentVolumeClaimClass(claim)
	if name == "" {
		return false
	}
	class, err := s.classes.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return false
	}
	allowed := class.(*storagev1.StorageClass).AllowVolumeExpansion
	return allowed != nil && *allowed
}
