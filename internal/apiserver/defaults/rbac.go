package defaults

import rbacv1 "k8s.io/api/rbac/v1"

func roleBinding(b *rbacv1.RoleBinding) { roleRef(&b.RoleRef, b.Subjects) }

func clusterRoleBinding(b *rbacv1.ClusterRoleBinding) { roleRef(&b.RoleRef, b.Subjects) }

// roleRef fills in the group of a role, and of subjects that are no accounts.
func roleRef(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		if s := &subjects[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}
