package volume

import corev1 "k8s.io/api/core/v1"

// Kind is a kind of object that volumes are made of.
type Kind string

// The kinds.
const (
	ConfigMap Kind = "ConfigMap"
	Secret    Kind = "Secret"
)

// Material is an object that a volume is made of.
type Material struct {
	Kind            Kind
	Namespace, Name string
}

// Materials returns the objects that a pod's volumes are made of.
func Materials(pod *corev1.Pod) map[Material]bool {
	materials := map[Material]bool{}
	add := func(kind Kind, name string) { materials[Material{kind, pod.Namespace, name}] = true }
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.ConfigMap != nil:
			add(ConfigMap, v.ConfigMap.Name)
		case v.Secret != nil:
			add(Secret, v.Secret.SecretName)
		case v.Projected != nil:
			for j := range v.Projected.Sources {
				switch s := &v.Projected.Sources[j]; {
				case s.ConfigMap != nil:
					add(ConfigMap, s.ConfigMap.Name)
				case s.Secret != nil:
					add(Secret, s.Secret.Name)
				}
			}
		}
	}
	return materials
}

// Follows returns whether a volume of the pod follows what it is made of.
func Follows(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if Projected(&pod.Spec.Volumes[i]) {
			return true
		}
	}
	return false
}

// Downward returns whether a volume of the pod tells of the pod itself.
func Downward(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.DownwardAPI != nil {
			return true
		}
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if v.Projected.Sources[j].DownwardAPI != nil {
				return true
			}
		}
	}
	return false
}
