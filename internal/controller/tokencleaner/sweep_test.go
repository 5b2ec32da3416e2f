package tokencleaner

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestSweep: tokens go an hour after they have ended; what has not, never ends, or
// is no token that can be read stays.
func TestSweep(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	secret := func(id string, ends time.Time) *corev1.Secret {
		s := &corev1.Secret{Type: corev1.SecretTypeBootstrapToken, Data: map[string][]byte{}}
		s.Namespace, s.Name = "kube-system", "bootstrap-token-"+id
		if !ends.IsZero() {
			s.Data["expiration"] = []byte(ends.Format(time.RFC3339))
		}
		return s
	}
	damaged := secret("damage", now.Add(-48*time.Hour))
	damaged.Data["expiration"] = []byte("yesterday")
	other := secret("other0", now.Add(-48*time.Hour))
	other.Type = corev1.SecretTypeOpaque
	c := fake.NewClientBuilder().WithObjects(
		secret("longer", now.Add(time.Minute)), secret("always", time.Time{}), secret("recent", now.Add(-59*time.Minute)), secret("hour00", now.Add(-time.Hour)),
		secret("older0", now.Add(-48*time.Hour)), damaged, other,
	).WithIndex(&corev1.Secret{}, "type", func(o client.Object) []string { return []string{string(o.(*corev1.Secret).Type)} }).Build()
	if err := (sweeper{reader: c, writer: c}).sweep(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	var left corev1.SecretList
	if err := c.List(t.Context(), &left); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range left.Items {
		names = append(names, strings.TrimPrefix(s.Name, "bootstrap-token-"))
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "always damage longer other0 recent" {
		t.Errorf("left are %s", got)
	}
}
