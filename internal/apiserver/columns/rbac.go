package columns

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Roles have the library's own columns, name and creation time.
var (
	roleBindings = tableOf(func(b *rbacv1.RoleBinding, now time.Time) []any {
		return append([]any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, age(&b.ObjectMeta, now)}, subjects(b.Subjects)...)
	}, bindingColumns...)

	clusterRoleBindings = tableOf(func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
		return append([]any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, age(&b.ObjectMeta, now)}, subjects(b.Subjects)...)
	}, bindingColumns...)

	bindingColumns = []metav1.TableColumnDefinition{
		nameColumn, text("Role", rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"]), ageColumn,
		wide(text("Users", "Users in the binding")), wide(text("Groups", "Groups in the binding")), wide(text("ServiceAccounts", "ServiceAccounts in the binding")),
	}
)

// subjects are a binding's users, groups and accounts.
func subjects(list []rbacv1.Subject) []any {
	var users, groups, accounts []string
	for _, s := range list {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}
