package foresight

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Reference is a place in a pod template that names an object.
type Reference struct {
	Object
	Key      string // in its data, "" for the whole
	Optional bool
	Field    string
}

// References returns every Secret, ConfigMap, PersistentVolumeClaim and
// ServiceAccount that pods of a template need, in its order.
func References(template *corev1.PodTemplateSpec) []Reference {
	r := references{field: "spec.template.spec"}
	spec := &template.Spec
	if name := spec.ServiceAccountName; name != "" && name != "default" {
		r.add("ServiceAccount", name, "", nil, ".serviceAccountName")
	}
	for i, secret := range spec.ImagePullSecrets {
		r.add("Secret", secret.Name, "", ptr.To(true), fmt.Sprintf(".imagePullSecrets[%d]", i))
	}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for i := range list.containers {
			r.container(&list.containers[i], fmt.Sprintf(".%s[%s]", list.name, list.containers[i].Name))
		}
	}
	for i := range spec.Volumes {
		r.volume(&spec.Volumes[i], fmt.Sprintf(".volumes[%s]", spec.Volumes[i].Name))
	}
	return r.found
}

type references struct {
	field string
	found []Reference
}

func (r *references) add(kind, name, key string, optional *bool, field string) {
	r.found = append(r.found, Reference{Object: Object{kind, name}, Key: key, Optional: ptr.Deref(optional, false), Field: r.field + field})
}

func (r *references) container(c *corev1.Container, at string) {
	for i, from := range c.EnvFrom {
		field := fmt.Sprintf("%s.envFrom[%d]", at, i)
		if m := from.ConfigMapRef; m != nil {
			r.add("ConfigMap", m.Name, "", m.Optional, field+".configMapRef")
		}
		if s := from.SecretRef; s != nil {
			r.add("Secret", s.Name, "", s.Optional, field+".secretRef")
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		field := fmt.Sprintf("%s.env[%s].valueFrom", at, env.Name)
		if m := env.ValueFrom.ConfigMapKeyRef; m != nil {
			r.add("ConfigMap", m.Name, m.Key, m.Optional, field+".configMapKeyRef")
		}
		if s := env.ValueFrom.SecretKeyRef; s != nil {
			r.add("Secret", s.Name, s.Key, s.Optional, field+".secretKeyRef")
		}
	}
}

func (r *references) volume(v *corev1.Volume, at string) {
	if s := v.Secret; s != nil {
		r.files("Secret", s.SecretName, s.Items, s.Optional, at+".secret")
	}
	if m := v.ConfigMap; m != nil {
		r.files("ConfigMap", m.Name, m.Items, m.Optional, at+".configMap")
	}
	if c := v.PersistentVolumeClaim; c != nil {
		r.add("PersistentVolumeClaim", c.ClaimName, "", nil, at+".persistentVolumeClaim")
	}
	if v.Projected == nil {
		return
	}
	for i, source := range v.Projected.Sources {
		field := fmt.Sprintf("%s.projected.sources[%d]", at, i)
		if s := source.Secret; s != nil {
			r.files("Secret", s.Name, s.Items, s.Optional, field+".secret")
		}
		if m := source.ConfigMap; m != nil {
			r.files("ConfigMap", m.Name, m.Items, m.Optional, field+".configMap")
		}
	}
}

// files adds an object that becomes files: all of its keys, or those named.
func (r *references) files(kind, name string, items []corev1.KeyToPath, optional *bool, field string) {
	if len(items) == 0 {
		r.add(kind, name, "", optional, field)
	}
	for _, item := range items {
		r.add(kind, name, item.Key, optional, field)
	}
}

// missingObjects finds what the pods refer to and is not there. An object is told
// once, with the first field that names it; so is a key.
func missingObjects(facts *Facts) (blocks, warnings []Finding) {
	type place struct {
		Object
		key string
	}
	told := map[place]bool{}
	for _, ref := range References(&facts.After.Spec.Template) {
		found, looked := facts.Found[ref.Object]
		pull := isPullSecret(ref)
		if !looked || ref.Optional && !pull || found.Presence == Present && (ref.Key == "" || slices.Contains(found.Keys, ref.Key)) {
			continue
		}
		at := place{Object: ref.Object}
		if found.Presence == Present {
			at.key = ref.Key
		}
		if told[at] {
			continue
		}
		told[at] = true
		f := missing(ref, found)
		switch {
		case pull && found.Presence == Absent:
			f.What += ": images are pulled without it"
			f.Mend = "create it, if the registry asks for it"
			warnings = append(warnings, f)
		case pull, found.Presence == Unknown:
			warnings = append(warnings, f)
		default:
			blocks = append(blocks, f)
		}
	}
	return blocks, warnings
}

// missing says what is wrong with a reference.
func missing(ref Reference, found Found) Finding {
	f := Finding{Field: ref.Field, Value: ref.Name}
	what := fmt.Sprintf("%s %s", ref.Kind, ref.Name)
	mayBeOptional := ref.Kind == "Secret" || ref.Kind == "ConfigMap"
	switch {
	case found.Presence == Present:
		f.What, f.Mend = fmt.Sprintf("%s has no key %q", what, ref.Key), "add the key"
	case found.Presence == Absent:
		f.What, f.Mend = what+" does not exist", "create it"
	case found.Presence == Unserved:
		f.What, f.Mend = fmt.Sprintf("%s cannot be had: this cluster has no %ss", what, ref.Kind), "use a volume of another kind"
		return f
	default:
		f.What = fmt.Sprintf("whether %s exists could not be found out: %s", what, found.Why)
		return f
	}
	if mayBeOptional {
		f.Mend += ", or mark the reference optional"
	}
	return f
}

// isPullSecret says whether a reference is to the credentials of a registry.
// Nothing but a pull fails without them.
func isPullSecret(ref Reference) bool {
	const place = "spec.template.spec.imagePullSecrets"
	return len(ref.Field) > len(place) && ref.Field[:len(place)] == place
}
