package server

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
	"windlass.dev/windlass/internal/join"
)

// joined is a machine that has joined a server, whose nodes' certificates live so
// long, and a token that is still good.
func joined(t *testing.T, life time.Duration) (*kubernetes.Clientset, AgentOptions, *join.Member, string) {
	t.Helper()
	s, admin, token := apiservertest.StartJoinable(t, life)
	o := AgentOptions{NodeOptions: NodeOptions{DataDir: t.TempDir(), NodeName: "one", NodeIP: netip.MustParseAddr("192.0.2.7"), Log: slog.New(slog.DiscardHandler)}}
	member, err := join.Enter(t.Context(), memberDir(o.DataDir), s.URL, token, o.NodeName, o.NodeIP)
	if err != nil {
		t.Fatal(err)
	}
	if err := member.SetPodRange(netip.MustParsePrefix("10.42.3.0/24")); err != nil {
		t.Fatal(err)
	}
	return admin, o, member, token.String()
}

// TestEndedCertificate: a machine that was off for longer than its certificate
// lives says so, and what to do; with a token it is the node that it was.
func TestEndedCertificate(t *testing.T) {
	_, o, old, token := joined(t, time.Nanosecond)
	_, err := enter(t.Context(), o)
	for _, want := range []string{"this node's certificate ended at ", "so that this machine has to join anew", "`windlass token create`", "--token"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without a token: %v, want %q", err, want)
		}
	}
	o.Token = token
	again, err := enter(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Ends().After(old.Ends()) && again.Certificate().Leaf.SerialNumber.Cmp(old.Certificate().Leaf.SerialNumber) == 0 {
		t.Error("it has the certificate that ended")
	}
	if again.PodRange() != old.PodRange() {
		t.Errorf("its pod range is %s, want the one that it had", again.PodRange())
	}
}

// TestDeletedMachine: a machine whose Node was deleted is told so and is no node
// again by being started, unless it is given a token.
func TestDeletedMachine(t *testing.T) {
	admin, o, old, token := joined(t, time.Hour)
	if deleted(t.Context(), old) {
		t.Error("a machine is taken for deleted whose Node is there")
	}
	if err := admin.CoreV1().Nodes().Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := newLink(old, o.NodeIP).watchServer(t.Context(), o.Log); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("a machine whose Node was deleted goes on: %v", err)
	}
	if member, err := enter(t.Context(), o); err != nil || !deleted(t.Context(), member) {
		t.Errorf("started again without a token: %v", err)
	}
	o.Token = token
	again, err := enter(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if deleted(t.Context(), again) || again.PodRange().IsValid() {
		t.Errorf("joined anew, with pod range %s", again.PodRange())
	}
}
