package columns

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
)

// The kinds of which there is little to say.
var (
	namespaces = tableOf(func(n *corev1.Namespace, now time.Time) []any {
		return []any{n.Name, string(n.Status.Phase), age(&n.ObjectMeta, now)}
	}, nameColumn, text("Status", "The status of the namespace"), ageColumn)

	configMaps = tableOf(func(c *corev1.ConfigMap, now time.Time) []any {
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), age(&c.ObjectMeta, now)}
	}, nameColumn, text("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]), ageColumn)

	secrets = tableOf(func(s *corev1.Secret, now time.Time) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), age(&s.ObjectMeta, now)}
	}, nameColumn, text("Type", corev1.Secret{}.SwaggerDoc()["type"]), text("Data", corev1.Secret{}.SwaggerDoc()["data"]), ageColumn)

	// Since Kubernetes 1.35 the number of secrets of an account is not printed, because
	// accounts no longer get any.
	serviceAccounts = tableOf(func(a *corev1.ServiceAccount, now time.Time) []any {
		return []any{a.Name, age(&a.ObjectMeta, now)}
	}, nameColumn, ageColumn)

	leases = tableOf(func(l *coordinationv1.Lease, now time.Time) []any {
		holder := ""
		if l.Spec.HolderIdentity != nil {
			holder = *l.Spec.HolderIdentity
		}
		return []any{l.Name, holder, age(&l.ObjectMeta, now)}
	}, nameColumn, text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), ageColumn)
)
