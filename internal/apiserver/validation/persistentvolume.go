package validation

import (
	"fmt"
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func persistentVolumeCreate(v *corev1.PersistentVolume) field.ErrorList {
	return append(clusterWide(&v.ObjectMeta, subdomainName), persistentVolumeSpec(specPath, &v.Spec)...)
}

// persistentVolumeUpdate returns the faults of a volume as the replacement of old: what it
// stands for stays the same, and where it is stays once it is said.
func persistentVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	errs := metadataUpdate(&v.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, persistentVolumeSpec(specPath, &v.Spec)...)
	was := old.Spec.PersistentVolumeSource
	if was.CSI != nil && was.CSI.ControllerExpandSecretRef == nil && v.Spec.CSI != nil {
		csi := *was.CSI
		csi.ControllerExpandSecretRef = v.Spec.CSI.ControllerExpandSecretRef
		was.CSI = &csi
	}
	if !equality.Semantic.DeepEqual(v.Spec.PersistentVolumeSource, was) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%s", changes(&was, &v.Spec.PersistentVolumeSource))))
	}
	errs = append(errs, immutable(field.NewPath("volumeMode"), v.Spec.VolumeMode, old.Spec.VolumeMode)...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, immutable(field.NewPath("nodeAffinity"), v.Spec.NodeAffinity, old.Spec.NodeAffinity)...)
	}
	return errs
}

func persistentVolumeStatusUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	return metadataUpdate(&v.ObjectMeta, &old.ObjectMeta)
}

func persistentVolumeSpec(fld *field.Path, spec *corev1.PersistentVolumeSpec) field.ErrorList {
	var errs field.ErrorList
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(fld.Child("accessModes"), ""))
	} else {
		errs = append(errs, accessModes(fld.Child("accessModes"), spec.AccessModes)...)
	}
	errs = append(errs, volumeCapacity(fld.Child("capacity"), spec.Capacity)...)
	reclaim := fld.Child("persistentVolumeReclaimPolicy")
	if spec.PersistentVolumeReclaimPolicy != "" {
		errs = append(errs, choice(reclaim, spec.PersistentVolumeReclaimPolicy,
			corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	errs = append(errs, volumeAffinity(fld.Child("nodeAffinity"), spec.NodeAffinity)...)
	errs = append(errs, persistentSource(fld, spec)...)
	if spec.HostPath != nil && path.Clean(spec.HostPath.Path) == "/" && spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(reclaim, "may not be 'recycle' for a hostPath mount of '/'"))
	}
	errs = append(errs, optionalFormat(fld.Child("storageClassName"), spec.StorageClassName, isName)...)
	errs = append(errs, optionalChoice(fld.Child("volumeMode"), spec.VolumeMode,
		corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	if class := spec.VolumeAttributesClassName; class != nil {
		errs = append(errs, requireFormat(fld.Child("volumeAttributesClassName"), *class, isName)...)
	}
	return errs
}

// volumeCapacity requires a size above zero and nothing else.
func volumeCapacity(fld *field.Path, capacity corev1.ResourceList) field.ErrorList {
	if len(capacity) == 0 {
		return field.ErrorList{field.Required(fld, "")}
	}
	size, ok := capacity[corev1.ResourceStorage]
	if !ok || len(capacity) > 1 {
		return field.ErrorList{field.NotSupported(fld, capacity, []string{string(corev1.ResourceStorage)})}
	}
	if size.Sign() <= 0 {
		return field.ErrorList{field.Invalid(fld.Key(string(corev1.ResourceStorage)), size.String(), "must be greater than zero")}
	}
	return nil
}

// volumeAffinity returns the faults of what says on which nodes a volume can be used.
func volumeAffinity(fld *field.Path, affinity *corev1.VolumeNodeAffinity) field.ErrorList {
	if affinity == nil {
		return nil
	}
	if affinity.Required == nil {
		return field.ErrorList{field.Required(fld.Child("required"), "must specify required node constraints")}
	}
	return nodeSelector(fld.Child("required"), affinity.Required)
}

// persistentSource returns the faults of what a volume stands for.
func persistentSource(fld *field.Path, spec *corev1.PersistentVolumeSpec) field.ErrorList {
	v := &spec.PersistentVolumeSource
	inline := inlineSource(v)
	return oneSource(fld, append([]source{
		{"hostPath", v.HostPath != nil, func(fld *field.Path) field.ErrorList { return hostPath(fld, v.HostPath) }},
		{"local", v.Local != nil, func(at *field.Path) field.ErrorList {
			errs := requireText(at.Child("path"), v.Local.Path)
			errs = append(errs, noBacksteps(at.Child("path"), v.Local.Path)...)
			if spec.NodeAffinity == nil {
				errs = append(errs, field.Required(fld.Child("nodeAffinity"), "Local volume requires node affinity"))
			}
			return errs
		}},
		{"csi", v.CSI != nil, func(fld *field.Path) field.ErrorList { return persistentCSI(fld, v.CSI) }},
	}, storageSources(&inline)...))
}

func persistentCSI(fld *field.Path, v *corev1.CSIPersistentVolumeSource) field.ErrorList {
	errs := csi(fld, &corev1.CSIVolumeSource{Driver: v.Driver})
	errs = append(errs, requireText(fld.Child("volumeHandle"), v.VolumeHandle)...)
	for _, secret := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", v.ControllerPublishSecretRef},
		{"nodeStageSecretRef", v.NodeStageSecretRef},
		{"nodePublishSecretRef", v.NodePublishSecretRef},
		{"controllerExpandSecretRef", v.ControllerExpandSecretRef},
		{"nodeExpandSecretRef", v.NodeExpandSecretRef},
	} {
		if secret.ref != nil {
			errs = append(errs, requireTexts(fld.Child(secret.name), "name", secret.ref.Name, "namespace", secret.ref.Namespace)...)
		}
	}
	return errs
}

// inlineSource returns a source of some storage system in the form in which a pod would have
// it: the rules are the same.
func inlineSource(v *corev1.PersistentVolumeSource) corev1.VolumeSource {
	inline := corev1.VolumeSource{
		GCEPersistentDisk: v.GCEPersistentDisk, AWSElasticBlockStore: v.AWSElasticBlockStore, NFS: v.NFS, FC: v.FC, Flocker: v.Flocker,
		VsphereVolume: v.VsphereVolume, Quobyte: v.Quobyte, AzureDisk: v.AzureDisk, PhotonPersistentDisk: v.PhotonPersistentDisk,
		PortworxVolume: v.PortworxVolume,
	}
	if s := v.Glusterfs; s != nil {
		inline.Glusterfs = &corev1.GlusterfsVolumeSource{EndpointsName: s.EndpointsName, Path: s.Path}
	}
	if s := v.RBD; s != nil {
		inline.RBD = &corev1.RBDVolumeSource{CephMonitors: s.CephMonitors, RBDImage: s.RBDImage}
	}
	if s := v.ISCSI; s != nil {
		inline.ISCSI = &corev1.ISCSIVolumeSource{
			TargetPortal: s.TargetPortal, IQN: s.IQN, Lun: s.Lun, InitiatorName: s.InitiatorName,
			DiscoveryCHAPAuth: s.DiscoveryCHAPAuth, SessionCHAPAuth: s.SessionCHAPAuth, SecretRef: localRef(s.SecretRef),
		}
	}
	if s := v.Cinder; s != nil {
		inline.Cinder = &corev1.CinderVolumeSource{VolumeID: s.VolumeID, SecretRef: localRef(s.SecretRef)}
	}
	if s := v.CephFS; s != nil {
		inline.CephFS = &corev1.CephFSVolumeSource{Monitors: s.Monitors}
	}
	if s := v.FlexVolume; s != nil {
		inline.FlexVolume = &corev1.FlexVolumeSource{Driver: s.Driver, Options: s.Options}
	}
	if s := v.AzureFile; s != nil {
		inline.AzureFile = &corev1.AzureFileVolumeSource{SecretName: s.SecretName, ShareName: s.ShareName}
	}
	if s := v.ScaleIO; s != nil {
		inline.ScaleIO = &corev1.ScaleIOVolumeSource{Gateway: s.Gateway, System: s.System, VolumeName: s.VolumeName}
	}
	if s := v.StorageOS; s != nil {
		inline.StorageOS = &corev1.StorageOSVolumeSource{VolumeName: s.VolumeName, VolumeNamespace: s.VolumeNamespace}
	}
	return inline
}

func localRef(ref *corev1.SecretReference) *corev1.LocalObjectReference {
	if ref == nil {
		return nil
	}
	return &corev1.LocalObjectReference{Name: ref.Name}
}
