package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// volumeMounts returns the faults of the places in a container where volumes are seen.
func volumeMounts(fld *field.Path, c *corev1.Container, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	paths, devices, devicePaths := sets.New[string](), sets.New[string](), sets.New[string]()
	for _, device := range c.VolumeDevices {
		devices.Insert(device.Name)
		devicePaths.Insert(device.DevicePath)
	}
	for i := range c.VolumeMounts {
		mount, at := &c.VolumeMounts[i], fld.Index(i)
		errs = append(errs, requireText(at.Child("name"), mount.Name)...)
		source, ok := facts.volumes[mount.Name]
		if !ok && mount.Name != "" {
			errs = append(errs, field.NotFound(at.Child("name"), mount.Name))
		}
		errs = append(errs, requireText(at.Child("mountPath"), mount.MountPath)...)
		if paths.Has(mount.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), mount.MountPath, "must be unique"))
		}
		paths.Insert(mount.MountPath)
		if devices.Has(mount.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), mount.Name, "must not already exist in volumeDevices"))
		}
		if devicePaths.Has(mount.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), mount.MountPath, "must not already exist as a path in volumeDevices"))
		}
		errs = append(errs, subPaths(at, mount)...)
		errs = append(errs, mountPropagation(at, mount, c)...)
		errs = append(errs, recursiveReadOnly(at, mount)...)
		errs = append(errs, bindMountOptions(at.Child("bindMountOptions"), mount, source)...)
	}
	return errs
}

// subPaths returns the faults of the part of a volume that a mount shows.
func subPaths(fld *field.Path, mount *corev1.VolumeMount) field.ErrorList {
	errs := descendingPath(fld.Child("subPath"), mount.SubPath)
	if mount.SubPath != "" && mount.SubPathExpr != "" {
		errs = append(errs, field.Invalid(fld.Child("subPathExpr"), mount.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
	}
	return append(errs, descendingPath(fld.Child("subPathExpr"), mount.SubPathExpr)...)
}

func mountPropagation(fld *field.Path, mount *corev1.VolumeMount, c *corev1.Container) field.ErrorList {
	fld = fld.Child("mountPropagation")
	errs := optionalChoice(fld, mount.MountPropagation,
		corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)
	if mount.MountPropagation != nil && *mount.MountPropagation == corev1.MountPropagationBidirectional && !isPrivileged(c.SecurityContext) {
		errs = append(errs, field.Forbidden(fld, "Bidirectional mount propagation is available only to privileged containers"))
	}
	return errs
}

func recursiveReadOnly(fld *field.Path, mount *corev1.VolumeMount) field.ErrorList {
	fld = fld.Child("recursiveReadOnly")
	mode := mount.RecursiveReadOnly
	errs := optionalChoice(fld, mode,
		corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	if mode == nil || len(errs) > 0 || *mode == corev1.RecursiveReadOnlyDisabled {
		return errs
	}
	if !mount.ReadOnly {
		errs = append(errs, field.Forbidden(fld, "may only be specified when readOnly is true"))
	}
	if mount.MountPropagation != nil && *mount.MountPropagation != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(fld, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

// bindMountOptions returns the faults of a mount's options, given the volume's source or nil.
func bindMountOptions(fld *field.Path, mount *corev1.VolumeMount, source *corev1.VolumeSource) field.ErrorList {
	var errs field.ErrorList
	if len(mount.BindMountOptions) > 0 && source != nil && source.Image != nil {
		errs = append(errs, field.Forbidden(fld, "may not be specified for image volumes"))
	}
	seen := sets.New[string]()
	for i, option := range mount.BindMountOptions {
		errs = append(errs, choice(fld.Index(i), corev1.BindMountOption(option),
			corev1.BindMountOptionNoDev, corev1.BindMountOptionNoExec, corev1.BindMountOptionNoSUID)...)
		if seen.Has(option) {
			errs = append(errs, field.Duplicate(fld.Index(i), option))
		}
		seen.Insert(option)
	}
	return errs
}

// volumeDevices returns the faults of the places in a container where block devices are seen.
func volumeDevices(fld *field.Path, c *corev1.Container, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	names, paths, mounts, mountPaths := sets.New[string](), sets.New[string](), sets.New[string](), sets.New[string]()
	for _, mount := range c.VolumeMounts {
		mounts.Insert(mount.Name)
		mountPaths.Insert(mount.MountPath)
	}
	for i, device := range c.VolumeDevices {
		name, path := fld.Index(i).Child("name"), fld.Index(i).Child("devicePath")
		errs = append(errs, requireText(name, device.Name)...)
		errs = append(errs, requireText(path, device.DevicePath)...)
		source, ok := facts.volumes[device.Name]
		if !ok && device.Name != "" {
			errs = append(errs, field.NotFound(name, device.Name))
		}
		isDisk := ok && (source.PersistentVolumeClaim != nil || source.Ephemeral != nil)
		for _, fault := range []struct {
			is      bool
			at      *field.Path
			value   string
			message string
		}{
			{ok && !isDisk, name, device.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"},
			{names.Has(device.Name), name, device.Name, "must be unique"},
			{paths.Has(device.DevicePath), path, device.DevicePath, "must be unique"},
			{len(noBacksteps(path, device.DevicePath)) > 0, path, device.DevicePath, "can not contain backsteps ('..')"},
			{mounts.Has(device.Name), name, device.Name, "must not already exist in volumeMounts"},
			{mountPaths.Has(device.DevicePath), path, device.DevicePath, "must not already exist as a path in volumeMounts"},
		} {
			if fault.is {
				errs = append(errs, field.Invalid(fault.at, fault.value, fault.message))
			}
		}
		names.Insert(device.Name)
		paths.Insert(device.DevicePath)
	}
	return errs
}
