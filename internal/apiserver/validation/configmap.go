package validation

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func configMapCreate(c *corev1.ConfigMap) field.ErrorList {
	return append(namespaced(&c.ObjectMeta, subdomainName), configMapRules(c)...)
}

func configMapUpdate(c, old *corev1.ConfigMap) field.ErrorList {
	errs := metadataUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if old.Immutable != nil && *old.Immutable {
		errs = append(errs, staysImmutable(c.Immutable)...)
		errs = append(errs, sealed("data", c.Data, old.Data)...)
		errs = append(errs, sealed("binaryData", c.BinaryData, old.BinaryData)...)
	}
	return append(errs, configMapRules(c)...)
}

// configMapRules requires valid keys, none in both maps, and values of 1 MiB together at most.
func configMapRules(c *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		fld := field.NewPath("data").Key(key)
		errs = append(errs, invalidFor(fld, key, validation.IsConfigMapKey(key))...)
		if _, both := c.BinaryData[key]; both {
			errs = append(errs, field.Invalid(fld, key, "duplicate of key present in binaryData"))
		}
		size += len(c.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(c.BinaryData)) {
		errs = append(errs, invalidFor(field.NewPath("binaryData").Key(key), key, validation.IsConfigMapKey(key))...)
		size += len(c.BinaryData[key])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(field.NewPath(""), "", corev1.MaxSecretSize))
	}
	return errs
}

// sealedMessage is why a ConfigMap or Secret that was declared immutable cannot change.
const sealedMessage = "field is immutable when `immutable` is set"

// staysImmutable refuses to take back the declaration.
func staysImmutable(now *bool) field.ErrorList {
	if now != nil && *now {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("immutable"), sealedMessage)}
}

// sealed refuses a change of the data in a field of an immutable object.
func sealed(name string, data, old any) field.ErrorList {
	if equality.Semantic.DeepEqual(data, old) {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath(name), sealedMessage)}
}
