package validation

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func roleCreate(r *rbacv1.Role) field.ErrorList {
	return append(namespaced(&r.ObjectMeta, pathName), policyRules(r.Rules, true)...)
}

func roleUpdate(r, old *rbacv1.Role) field.ErrorList {
	return append(metadataUpdate(&r.ObjectMeta, &old.ObjectMeta), policyRules(r.Rules, true)...)
}

func clusterRoleCreate(r *rbacv1.ClusterRole) field.ErrorList {
	return append(clusterWide(&r.ObjectMeta, pathName), clusterRole(r)...)
}

func clusterRoleUpdate(r, old *rbacv1.ClusterRole) field.ErrorList {
	return append(metadataUpdate(&r.ObjectMeta, &old.ObjectMeta), clusterRole(r)...)
}

func clusterRole(r *rbacv1.ClusterRole) field.ErrorList {
	errs := policyRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	at := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		errs = append(errs, metav1validation.ValidateLabelSelector(&r.AggregationRule.ClusterRoleSelectors[i], metav1validation.LabelSelectorValidationOptions{}, at.Index(i))...)
	}
	return errs
}

func policyRules(rules []rbacv1.PolicyRule, inNamespace bool) (errs field.ErrorList) {
	for i := range rules {
		errs = append(errs, policyRule(&rules[i], inNamespace, field.NewPath("rules").Index(i))...)
	}
	return errs
}

func policyRule(rule *rbacv1.PolicyRule, inNamespace bool, at *field.Path) (errs field.ErrorList) {
	if len(rule.Verbs) == 0 {
		errs = append(errs, field.Required(at.Child("verbs"), "verbs must contain at least one value"))
	}
	if len(rule.NonResourceURLs) > 0 {
		if inNamespace {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(rule.APIGroups) == 0 {
		errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(rule.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}

func roleBindingCreate(b *rbacv1.RoleBinding) field.ErrorList {
	return append(namespaced(&b.ObjectMeta, pathName), binding(b.RoleRef, b.Subjects, true)...)
}

func roleBindingUpdate(b, old *rbacv1.RoleBinding) field.ErrorList {
	errs := append(metadataUpdate(&b.ObjectMeta, &old.ObjectMeta), binding(b.RoleRef, b.Subjects, true)...)
	return append(errs, sameRole(b.RoleRef, old.RoleRef)...)
}

func clusterRoleBindingCreate(b *rbacv1.ClusterRoleBinding) field.ErrorList {
	return append(clusterWide(&b.ObjectMeta, pathName), binding(b.RoleRef, b.Subjects, false)...)
}

func clusterRoleBindingUpdate(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
	errs := append(metadataUpdate(&b.ObjectMeta, &old.ObjectMeta), binding(b.RoleRef, b.Subjects, false)...)
	return append(errs, sameRole(b.RoleRef, old.RoleRef)...)
}

func sameRole(ref, old rbacv1.RoleRef) field.ErrorList {
	if ref == old {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), ref, "cannot change roleRef")}
}

func binding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, inNamespace bool) (errs field.ErrorList) {
	at := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	kinds := []string{"ClusterRole"}
	if inNamespace {
		kinds = []string{"Role", "ClusterRole"}
	}
	if ref.Kind != "ClusterRole" && (ref.Kind != "Role" || !inNamespace) {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		for _, fault := range pathName(ref.Name, false) {
			errs = append(errs, field.Invalid(at.Child("name"), ref.Name, fault))
		}
	}
	for i := range subjects {
		errs = append(errs, subject(&subjects[i], inNamespace, field.NewPath("subjects").Index(i))...)
	}
	return errs
}

func subject(s *rbacv1.Subject, inNamespace bool, at *field.Path) (errs field.ErrorList) {
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			for _, fault := range apivalidation.ValidateServiceAccountName(s.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), s.Name, fault))
			}
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !inNamespace && strings.TrimSpace(s.Namespace) == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}
