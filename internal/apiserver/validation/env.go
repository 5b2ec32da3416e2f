package validation

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxEnvFileKey is the longest key, in bytes, that may be read from an env file.
const maxEnvFileKey = 128

// environment returns the faults of a container's environment variables.
func environment(fld *field.Path, vars []corev1.EnvVar, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	for i, v := range vars {
		errs = append(errs, requireFormat(fld.Index(i).Child("name"), v.Name, validation.IsRelaxedEnvVarName)...)
		if v.ValueFrom != nil {
			errs = append(errs, variableSource(fld.Index(i).Child("valueFrom"), v, facts)...)
		}
	}
	return errs
}

func variableSource(fld *field.Path, v corev1.EnvVar, facts podFacts) field.ErrorList {
	var errs field.ErrorList
	sources := 0
	if ref := v.ValueFrom.FieldRef; ref != nil {
		sources++
		errs = append(errs, podField(fld.Child("fieldRef"), ref, environmentFields)...)
	}
	if ref := v.ValueFrom.ResourceFieldRef; ref != nil {
		sources++
		errs = append(errs, resourceField(fld.Child("resourceFieldRef"), ref)...)
	}
	if ref := v.ValueFrom.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, objectKey(fld.Child("configMapKeyRef"), ref.Name, ref.Key)...)
	}
	if ref := v.ValueFrom.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, objectKey(fld.Child("secretKeyRef"), ref.Name, ref.Key)...)
	}
	if ref := v.ValueFrom.FileKeyRef; ref != nil {
		sources++
		errs = append(errs, fileKey(fld.Child("fileKeyRef"), ref, facts)...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(fld, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(fld, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(fld, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// objectKey returns the faults of a reference to a key of a ConfigMap or Secret.
func objectKey(fld *field.Path, name, key string) field.ErrorList {
	errs := requireText(fld.Child("name"), name)
	return append(errs, requireFormat(fld.Child("key"), key, validation.IsConfigMapKey)...)
}

// fileKey returns the faults of a reference to a variable in a file of an emptyDir volume.
func fileKey(fld *field.Path, ref *corev1.FileKeySelector, facts podFacts) field.ErrorList {
	errs := requireText(fld.Child("volumeName"), ref.VolumeName)
	if ref.VolumeName != "" {
		if source, ok := facts.volumes[ref.VolumeName]; !ok {
			errs = append(errs, field.NotFound(fld.Child("volumeName"), ref.VolumeName))
		} else if source.EmptyDir == nil {
			errs = append(errs, field.Invalid(fld.Child("volumeName"), ref.VolumeName, "must be the name of an emptyDir volume"))
		}
	}
	errs = append(errs, filePath(fld.Child("path"), ref.Path)...)
	errs = append(errs, requireFormat(fld.Child("key"), ref.Key, validation.IsRelaxedEnvVarName)...)
	if len(ref.Key) > maxEnvFileKey {
		errs = append(errs, field.TooLong(fld.Child("key"), ref.Key, maxEnvFileKey))
	}
	return errs
}

// environmentSources returns the faults of the objects whose every key becomes a variable.
func environmentSources(fld *field.Path, sources []corev1.EnvFromSource) field.ErrorList {
	var errs field.ErrorList
	for i, source := range sources {
		at := fld.Index(i)
		errs = append(errs, optionalFormat(at.Child("prefix"), source.Prefix, validation.IsRelaxedEnvVarName)...)
		if ref := source.ConfigMapRef; ref != nil {
			errs = append(errs, requireText(at.Child("configMapRef", "name"), ref.Name)...)
		}
		if ref := source.SecretRef; ref != nil {
			errs = append(errs, requireText(at.Child("secretRef", "name"), ref.Name)...)
		}
		switch {
		case source.ConfigMapRef == nil && source.SecretRef == nil:
			errs = append(errs, field.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
		case source.ConfigMapRef != nil && source.SecretRef != nil:
			errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// The fields of a pod that a variable, and a file, may be made of. Labels and annotations
// with a key in brackets may be had by both.
var (
	environmentFields = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	fileFields = []string{
		"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
	}
)

// podField returns the faults of a reference to a field of the pod itself.
func podField(fld *field.Path, ref *corev1.ObjectFieldSelector, allowed []string) field.ErrorList {
	if errs := append(requireText(fld.Child("apiVersion"), ref.APIVersion), requireText(fld.Child("fieldPath"), ref.FieldPath)...); len(errs) > 0 {
		return errs
	}
	at := fld.Child("fieldPath")
	if ref.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(fld.Child("apiVersion"), ref.APIVersion, "unsupported pod version: "+ref.APIVersion)}
	}
	base, key, ok := subscripted(ref.FieldPath)
	switch {
	case !ok && slices.Contains(allowed, ref.FieldPath):
		return nil
	case !ok && !slices.Contains(environmentFields, ref.FieldPath) && !slices.Contains(fileFields, ref.FieldPath):
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: field label not supported: "+ref.FieldPath)}
	case !ok:
		return field.ErrorList{field.NotSupported(at, ref.FieldPath, allowed)}
	case base == "metadata.labels":
		return invalidFor(at, key, validation.IsQualifiedName(key))
	case base == "metadata.annotations":
		return invalidFor(at, key, validation.IsQualifiedName(strings.ToLower(key)))
	}
	return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: field label does not support subscript: "+ref.FieldPath)}
}

// subscripted splits a path such as metadata.labels['app'] into the path and the key.
func subscripted(path string) (base, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return path, "", false
	}
	base, key, ok = strings.Cut(rest, "['")
	if !ok || base == "" {
		return path, "", false
	}
	return base, key, true
}

// The units in which each resource of a container may be told to it.
var (
	cpuDivisors  = sets.New("1m", "1")
	byteDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

var resourceFields = []string{
	"limits.cpu", "limits.ephemeral-storage", "limits.memory",
	"requests.cpu", "requests.ephemeral-storage", "requests.memory",
}

// resourceField returns the faults of a reference to a resource of a container.
func resourceField(fld *field.Path, ref *corev1.ResourceFieldSelector) field.ErrorList {
	if ref.Resource == "" {
		return field.ErrorList{field.Required(fld.Child("resource"), "")}
	}
	_, name, _ := strings.Cut(ref.Resource, ".")
	isHugePages := strings.HasPrefix(ref.Resource, "limits.hugepages-") || strings.HasPrefix(ref.Resource, "requests.hugepages-")
	if !isHugePages && !slices.Contains(resourceFields, ref.Resource) {
		return field.ErrorList{field.NotSupported(fld.Child("resource"), ref.Resource, resourceFields)}
	}
	divisor := ref.Divisor.String()
	switch {
	case ref.Divisor.IsZero():
		return nil
	case name == "cpu" && !cpuDivisors.Has(divisor):
		return field.ErrorList{field.Invalid(fld.Child("divisor"), divisor, "only divisor's values 1m and 1 are supported with the cpu resource")}
	case name != "cpu" && !slices.Contains(byteDivisors, divisor):
		kind := name
		switch {
		case isHugePages:
			kind = "hugepages"
		case name == string(corev1.ResourceEphemeralStorage):
			kind = "local ephemeral storage"
		}
		return field.ErrorList{field.Invalid(fld.Child("divisor"), divisor,
			"only divisor's values "+strings.Join(byteDivisors, ", ")+" are supported with the "+kind+" resource")}
	}
	return nil
}
