package tokencleaner

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"windlass.dev/windlass/internal/controller/loop"
)

const (
	// period is how often the tokens are swept: Secrets are not cached, and so
	// not watched.
	period = 10 * time.Minute

	// remembered is how long a token is kept that has ended.
	remembered = time.Hour

	// expiration is the key in a token's Secret of when it ends, as
	// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/ has it.
	expiration = "expiration"
)

// Setup adds the sweeper to a manager; it runs once the manager starts.
func Setup(mgr ctrl.Manager) error {
	s := sweeper{reader: mgr.GetAPIReader(), writer: mgr.GetClient()}
	return loop.Every(mgr, period, "Sweep join tokens", s.sweep)
}

type sweeper struct {
	reader client.Reader
	writer client.Client
}

// sweep is one look.
func (s sweeper) sweep(ctx context.Context, now time.Time) error {
	var secrets corev1.SecretList
	if err := s.reader.List(ctx, &secrets, client.InNamespace(metav1.NamespaceSystem), client.MatchingFields{"type": string(corev1.SecretTypeBootstrapToken)}); err != nil {
		return fmt.Errorf("list the tokens: %w", err)
	}
	var failed []error
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		ends, err := time.Parse(time.RFC3339, string(secret.Data[expiration]))
		if err != nil || now.Before(ends.Add(remembered)) { // it does not end, or nobody knows when
			continue
		}
		log.FromContext(ctx).Info("Deleting a join token that has ended", "secret", secret.Name, "ended", ends.UTC().Format(time.RFC3339))
		must := client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion} // it may have been given more time
		if err := s.writer.Delete(ctx, secret, must); client.IgnoreNotFound(err) != nil {
			failed = append(failed, fmt.Errorf("delete token %s: %w", secret.Name, err))
		}
	}
	return errors.Join(failed...)
}
