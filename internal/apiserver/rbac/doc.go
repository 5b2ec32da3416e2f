// Package rbac decides by roles and bindings what a user may do, as Kubernetes
// documents it (https://kubernetes.io/docs/reference/access-authn-authz/rbac/).
package rbac
