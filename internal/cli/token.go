package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/pki"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create, list and revoke the tokens by which machines join",
		Long: `Create, list and revoke the tokens by which machines join the cluster.

Tokens are Secrets in kube-system, as Kubernetes keeps its bootstrap tokens. A
machine that has joined needs its token no more.`,
	}
	c := clusterFlags(cmd)
	cmd.AddCommand(newTokenCreate(c), newTokenList(c), newTokenRevoke(c))
	return cmd
}

func newTokenCreate(c *cluster) *cobra.Command {
	var description string
	life := 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a token and print it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if life < 0 {
				return fmt.Errorf("--ttl %s: give a duration such as 24h, or 0 for a token that does not end", life)
			}
			conn, err := c.connect()
			if err != nil {
				return err
			}
			token, err := createToken(cmd.Context(), conn, description, life, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), token)
			return nil
		},
	}
	cmd.Flags().DurationVar(&life, "ttl", life, "how long machines may join with it; 0 is for ever")
	cmd.Flags().StringVar(&description, "description", "", "what it is for, shown by `windlass token list`")
	return cmd
}

func createToken(ctx context.Context, conn *connection, description string, life time.Duration, now time.Time) (join.Token, error) {
	authority, err := authorityOf(conn.config)
	if err != nil {
		return join.Token{}, err
	}
	hash, err := pki.HashPEM(authority)
	if err != nil {
		return join.Token{}, fmt.Errorf("the cluster's certificate-authority in the kubeconfig: %w", err)
	}
	token, err := join.NewToken(hash)
	if err != nil {
		return join.Token{}, err
	}
	var ends time.Time
	if life > 0 {
		ends = now.Add(life)
	}
	if err := conn.client.Create(ctx, join.SecretOf(token, description, ends)); err != nil {
		return join.Token{}, fmt.Errorf("keep the token in the cluster: %w", err)
	}
	return token, nil
}

// authorityOf returns the certificate that a kubeconfig trusts, in PEM.
func authorityOf(config *rest.Config) ([]byte, error) {
	if len(config.CAData) > 0 {
		return config.CAData, nil
	}
	if config.CAFile == "" {
		return nil, errors.New("the kubeconfig names no certificate-authority of the cluster, and a token carries its hash: use the server's own, DIR/kubeconfig")
	}
	return os.ReadFile(config.CAFile)
}

func newTokenList(c *cluster) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := c.connect()
			if err != nil {
				return err
			}
			var secrets corev1.SecretList
			if err := conn.client.List(cmd.Context(), &secrets, client.InNamespace(metav1.NamespaceSystem), client.MatchingFields{"type": string(join.SecretType)}); err != nil {
				return fmt.Errorf("list the tokens: %w", err)
			}
			return printTokens(cmd.OutOrStdout(), secrets.Items, time.Now())
		},
	}
}

// printTokens prints a table of tokens, the one that ends first at the top.
func printTokens(out io.Writer, secrets []corev1.Secret, now time.Time) error {
	var tokens []join.Kept
	var unreadable error
	for i := range secrets {
		kept, err := join.ReadSecret(&secrets[i])
		if err != nil {
			unreadable = errors.Join(unreadable, err)
			continue
		}
		tokens = append(tokens, kept)
	}
	slices.SortFunc(tokens, func(a, b join.Kept) int {
		if a.Ends.IsZero() != b.Ends.IsZero() {
			return map[bool]int{true: 1, false: -1}[a.Ends.IsZero()]
		}
		return cmp.Or(a.Ends.Compare(b.Ends), strings.Compare(a.ID, b.ID))
	})
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tENDS\tDESCRIPTION")
	for _, token := range tokens {
		ends := "never"
		switch {
		case token.Ended(now):
			ends = "ended"
		case !token.Ends.IsZero():
			ends = "in " + duration.HumanDuration(token.Ends.Sub(now))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", token.ID, ends, token.Description)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := table.WriteTo(out)
	return errors.Join(err, unreadable)
}

func newTokenRevoke(c *cluster) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID...",
		Short: "Revoke tokens: no machine joins with them any more",
		Long: `Revoke tokens, given by their ids or whole: no machine joins with them any more.
Machines that have joined stay; ` + "`kubectl delete node NAME`" + ` takes one out.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := c.connect()
			if err != nil {
				return err
			}
			var failed error
			for _, arg := range args {
				id := tokenID(arg)
				secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: join.SecretName(id)}}
				switch err := conn.client.Delete(cmd.Context(), secret); {
				case err == nil:
					fmt.Fprintf(cmd.OutOrStdout(), "token %s revoked\n", id)
				case apierrors.IsNotFound(err):
					failed = errors.Join(failed, fmt.Errorf("no token %s: `windlass token list` shows those that there are", id))
				default:
					failed = errors.Join(failed, fmt.Errorf("revoke token %s: %w", id, err))
				}
			}
			return failed
		},
	}
}

// tokenID returns the id of a token that is given by it or whole.
func tokenID(text string) string {
	if token, err := join.ParseToken(text); err == nil {
		return token.ID
	}
	id, _, _ := strings.Cut(text, ".")
	return id
}
