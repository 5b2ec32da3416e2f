package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func serviceAccountCreate(a *corev1.ServiceAccount) field.ErrorList {
	return namespaced(&a.ObjectMeta, subdomainName)
}

func serviceAccountUpdate(a, old *corev1.ServiceAccount) field.ErrorList {
	return metadataUpdate(&a.ObjectMeta, &old.ObjectMeta)
}
