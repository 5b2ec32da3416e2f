package validation

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxDirectoryMode is the highest permission of an emptyDir: all, and the sticky bit.
const maxDirectoryMode = 0o1777

// volumes returns the faults of a pod's volumes.
func volumes(fld *field.Path, facts podFacts) field.ErrorList {
	fld = fld.Child("volumes")
	var errs field.ErrorList
	names, madeClaims := sets.New[string](), sets.New[string]()
	for i, volume := range facts.spec.Volumes {
		if volume.Ephemeral == nil || facts.name == "" {
			continue
		}
		claim := facts.name + "-" + volume.Name
		madeClaims.Insert(claim)
		for _, message := range isName(claim) {
			errs = append(errs, field.Invalid(fld.Index(i).Child("name"), volume.Name, fmt.Sprintf("PVC name %q: %s", claim, message)))
		}
	}
	for i := range facts.spec.Volumes {
		volume, at := &facts.spec.Volumes[i], fld.Index(i)
		errs = append(errs, requireFormat(at.Child("name"), volume.Name, validation.IsDNS1123Label)...)
		errs = append(errs, uniqueName(at, volume.Name, names)...)
		errs = append(errs, volumeSource(at, volume, facts)...)
		if claim := volume.PersistentVolumeClaim; claim != nil && madeClaims.Has(claim.ClaimName) {
			errs = append(errs, field.Invalid(at.Child("persistentVolumeClaim", "claimName"), claim.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return errs
}

// source is one of the kinds of source that a volume, or a projection in it, may have.
type source struct {
	name   string
	isSet  bool
	faults func(*field.Path) field.ErrorList
}

// oneSource returns the faults of the first source that is set, and refuses a second one
// and the lack of any.
func oneSource(fld *field.Path, sources []source) field.ErrorList {
	var errs field.ErrorList
	found := false
	for _, s := range sources {
		switch {
		case !s.isSet:
			continue
		case found:
			errs = append(errs, field.Forbidden(fld.Child(s.name), "may not specify more than 1 volume type"))
		default:
			errs = append(errs, s.faults(fld.Child(s.name))...)
		}
		found = true
	}
	if !found {
		errs = append(errs, field.Required(fld, "must specify a volume type"))
	}
	return errs
}

func volumeSource(fld *field.Path, v *corev1.Volume, facts podFacts) field.ErrorList {
	local := []source{
		{"emptyDir", v.EmptyDir != nil, func(fld *field.Path) field.ErrorList { return emptyDir(fld, v.EmptyDir) }},
		{"hostPath", v.HostPath != nil, func(fld *field.Path) field.ErrorList { return hostPath(fld, v.HostPath) }},
		{"gitRepo", v.GitRepo != nil, func(fld *field.Path) field.ErrorList { return gitRepo(fld, v.GitRepo) }},
		{"secret", v.Secret != nil, func(fld *field.Path) field.ErrorList { return secretVolume(fld, v.Secret) }},
		{"configMap", v.ConfigMap != nil, func(fld *field.Path) field.ErrorList { return configMapVolume(fld, v.ConfigMap) }},
		{"downwardAPI", v.DownwardAPI != nil, func(fld *field.Path) field.ErrorList { return downwardAPIVolume(fld, v.DownwardAPI) }},
		{"projected", v.Projected != nil, func(fld *field.Path) field.ErrorList { return projectedVolume(fld, v.Projected) }},
		{"persistentVolumeClaim", v.PersistentVolumeClaim != nil, func(fld *field.Path) field.ErrorList {
			return requireText(fld.Child("claimName"), v.PersistentVolumeClaim.ClaimName)
		}},
		{"ephemeral", v.Ephemeral != nil, func(fld *field.Path) field.ErrorList { return ephemeralVolume(fld, v.Ephemeral) }},
		{"image", v.Image != nil, func(fld *field.Path) field.ErrorList { return imageVolume(fld, v.Image, facts) }},
	}
	return oneSource(fld, append(local, storageSources(&v.VolumeSource)...))
}

func emptyDir(fld *field.Path, dir *corev1.EmptyDirVolumeSource) field.ErrorList {
	var errs field.ErrorList
	if dir.SizeLimit != nil && dir.SizeLimit.Sign() < 0 {
		errs = append(errs, field.Forbidden(fld.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
	}
	if size, ok := strings.CutPrefix(string(dir.Medium), string(corev1.StorageMediumHugePagesPrefix)); ok {
		if pages, err := resource.ParseQuantity(size); err != nil || pages.Sign() <= 0 {
			errs = append(errs, field.Invalid(fld.Child("medium"), dir.Medium, "must name the size of the pages, a positive quantity"))
		}
	} else {
		errs = append(errs, choice(fld.Child("medium"), dir.Medium,
			corev1.StorageMediumDefault, corev1.StorageMediumMemory, corev1.StorageMediumHugePages)...)
	}
	if dir.Mode != nil && (*dir.Mode < 0 || *dir.Mode > maxDirectoryMode) {
		errs = append(errs, field.Invalid(fld.Child("mode"), *dir.Mode, "must be a number between 0 and 01777 (octal), both inclusive"))
	}
	return errs
}

func hostPath(fld *field.Path, host *corev1.HostPathVolumeSource) field.ErrorList {
	errs := requireText(fld.Child("path"), host.Path)
	errs = append(errs, noBacksteps(fld.Child("path"), host.Path)...)
	return append(errs, optionalChoice(fld.Child("type"), host.Type,
		corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
		corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)...)
}

func gitRepo(fld *field.Path, repo *corev1.GitRepoVolumeSource) field.ErrorList {
	errs := requireText(fld.Child("repository"), repo.Repository)
	return append(errs, descendingPath(fld.Child("directory"), path.Clean(repo.Directory))...)
}

// imageVolume returns the faults of a volume made of an image. Templates may leave the
// reference out, for something else to fill in.
func imageVolume(fld *field.Path, image *corev1.ImageVolumeSource, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	if facts.isPod {
		errs = append(errs, requireText(fld.Child("reference"), image.Reference)...)
	}
	return append(errs, requireChoice(fld.Child("pullPolicy"), image.PullPolicy,
		corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
}
