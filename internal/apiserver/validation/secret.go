package validation

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func secretCreate(s *corev1.Secret) field.ErrorList {
	return append(namespaced(&s.ObjectMeta, subdomainName), secretRules(s)...)
}

func secretUpdate(s, old *corev1.Secret) field.ErrorList {
	errs := metadataUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, immutable(field.NewPath("type"), s.Type, old.Type)...)
	if old.Immutable != nil && *old.Immutable {
		errs = append(errs, staysImmutable(s.Immutable)...)
		errs = append(errs, sealed("data", s.Data, old.Data)...)
	}
	return append(errs, secretRules(s)...)
}

// secretRules requires valid keys, values of 1 MiB together at most, and what the type demands.
// No message repeats a value.
func secretRules(s *corev1.Secret) field.ErrorList {
	var errs field.ErrorList
	data, size := field.NewPath("data"), 0
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		errs = append(errs, invalidFor(data.Key(key), key, validation.IsConfigMapKey(key))...)
		size += len(s.Data[key])
	}
	if size > corev1.MaxSecretSize {
		errs = append(errs, field.TooLong(data, "", corev1.MaxSecretSize))
	}
	return append(errs, secretType(data, s)...)
}

func secretType(data *field.Path, s *corev1.Secret) field.ErrorList {
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		return requireText(metadataPath.Child("annotations").Key(corev1.ServiceAccountNameKey), s.Annotations[corev1.ServiceAccountNameKey])
	case corev1.SecretTypeDockercfg:
		return requireJSON(data, s.Data, corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		return requireJSON(data, s.Data, corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			return requireKeys(data, s.Data, corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		if len(s.Data[corev1.SSHAuthPrivateKey]) == 0 {
			return field.ErrorList{field.Required(data.Key(corev1.SSHAuthPrivateKey), "")}
		}
	case corev1.SecretTypeTLS:
		return requireKeys(data, s.Data, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return nil
}

// requireKeys requires keys to be there; their values may be empty.
func requireKeys(fld *field.Path, data map[string][]byte, keys ...string) field.ErrorList {
	var errs field.ErrorList
	for _, key := range keys {
		if _, there := data[key]; !there {
			errs = append(errs, field.Required(fld.Key(key), ""))
		}
	}
	return errs
}

// requireJSON requires a key whose value is a JSON object.
func requireJSON(fld *field.Path, data map[string][]byte, key string) field.ErrorList {
	value, there := data[key]
	if !there {
		return field.ErrorList{field.Required(fld.Key(key), "")}
	}
	if err := json.Unmarshal(value, &map[string]any{}); err != nil {
		return field.ErrorList{field.Invalid(fld.Key(key), "<secret contents redacted>", err.Error())}
	}
	return nil
}
