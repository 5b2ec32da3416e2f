package validation

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxUnit is the highest number of a partition or of a logical unit of a disk.
const maxUnit = 255

// maxCSIDriver and maxTenant are the lengths of the longest names of a CSI driver and of a
// Quobyte tenant.
const (
	maxCSIDriver = 63
	maxTenant    = 64
)

// storageSources lists the sources of a volume that are kept outside of the pod's node.
func storageSources(v *corev1.VolumeSource) []source {
	return []source{
		{"nfs", v.NFS != nil, func(fld *field.Path) field.ErrorList { return nfs(fld, v.NFS) }},
		{"iscsi", v.ISCSI != nil, func(fld *field.Path) field.ErrorList { return iscsi(fld, v.ISCSI) }},
		{"fc", v.FC != nil, func(fld *field.Path) field.ErrorList { return fibreChannel(fld, v.FC) }},
		{"csi", v.CSI != nil, func(fld *field.Path) field.ErrorList { return csi(fld, v.CSI) }},
		{"flexVolume", v.FlexVolume != nil, func(fld *field.Path) field.ErrorList { return flexVolume(fld, v.FlexVolume) }},
		{"gcePersistentDisk", v.GCEPersistentDisk != nil, func(fld *field.Path) field.ErrorList {
			return append(requireText(fld.Child("pdName"), v.GCEPersistentDisk.PDName),
				inRange(fld.Child("partition"), int64(v.GCEPersistentDisk.Partition), 0, maxUnit)...)
		}},
		{"awsElasticBlockStore", v.AWSElasticBlockStore != nil, func(fld *field.Path) field.ErrorList {
			return append(requireText(fld.Child("volumeID"), v.AWSElasticBlockStore.VolumeID),
				inRange(fld.Child("partition"), int64(v.AWSElasticBlockStore.Partition), 0, maxUnit)...)
		}},
		{"azureDisk", v.AzureDisk != nil, func(fld *field.Path) field.ErrorList { return azureDisk(fld, v.AzureDisk) }},
		{"azureFile", v.AzureFile != nil, func(fld *field.Path) field.ErrorList {
			return requireTexts(fld, "secretName", v.AzureFile.SecretName, "shareName", v.AzureFile.ShareName)
		}},
		{"vsphereVolume", v.VsphereVolume != nil, func(fld *field.Path) field.ErrorList {
			return requireText(fld.Child("volumePath"), v.VsphereVolume.VolumePath)
		}},
		{"photonPersistentDisk", v.PhotonPersistentDisk != nil, func(fld *field.Path) field.ErrorList {
			return requireText(fld.Child("pdID"), v.PhotonPersistentDisk.PdID)
		}},
		{"portworxVolume", v.PortworxVolume != nil, func(fld *field.Path) field.ErrorList {
			return requireText(fld.Child("volumeID"), v.PortworxVolume.VolumeID)
		}},
		{"cinder", v.Cinder != nil, func(fld *field.Path) field.ErrorList {
			return append(requireText(fld.Child("volumeID"), v.Cinder.VolumeID), secretRef(fld, v.Cinder.SecretRef)...)
		}},
		{"glusterfs", v.Glusterfs != nil, func(fld *field.Path) field.ErrorList {
			return requireTexts(fld, "endpoints", v.Glusterfs.EndpointsName, "path", v.Glusterfs.Path)
		}},
		{"rbd", v.RBD != nil, func(fld *field.Path) field.ErrorList {
			return append(requireMonitors(fld, v.RBD.CephMonitors), requireText(fld.Child("image"), v.RBD.RBDImage)...)
		}},
		{"cephfs", v.CephFS != nil, func(fld *field.Path) field.ErrorList { return requireMonitors(fld, v.CephFS.Monitors) }},
		{"flocker", v.Flocker != nil, func(fld *field.Path) field.ErrorList { return flocker(fld, v.Flocker) }},
		{"quobyte", v.Quobyte != nil, func(fld *field.Path) field.ErrorList { return quobyte(fld, v.Quobyte) }},
		{"scaleIO", v.ScaleIO != nil, func(fld *field.Path) field.ErrorList {
			return requireTexts(fld, "gateway", v.ScaleIO.Gateway, "system", v.ScaleIO.System, "volumeName", v.ScaleIO.VolumeName)
		}},
		{"storageos", v.StorageOS != nil, func(fld *field.Path) field.ErrorList { return storageOS(fld, v.StorageOS) }},
	}
}

// requireTexts refuses the empty ones of values; it takes names of fields and values by turns.
func requireTexts(fld *field.Path, namesAndValues ...string) field.ErrorList {
	var errs field.ErrorList
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		errs = append(errs, requireText(fld.Child(namesAndValues[i]), namesAndValues[i+1])...)
	}
	return errs
}

func requireMonitors(fld *field.Path, monitors []string) field.ErrorList {
	if len(monitors) == 0 {
		return field.ErrorList{field.Required(fld.Child("monitors"), "")}
	}
	return nil
}

// secretRef refuses a reference to a secret without its name.
func secretRef(fld *field.Path, ref *corev1.LocalObjectReference) field.ErrorList {
	if ref == nil {
		return nil
	}
	return requireText(fld.Child("secretRef", "name"), ref.Name)
}

func nfs(fld *field.Path, v *corev1.NFSVolumeSource) field.ErrorList {
	errs := requireTexts(fld, "server", v.Server, "path", v.Path)
	if v.Path != "" && !path.IsAbs(v.Path) {
		errs = append(errs, field.Invalid(fld.Child("path"), v.Path, "must be an absolute path"))
	}
	return errs
}

// iscsiNames are the three forms of names of RFC 3721, by their first three letters.
var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`^iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui\.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa\.[[:alnum:]]{32}$`),
}

func iscsiName(fld *field.Path, name string) field.ErrorList {
	form, ok := iscsiNames[name[:min(3, len(name))]]
	switch {
	case !ok:
		return field.ErrorList{field.Invalid(fld, name, "must be valid format starting with iqn, eui, or naa")}
	case !form.MatchString(name):
		return field.ErrorList{field.Invalid(fld, name, "must be valid format")}
	}
	return nil
}

func iscsi(fld *field.Path, v *corev1.ISCSIVolumeSource) field.ErrorList {
	errs := requireTexts(fld, "targetPortal", v.TargetPortal, "iqn", v.IQN)
	if v.IQN != "" {
		errs = append(errs, iscsiName(fld.Child("iqn"), v.IQN)...)
	}
	if v.InitiatorName != nil {
		errs = append(errs, iscsiName(fld.Child("initiatorName"), *v.InitiatorName)...)
	}
	errs = append(errs, inRange(fld.Child("lun"), int64(v.Lun), 0, maxUnit)...)
	if (v.DiscoveryCHAPAuth || v.SessionCHAPAuth) && v.SecretRef == nil {
		errs = append(errs, field.Required(fld.Child("secretRef"), ""))
	}
	return append(errs, secretRef(fld, v.SecretRef)...)
}

func fibreChannel(fld *field.Path, v *corev1.FCVolumeSource) field.ErrorList {
	targets := fld.Child("targetWWNs")
	switch {
	case len(v.TargetWWNs) == 0 && len(v.WWIDs) == 0:
		return field.ErrorList{field.Required(targets, "must specify either targetWWNs or wwids, but not both")}
	case len(v.TargetWWNs) > 0 && len(v.WWIDs) > 0:
		return field.ErrorList{field.Invalid(targets, v.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")}
	case len(v.TargetWWNs) > 0 && v.Lun == nil:
		return field.ErrorList{field.Required(fld.Child("lun"), "lun is required if targetWWNs is specified")}
	case len(v.TargetWWNs) > 0:
		return inRange(fld.Child("lun"), int64(*v.Lun), 0, maxUnit)
	}
	return nil
}

func csi(fld *field.Path, v *corev1.CSIVolumeSource) field.ErrorList {
	errs := requireText(fld.Child("driver"), v.Driver)
	if v.Driver != "" {
		if len(v.Driver) > maxCSIDriver {
			errs = append(errs, field.TooLong(fld.Child("driver"), v.Driver, maxCSIDriver))
		}
		errs = append(errs, invalidFor(fld.Child("driver"), v.Driver, validation.IsDNS1123Subdomain(strings.ToLower(v.Driver)))...)
	}
	if ref := v.NodePublishSecretRef; ref != nil {
		errs = append(errs, requireFormat(fld.Child("nodePublishSecretRef", "name"), ref.Name, isName)...)
	}
	return errs
}

func flexVolume(fld *field.Path, v *corev1.FlexVolumeSource) field.ErrorList {
	errs := requireText(fld.Child("driver"), v.Driver)
	for _, key := range slices.Sorted(maps.Keys(v.Options)) {
		if domain, _, ok := strings.Cut(key, "/"); ok && isKubernetesDomain(domain) {
			errs = append(errs, field.Invalid(fld.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func azureDisk(fld *field.Path, v *corev1.AzureDiskVolumeSource) field.ErrorList {
	errs := requireTexts(fld, "diskName", v.DiskName, "diskURI", v.DataDiskURI)
	errs = append(errs, optionalChoice(fld.Child("cachingMode"), v.CachingMode,
		corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	errs = append(errs, optionalChoice(fld.Child("kind"), v.Kind,
		corev1.AzureSharedBlobDisk, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk)...)
	if v.DataDiskURI == "" || v.Kind == nil {
		return errs
	}
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *v.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(strings.ToLower(v.DataDiskURI), prefix) {
		errs = append(errs, field.NotSupported(fld.Child("diskURI"), v.DataDiskURI, []string{form}))
	}
	return errs
}

func flocker(fld *field.Path, v *corev1.FlockerVolumeSource) field.ErrorList {
	switch {
	case v.DatasetName == "" && v.DatasetUUID == "":
		return field.ErrorList{field.Required(fld, "one of datasetName and datasetUUID is required")}
	case v.DatasetName != "" && v.DatasetUUID != "":
		return field.ErrorList{field.Invalid(fld, "resource", "datasetName and datasetUUID can not be specified simultaneously")}
	case strings.Contains(v.DatasetName, "/"):
		return field.ErrorList{field.Invalid(fld.Child("datasetName"), v.DatasetName, "must not contain '/'")}
	}
	return nil
}

func quobyte(fld *field.Path, v *corev1.QuobyteVolumeSource) field.ErrorList {
	const form = "must be a host:port pair or multiple pairs separated by commas"
	var errs field.ErrorList
	if v.Registry == "" {
		errs = append(errs, field.Required(fld.Child("registry"), form))
	} else {
		for _, pair := range strings.Split(v.Registry, ",") {
			if _, port, ok := strings.Cut(pair, ":"); !ok || port == "" {
				errs = append(errs, field.Invalid(fld.Child("registry"), v.Registry, form))
			}
		}
	}
	if len(v.Tenant) > maxTenant {
		errs = append(errs, field.Invalid(fld.Child("tenant"), v.Tenant, "must be a UUID and may not exceed a length of 64 characters"))
	}
	return append(errs, requireText(fld.Child("volume"), v.Volume)...)
}

func storageOS(fld *field.Path, v *corev1.StorageOSVolumeSource) field.ErrorList {
	errs := requireFormat(fld.Child("volumeName"), v.VolumeName, validation.IsDNS1123Label)
	errs = append(errs, optionalFormat(fld.Child("volumeNamespace"), v.VolumeNamespace, validation.IsDNS1123Label)...)
	return append(errs, secretRef(fld, v.SecretRef)...)
}
