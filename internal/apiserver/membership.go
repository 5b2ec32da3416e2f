package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// memberships says which machines are nodes of the cluster: those whose
// certificate bears the UID of a Node that is there. Who deletes a Node takes its
// certificates back; a Node of the same name that is made later has another UID.
type memberships struct {
	nodes *registry.Store

	mu      sync.Mutex
	watches map[string]map[*http.Request]context.CancelFunc // of nodes' agents, by node
	deleted map[string]bool                                 // names of Nodes that were, since this process began
}

func newMemberships(nodes *registry.Store) *memberships {
	m := &memberships{nodes: nodes, watches: map[string]map[*http.Request]context.CancelFunc{}, deleted: map[string]bool{}}
	nodes.AfterDelete = func(obj runtime.Object, _ *metav1.DeleteOptions) { m.end(obj.(*corev1.Node).Name) }
	return m
}

// admit returns the UID of the Node that a machine is from now on. A Node that is
// not there it makes for a machine that comes anew, and for no other.
func (m *memberships) admit(ctx context.Context, name string, anew bool) (types.UID, error) {
	object, err := m.nodes.Get(ctx, name, &metav1.GetOptions{})
	if anew && apierrors.IsNotFound(err) {
		object, err = m.nodes.Create(request.WithNamespace(ctx, metav1.NamespaceNone), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			object, err = m.nodes.Get(ctx, name, &metav1.GetOptions{})
		}
	}
	if err != nil {
		return "", fmt.Errorf("register node %s: %w", name, err)
	}
	return object.(*corev1.Node).UID, nil
}

// revoked returns why the certificate by which a node's agent is known is good no
// more, "" while it is good. One that bears no UID, of an earlier version, is good
// for any Node of the name.
func (m *memberships) revoked(ctx context.Context, node string, who user.Info) (why string, err error) {
	// The cache may not show yet that a Node is gone, or there: it speaks for those that
	// were never deleted, and what it has against one is asked again.
	if !m.wasDeleted(node) {
		if why, err := m.revokedAt(ctx, node, who, "0"); why == "" && err == nil {
			return "", nil
		}
	}
	return m.revokedAt(ctx, node, who, "")
}

func (m *memberships) revokedAt(ctx context.Context, node string, who user.Info, version string) (why string, err error) {
	object, err := m.nodes.Get(ctx, node, &metav1.GetOptions{ResourceVersion: version})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("node %s was deleted, and with it its certificate was revoked", node), nil
	case err != nil:
		return "", fmt.Errorf("look for node %s: %w", node, err)
	case who.GetUID() != "" && who.GetUID() != string(object.(*corev1.Node).UID):
		return fmt.Sprintf("node %s was deleted and made anew, and the certificate of the former one was revoked", node), nil
	}
	return "", nil
}

// bound ends a node's watches when its Node is deleted: they were let in before.
func (m *memberships) bound(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := request.UserFrom(r.Context())
		info, _ := request.RequestInfoFrom(r.Context())
		node, ok := nodeOf(who)
		if !ok || info == nil || info.Verb != "watch" {
			api.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r = r.WithContext(ctx)
		m.begin(node, r, cancel)
		defer m.forget(node, r)
		if why, err := m.revokedAt(ctx, node, who, ""); why != "" || err != nil { // since it was let in
			cancel()
		}
		api.ServeHTTP(w, r)
	})
}

func (m *memberships) begin(node string, r *http.Request, cancel context.CancelFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watches[node] == nil {
		m.watches[node] = map[*http.Request]context.CancelFunc{}
	}
	m.watches[node][r] = cancel
}

func (m *memberships) forget(node string, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if delete(m.watches[node], r); len(m.watches[node]) == 0 {
		delete(m.watches, node)
	}
}

func (m *memberships) wasDeleted(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deleted[node]
}

// end takes in that a Node was deleted, and ends the watches of its agent.
func (m *memberships) end(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deleted[node] = true
	for _, cancel := range m.watches[node] {
		cancel()
	}
}
