package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"

	"windlass.dev/windlass/internal/condition"
	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/pki"
)

const (
	// nodeCertificateLife is how long the certificate of a node is good, if
	// Config does not say.
	nodeCertificateLife = 365 * 24 * time.Hour

	// claimedFor is how long a name is the machine's that joined by it, whatever the
	// Node says: its agent has that long to say that it lives.
	claimedFor = 40 * time.Second

	// mostSkew is how far the clock of a machine that joins may be from the server's:
	// it would find certificates and tokens to be not good yet, or no more.
	mostSkew = 30 * time.Second

	// joinLimit bounds the body of a request to join, in bytes.
	joinLimit = 64 << 10
)

// joiner answers machines that want to be nodes: who has a token gets a
// certificate for a name that no live node has; who has a certificate gets the
// next one. Anybody may ask.
type joiner struct {
	config         Config
	members        *memberships
	claims         *claims
	secrets, nodes *registry.Store
}

// claims are the names by which machines have joined a moment ago.
type claims struct {
	mu   sync.Mutex
	made map[string]claim // by node
}

type claim struct {
	uid     types.UID
	address netip.Addr
	at      time.Time
}

// take gives a name to the machine at an address, for the Node with a UID. It fails
// when another machine has just taken it.
func (c *claims) take(node string, uid types.UID, address netip.Addr, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		c.made = map[string]claim{}
	}
	if had, ok := c.made[node]; ok && had.uid == uid && had.address != address && now.Sub(had.at) < claimedFor {
		return conflict("a machine with the address %s has joined as node %s %s ago: give this one another --node-name", had.address, node, now.Sub(had.at).Round(time.Second))
	}
	c.made[node] = claim{uid, address, now}
	return nil
}

// ServeHTTP implements http.Handler.
func (j joiner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, answer := http.StatusOK, join.Answer{Cluster: j.config.Cluster}
	certificate, err := j.answer(r)
	switch reason := apierrors.APIStatus(nil); {
	case err == nil:
		answer.Certificate = certificate
	case isStatus(err, &reason):
		status, answer.Refused = int(reason.Status().Code), reason.Status().Message
		answer.Revoked = reason.Status().Reason == join.ReasonRevoked
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // who has gone asks again
}

func isStatus(err error, into *apierrors.APIStatus) bool {
	status, ok := err.(apierrors.APIStatus) //nolint:errorlint // made here
	*into = status
	return ok
}

// answer returns the certificate that a request asks for; errors that are the
// requester's are API statuses.
func (j joiner) answer(r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		return nil, apierrors.NewMethodNotSupported(corev1.Resource("nodes"), r.Method)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, joinLimit))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	var asked join.Request
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the request to join cannot be read: %v", err))
	}
	if problems := validation.IsDNS1123Subdomain(asked.Node); len(problems) > 0 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("node name %q: %s (give one with --node-name)", asked.Node, strings.Join(problems, "; ")))
	}
	if err := j.admit(r, asked); err != nil {
		return nil, err
	}
	if err := j.checkAddress(r.Context(), asked); err != nil {
		return nil, err
	}
	uid, err := j.members.admit(r.Context(), asked.Node, asked.Token != "")
	if apierrors.IsNotFound(err) {
		return nil, revoked(fmt.Sprintf("node %s was deleted", asked.Node))
	}
	if err != nil {
		return nil, err
	}
	if asked.Token != "" {
		if err := j.claims.take(asked.Node, uid, asked.Address, time.Now()); err != nil {
			return nil, err
		}
	}
	certificate, err := j.config.Authority.SignNode(asked.Certificate, asked.Node, uid, asked.Address, j.config.NodeCertificateLife)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return certificate, nil
}

// admit says whether a requester may be the node that it wants to be.
func (j joiner) admit(r *http.Request, asked join.Request) error {
	if asked.Token == "" {
		user, ok := request.UserFrom(r.Context())
		if !ok || user.GetName() != pki.NodeUser(asked.Node) {
			return apierrors.NewUnauthorized(fmt.Sprintf("without a token only node %s itself gets its certificate, by the one that it has; join anew with --token", asked.Node))
		}
		why, err := j.members.revoked(r.Context(), asked.Node, user)
		if err != nil {
			return err
		}
		if why != "" {
			return revoked(why)
		}
		return nil
	}
	token, err := join.ParseToken(asked.Token)
	if err != nil {
		return apierrors.NewUnauthorized(err.Error())
	}
	var secret *corev1.Secret
	found, err := j.secrets.Get(request.WithNamespace(r.Context(), metav1.NamespaceSystem), join.SecretName(token.ID), &metav1.GetOptions{})
	switch {
	case err == nil:
		secret = found.(*corev1.Secret)
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read token %s: %w", token.ID, err)
	}
	if err := join.Check(token, secret, time.Now()); err != nil {
		return apierrors.NewUnauthorized(err.Error())
	}
	if err := checkClock(asked.Time, time.Now()); err != nil {
		return err
	}
	return j.checkName(r.Context(), asked.Node)
}

// checkClock refuses a machine whose clock is too far off; a machine that does not
// tell is of an earlier version.
func checkClock(there, here time.Time) error {
	off := there.Sub(here)
	if there.IsZero() || off.Abs() <= mostSkew {
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf("its clock is %s off the server's (there %s, here %s): set it right (an NTP client does) and try again",
		off.Abs().Round(time.Second), there.UTC().Format(time.RFC3339), here.UTC().Format(time.RFC3339)))
}

// revoked is the status that tells a machine that it is no node any more.
func revoked(why string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnauthorized, Reason: join.ReasonRevoked,
		Message: why + ": join anew with --token",
	}}
}

// checkName refuses the name of a node that is live: two machines would take
// each other's pods away. It lives until the control plane, by its own clock, says
// that it has not heard of it; what a Lease says of the time is by the node's clock.
func (j joiner) checkName(ctx context.Context, name string) error {
	found, err := j.nodes.Get(ctx, name, &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for node %s: %w", name, err)
	}
	ready := condition.FindNode(found.(*corev1.Node).Status.Conditions, corev1.NodeReady)
	if ready != nil && ready.Status != corev1.ConditionUnknown {
		return conflict("node %s is there and lives: give this machine another --node-name; if it is this machine, "+
			"whose data directory is lost, wait until `kubectl get nodes` shows that node as NotReady", name)
	}
	return nil
}

// conflict is a status of code 409 with no more than a message.
func conflict(format string, args ...any) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict, Message: fmt.Sprintf(format, args...),
	}}
}

// checkAddress refuses an address that is not the node's own: its certificate
// would let it pass for who has it.
func (j joiner) checkAddress(ctx context.Context, asked join.Request) error {
	address := asked.Address
	if !proxyable(address.String()) || j.config.ServiceRange.Contains(address) || j.config.Cluster.PodRange.Contains(address) {
		return apierrors.NewBadRequest(fmt.Sprintf("node address %s: want one of the machine's, that other machines reach, outside the ranges of pods and Services (give it with --node-ip)", address))
	}
	if address == j.config.AdvertiseAddress {
		return conflict("address %s is the server's: give this machine's with --node-ip", address)
	}
	listed, err := j.nodes.List(ctx, nil)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for _, node := range listed.(*corev1.NodeList).Items {
		for _, has := range node.Status.Addresses {
			if parsed, err := netip.ParseAddr(has.Address); err == nil && parsed == address && node.Name != asked.Node {
				return conflict("address %s is node %s's: give this machine's with --node-ip, or, if that node is no more, `kubectl delete node %s`", address, node.Name, node.Name)
			}
		}
	}
	return nil
}
