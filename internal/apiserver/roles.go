package apiserver

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"

	"windlass.dev/windlass/internal/apiserver/rbac"
)

// storedRoles are the roles and bindings as the watch caches have them.
type storedRoles struct{ clusterRoles, roles, clusterBindings, bindings resource }

var _ rbac.Source = storedRoles{}

func newStoredRoles(opened map[string]resource) storedRoles {
	return storedRoles{
		clusterRoles: opened["clusterroles"], roles: opened["roles"],
		clusterBindings: opened["clusterrolebindings"], bindings: opened["rolebindings"],
	}
}

// cached asks for what the watch cache has.
const cached = "0"

// ClusterRoleBindings implements rbac.Source.
func (s storedRoles) ClusterRoleBindings(ctx context.Context) ([]rbacv1.ClusterRoleBinding, error) {
	list, err := s.clusterBindings.List(request.WithNamespace(ctx, ""), &internalversion.ListOptions{ResourceVersion: cached})
	if err != nil {
		return nil, err
	}
	return list.(*rbacv1.ClusterRoleBindingList).Items, nil
}

// RoleBindings implements rbac.Source.
func (s storedRoles) RoleBindings(ctx context.Context, namespace string) ([]rbacv1.RoleBinding, error) {
	list, err := s.bindings.List(request.WithNamespace(ctx, namespace), &internalversion.ListOptions{ResourceVersion: cached})
	if err != nil {
		return nil, err
	}
	return list.(*rbacv1.RoleBindingList).Items, nil
}

// ClusterRoles implements rbac.Source.
func (s storedRoles) ClusterRoles(ctx context.Context) ([]rbacv1.ClusterRole, error) {
	list, err := s.clusterRoles.List(request.WithNamespace(ctx, ""), &internalversion.ListOptions{ResourceVersion: cached})
	if err != nil {
		return nil, err
	}
	return list.(*rbacv1.ClusterRoleList).Items, nil
}

// ClusterRole implements rbac.Source.
func (s storedRoles) ClusterRole(ctx context.Context, name string) (*rbacv1.ClusterRole, error) {
	found, err := s.clusterRoles.Get(request.WithNamespace(ctx, ""), name, &metav1.GetOptions{ResourceVersion: cached})
	if err != nil {
		return nil, err
	}
	return found.(*rbacv1.ClusterRole), nil
}

// Role implements rbac.Source.
func (s storedRoles) Role(ctx context.Context, namespace, name string) (*rbacv1.Role, error) {
	found, err := s.roles.Get(request.WithNamespace(ctx, namespace), name, &metav1.GetOptions{ResourceVersion: cached})
	if err != nil {
		return nil, err
	}
	return found.(*rbacv1.Role), nil
}
