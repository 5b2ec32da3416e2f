package defaults

import (
	corev1 "k8s.io/api/core/v1"
)

// namespace labels a Namespace with its name, so that selectors can choose by it.
// One with a generated name has it from the first time it is read back.
func namespace(n *corev1.Namespace) {
	if n.Name == "" {
		return
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

// node lets pods have all of a Node's capacity, unless it says what they may have.
func node(n *corev1.Node) {
	milli(n.Status.Capacity)
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	milli(n.Status.Allocatable)
}

func secret(s *corev1.Secret) {
	orElse(&s.Type, corev1.SecretTypeOpaque)
}
