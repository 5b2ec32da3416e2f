// Package environment makes the environment variables of a container from its
// spec, the ConfigMaps, Secrets and Services it may refer to, and the pod's own
// fields.
package environment

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ErrNotFound is what a Source returns for an object that does not exist.
var ErrNotFound = errors.New("not found")

// Source gives what variables refer to: objects of the pod's namespace, and files of
// its volumes.
type Source interface {
	// ConfigMap and Secret return the object, or an error that wraps ErrNotFound.
	ConfigMap(name string) (*corev1.ConfigMap, error)
	Secret(name string) (*corev1.Secret, error)

	// File returns the content of a file in a volume of the pod, or an error that
	// wraps ErrNotFound. It does not leave the volume, and refuses files that are
	// larger than MaxFile.
	File(volume, path string) ([]byte, error)
}

// Build returns the variables of a container, NAME=value, each name once:
// image's variables first, then those of services (see Services), then envFrom,
// then env, later ones replacing earlier ones. The error says which reference
// cannot be resolved.
func Build(pod *corev1.Pod, c *corev1.Container, image []string, services map[string]string, source Source, facts Facts) ([]string, error) {
	var names []string
	values := map[string]string{}
	set := func(name, value string) {
		if _, ok := values[name]; !ok {
			names = append(names, name)
		}
		values[name] = value
	}
	for _, variable := range image {
		name, value, _ := strings.Cut(variable, "=")
		set(name, value)
	}
	own := maps.Clone(services) // what $(NAME) may refer to: not the image's
	if own == nil {
		own = map[string]string{}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		set(name, services[name])
	}
	add := func(name, value string) {
		own[name] = value
		set(name, value)
	}
	for i := range c.EnvFrom {
		if err := envFrom(&c.EnvFrom[i], source, add); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		env := &c.Env[i]
		if env.ValueFrom == nil {
			add(env.Name, Expand(env.Value, lookupIn(own)))
			continue
		}
		value, ok, err := valueFrom(pod, c, env.ValueFrom, source, facts)
		if err != nil {
			return nil, err
		}
		if ok {
			add(env.Name, value)
		}
	}
	list := make([]string, 0, len(names))
	for _, name := range names {
		list = append(list, name+"="+values[name])
	}
	return list, nil
}

// Lookup returns a function that finds variables in a list of NAME=value.
func Lookup(env []string) func(string) (string, bool) {
	values := map[string]string{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	return lookupIn(values)
}

func lookupIn(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func envFrom(from *corev1.EnvFromSource, source Source, add func(name, value string)) error {
	data := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := source.ConfigMap(from.ConfigMapRef.Name)
		if missing(err, from.ConfigMapRef.Optional) {
			return nil
		}
		if err != nil {
			return err
		}
		maps.Copy(data, cm.Data)
	case from.SecretRef != nil:
		secret, err := source.Secret(from.SecretRef.Name)
		if missing(err, from.SecretRef.Optional) {
			return nil
		}
		if err != nil {
			return err
		}
		for key, value := range secret.Data {
			data[key] = string(value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if name := from.Prefix + key; !strings.ContainsAny(name, "=\x00") {
			add(name, data[key])
		}
	}
	return nil
}

func missing(err error, optional *bool) bool {
	return errors.Is(err, ErrNotFound) && optional != nil && *optional
}

func valueFrom(pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource, source Source, facts Facts) (string, bool, error) {
	switch {
	case from.FieldRef != nil:
		value, err := Field(pod, from.FieldRef.FieldPath, facts)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := Resource(pod, c, from.ResourceFieldRef, facts)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := source.ConfigMap(ref.Name)
		if missing(err, ref.Optional) {
			return "", false, nil
		}
		if err != nil {
			return "", false, err
		}
		value, ok := cm.Data[ref.Key]
		return value, ok, missingKey(ok, ref.Optional, "ConfigMap", pod.Namespace, ref.Name, ref.Key)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := source.Secret(ref.Name)
		if missing(err, ref.Optional) {
			return "", false, nil
		}
		if err != nil {
			return "", false, err
		}
		value, ok := secret.Data[ref.Key]
		return string(value), ok, missingKey(ok, ref.Optional, "Secret", pod.Namespace, ref.Name, ref.Key)
	case from.FileKeyRef != nil:
		return fileKey(from.FileKeyRef, source)
	}
	return "", false, nil
}

func missingKey(ok bool, optional *bool, kind, namespace, name, key string) error {
	if ok || optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}
