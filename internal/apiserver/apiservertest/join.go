package apiservertest

import (
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/join"
)

// Cluster is what machines are told that join a server of StartJoinable.
var Cluster = join.Cluster{
	PodRange: netip.MustParsePrefix("10.42.0.0/16"), ServiceRange: netip.MustParsePrefix("10.43.0.0/16"),
	DNS: netip.MustParseAddr("10.43.0.10"), Domain: "cluster.local",
}

// StartJoinable runs, until the test ends, a server that machines can join, whose
// nodes' certificates live so long (0: as long as by default). It returns it, the
// administrator's client, and a token that does not end.
func StartJoinable(t testing.TB, certificateLife time.Duration) (*Server, *kubernetes.Clientset, join.Token) {
	t.Helper()
	s := StartWith(t, t.TempDir(), func(c *apiserver.Config) { c.Cluster, c.NodeCertificateLife = Cluster, certificateLife })
	admin := kubernetes.NewForConfigOrDie(s.Config)
	token, err := join.NewToken(s.Authority.Hash())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().Secrets("kube-system").Create(t.Context(), join.SecretOf(token, "", time.Time{}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return s, admin, token
}
