package apiserver_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
	"windlass.dev/windlass/internal/join"
	"windlass.dev/windlass/internal/pki"
)

// TestJoinAndRenew: a machine joins by a token and renews by its certificate, and
// only its own.
func TestJoinAndRenew(t *testing.T) {
	s, admin, token := apiservertest.StartJoinable(t, 0)
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := join.Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	address := netip.MustParseAddr("192.0.2.7")
	joined, err := join.Enter(ctx, dir, s.URL, token, "one", address)
	if err != nil {
		t.Fatal(err)
	}
	member, err := join.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if member.Node() != "one" || member.Cluster() != apiservertest.Cluster || member.Address() != address || !member.Ends().Equal(joined.Ends()) {
		t.Errorf("what is kept differs: %s %v %s", member.Node(), member.Cluster(), member.Address())
	}
	if err := member.SetPodRange(netip.MustParsePrefix("10.42.3.0/24")); err != nil {
		t.Error(err)
	}

	if err := admin.CoreV1().Secrets("kube-system").Delete(ctx, join.SecretName(token.ID), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	before := member.Certificate().Leaf.SerialNumber.String()
	moved := netip.MustParseAddr("192.0.2.8")
	if err := member.Renew(ctx, bearing(member), moved); err != nil {
		t.Fatal(err)
	}
	if again, err := join.Open(dir); err != nil || again.Certificate().Leaf.SerialNumber.String() == before || again.Address() != moved || again.PodRange().String() != "10.42.3.0/24" {
		t.Errorf("after the renewal: %v, %+v", err, again)
	}
	if _, err := join.Enter(ctx, t.TempDir(), s.URL, token, "two", address); !errors.Is(err, join.ErrRefused) || !strings.Contains(err.Error(), "is not known here") {
		t.Errorf("with a revoked token: %v", err)
	}
	// Who has no certificate has none to renew.
	nobody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Authority.Pool()}}}
	if err := member.Renew(ctx, nobody, moved); !errors.Is(err, join.ErrRefused) {
		t.Errorf("without the certificate: %v", err)
	}
}

func bearing(member *join.Member) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs:              member.Authority(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return member.Certificate(), nil },
	}}}
}

// TestJoinRefusals: names and addresses that are somebody's.
func TestJoinRefusals(t *testing.T) {
	s, admin, token := apiservertest.StartJoinable(t, 0)
	ctx := t.Context()
	taken := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "taken"}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.9"}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
	if _, err := admin.CoreV1().Nodes().Create(ctx, taken, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Its clock is an hour behind: that it lives the server knows better.
	behind := metav1.NewMicroTime(time.Now().Add(-time.Hour))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "taken"}, Spec: coordinationv1.LeaseSpec{RenewTime: &behind}}
	if _, err := admin.CoordinationV1().Leases("kube-node-lease").Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ node, address, want string }{
		{"taken", "192.0.2.9", "is there and lives"},
		{"other", "192.0.2.9", "address 192.0.2.9 is node taken's"},
		{"other", "127.0.0.1", "want one of the machine's"},
		{"other", "10.43.0.1", "want one of the machine's"},
		{"other", "10.42.0.1", "want one of the machine's"},
		{"Other", "192.0.2.10", `node name "Other"`},
	} {
		_, err := join.Enter(ctx, t.TempDir(), s.URL, token, test.node, netip.MustParseAddr(test.address))
		if !errors.Is(err, join.ErrRefused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s at %s: %v, want %q", test.node, test.address, err, test.want)
		}
	}
	// A node that is not heard of any more may be joined anew, though its clock was ahead.
	const lost, ahead = `{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`, `{"spec":{"renewTime":"2126-01-01T00:00:00.000000Z"}}`
	if _, err := admin.CoreV1().Nodes().Patch(ctx, "taken", types.StrategicMergePatchType, []byte(lost), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoordinationV1().Leases("kube-node-lease").Patch(ctx, "taken", types.MergePatchType, []byte(ahead), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := join.Enter(ctx, t.TempDir(), s.URL, token, "taken", netip.MustParseAddr("192.0.2.9")); err != nil {
		t.Error(err)
	}
}

// TestTwoOfAName: of two machines that come at once by the same name, as copies of one
// disk do, one is refused; the other may ask again.
func TestTwoOfAName(t *testing.T) {
	s, _, token := apiservertest.StartJoinable(t, 0)
	enter := func(address string) error {
		_, err := join.Enter(t.Context(), t.TempDir(), s.URL, token, "debian", netip.MustParseAddr(address))
		return err
	}
	for range 2 {
		if err := enter("192.0.2.7"); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter("192.0.2.8"); !errors.Is(err, join.ErrRefused) || !strings.Contains(err.Error(), "a machine with the address 192.0.2.7 has joined as node debian") {
		t.Errorf("another machine of the name: %v", err)
	}
}

// TestWrongClock: a machine whose clock is off is told so, and leaves no Node.
func TestWrongClock(t *testing.T) {
	s, admin, token := apiservertest.StartJoinable(t, 0)
	csr, _, err := pki.NewRequest("late")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(join.Request{Token: token.String(), Node: "late", Address: netip.MustParseAddr("192.0.2.7"), Certificate: csr, Time: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	anybody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Authority.Pool()}}}
	response, err := anybody.Post(s.URL+join.Path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer join.Answer
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || !strings.HasPrefix(answer.Refused, "its clock is 1h0m0s off the server's") {
		t.Errorf("%q, %v", answer.Refused, err)
	}
	if _, err := admin.CoreV1().Nodes().Get(t.Context(), "late", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its Node: %v", err)
	}
}

// TestDeletedNode: with its Node a machine loses its certificates, what it watches
// ends, and a Node of its name does not bring them back; a token does.
func TestDeletedNode(t *testing.T) {
	s, admin, token := apiservertest.StartJoinable(t, 0)
	ctx := t.Context()
	dir, address := t.TempDir(), netip.MustParseAddr("192.0.2.7")
	member, err := join.Enter(ctx, dir, s.URL, token, "one", address)
	if err != nil {
		t.Fatal(err)
	}
	clientOf := func(m *join.Member) *kubernetes.Clientset {
		return kubernetes.NewForConfigOrDie(&rest.Config{Host: s.URL, QPS: -1, Transport: bearing(m).Transport})
	}
	one := clientOf(member)
	if _, err := one.CoreV1().Nodes().Get(ctx, "one", metav1.GetOptions{}); err != nil {
		t.Fatalf("a machine that joined has no Node: %v", err)
	}
	watch, err := one.CoreV1().Services("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.CoreV1().Nodes().Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for ended := false; !ended; { // with what it was told before
		select {
		case _, more := <-watch.ResultChan():
			ended = !more
		case <-time.After(20 * time.Second):
			t.Fatal("what a machine watches goes on after its Node was deleted")
		}
	}
	refuses := func(when, why string) {
		t.Helper()
		if _, err := one.CoreV1().Services("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want that it is forbidden since %q", when, err, why)
		}
		if err := member.Renew(ctx, bearing(member), address); !errors.Is(err, join.ErrRevoked) || !strings.Contains(err.Error(), "--token") {
			t.Errorf("%s a certificate is renewed: %v", when, err)
		}
		if _, err := one.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("%s it registers itself: %v", when, err)
		}
	}
	refuses("once deleted", "node one was deleted, and with it")
	again, err := join.Enter(ctx, t.TempDir(), s.URL, token, "one", address)
	if err != nil {
		t.Fatal(err)
	}
	refuses("once another has its name", "was deleted and made anew")
	if _, err := clientOf(again).CoreV1().Services("").List(ctx, metav1.ListOptions{}); err != nil {
		t.Errorf("who joined anew: %v", err)
	}
}

// nodeClient is the client of a node's agent.
func nodeClient(t *testing.T, s *apiservertest.Server, node string) *kubernetes.Clientset {
	t.Helper()
	request, key, err := pki.NewRequest(node)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := s.Authority.SignNode(request, node, "", netip.MustParseAddr("192.0.2.7"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return kubernetes.NewForConfigOrDie(&rest.Config{Host: s.URL, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.Authority.PEM(), CertData: certificate, KeyData: key}})
}

// TestNodeAccess: what the agent of a node may do, and what it may not.
func TestNodeAccess(t *testing.T) {
	s, admin, _ := apiservertest.StartJoinable(t, 0)
	ctx := t.Context()
	mine, other := nodeClient(t, s, "mine"), nodeClient(t, s, "other")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"used", "env", "other", "unused", "debug"} {
		must(admin.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
		must(admin.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
	}
	pod := func(name, node, uses string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
			NodeName: node,
			Volumes: []corev1.Volume{
				{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: uses}}},
				{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: uses}}}},
			},
			Containers: []corev1.Container{{Name: "c", Image: "i", EnvFrom: []corev1.EnvFromSource{
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}},
			}}},
		}}
	}
	must(admin.CoreV1().Pods("default").Create(ctx, pod("mine", "mine", "used"), metav1.CreateOptions{}))
	must(admin.CoreV1().Pods("default").Create(ctx, pod("other", "other", "other"), metav1.CreateOptions{}))
	for _, node := range []string{"mine", "other"} {
		must(admin.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}))
	}

	made, err := admin.CoreV1().Pods("default").Get(ctx, "mine", metav1.GetOptions{})
	must(made, err)
	uid := made.UID
	made.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "i",
		EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "debug"}}}}}}}
	must(admin.CoreV1().Pods("default").UpdateEphemeralContainers(ctx, "mine", made, metav1.UpdateOptions{}))
	others, err := admin.CoreV1().Pods("default").Get(ctx, "other", metav1.GetOptions{})
	must(others, err)
	must(admin.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
	own := metav1.ListOptions{FieldSelector: "spec.nodeName=mine"}
	lease := func(name string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	slice := func(name, service, node string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.42.1.1"}, NodeName: &node}}}
	}
	merge := types.MergePatchType
	for _, test := range []struct {
		what    string
		allowed bool
		do      func() error
	}{
		{"list its pods", true, func() error { _, err := mine.CoreV1().Pods("").List(ctx, own); return err }},
		{"list all pods", false, func() error { _, err := mine.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); return err }},
		{"list another's pods", false, func() error {
			_, err := mine.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=other"})
			return err
		}},
		{"get its pod", true, func() error {
			_, err := mine.CoreV1().Pods("default").Get(ctx, "mine", metav1.GetOptions{})
			return err
		}},
		{"get another's pod", false, func() error {
			_, err := mine.CoreV1().Pods("default").Get(ctx, "other", metav1.GetOptions{})
			return err
		}},
		{"make a pod", false, func() error {
			_, err := mine.CoreV1().Pods("default").Create(ctx, pod("new", "mine", "unused"), metav1.CreateOptions{})
			return err
		}},
		{"write its pod's status", true, func() error {
			_, err := mine.CoreV1().Pods("default").Patch(ctx, "mine", merge, []byte(`{"status":{"message":"m"}}`), metav1.PatchOptions{}, "status")
			return err
		}},
		{"write its pod's labels with the status", false, func() error {
			_, err := mine.CoreV1().Pods("default").Patch(ctx, "mine", merge, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}, "status")
			return err
		}},
		{"write another's pod's status", false, func() error {
			_, err := mine.CoreV1().Pods("default").Patch(ctx, "other", merge, []byte(`{"status":{"message":"m"}}`), metav1.PatchOptions{}, "status")
			return err
		}},
		{"delete another's pod", false, func() error { return mine.CoreV1().Pods("default").Delete(ctx, "other", metav1.DeleteOptions{}) }},
		{"get a secret that its pod has as a volume", true, func() error {
			_, err := mine.CoreV1().Secrets("default").Get(ctx, "used", metav1.GetOptions{})
			return err
		}},
		{"get a secret that its pod has in its environment", true, func() error {
			_, err := mine.CoreV1().Secrets("default").Get(ctx, "env", metav1.GetOptions{})
			return err
		}},
		{"get a secret that a debug container of its pod has in its environment", true, func() error {
			_, err := mine.CoreV1().Secrets("default").Get(ctx, "debug", metav1.GetOptions{})
			return err
		}},
		{"get a secret of another's pod", false, func() error {
			_, err := mine.CoreV1().Secrets("default").Get(ctx, "other", metav1.GetOptions{})
			return err
		}},
		{"get a secret of nobody", false, func() error {
			_, err := mine.CoreV1().Secrets("default").Get(ctx, "unused", metav1.GetOptions{})
			return err
		}},
		{"watch a secret of its pod by name", true, func() error {
			watch, err := mine.CoreV1().Secrets("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=used"})
			if err == nil {
				watch.Stop()
			}
			return err
		}},
		{"watch a secret of another's by name", false, func() error {
			_, err := mine.CoreV1().Secrets("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=other"})
			return err
		}},
		{"have a token of its pod's account", true, func() error {
			request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: uid}}}
			_, err := mine.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", request, metav1.CreateOptions{})
			return err
		}},
		{"have a token that is bound to nothing", false, func() error {
			_, err := mine.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}},
		{"have a token that is bound to another's pod", false, func() error {
			request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "other", UID: others.UID}}}
			_, err := mine.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", request, metav1.CreateOptions{})
			return err
		}},
		{"have a token of another account", false, func() error {
			_, err := mine.CoreV1().ServiceAccounts("default").CreateToken(ctx, "unused", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}},
		{"list secrets", false, func() error { _, err := mine.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{}); return err }},
		{"get a config map of its pod", true, func() error {
			_, err := mine.CoreV1().ConfigMaps("default").Get(ctx, "used", metav1.GetOptions{})
			return err
		}},
		{"get a config map of another's", false, func() error {
			_, err := mine.CoreV1().ConfigMaps("default").Get(ctx, "other", metav1.GetOptions{})
			return err
		}},
		{"write a config map of its pod", false, func() error {
			_, err := mine.CoreV1().ConfigMaps("default").Patch(ctx, "used", merge, []byte(`{"data":{"a":"b"}}`), metav1.PatchOptions{})
			return err
		}},
		{"watch services", true, func() error { _, err := mine.CoreV1().Services("").List(ctx, metav1.ListOptions{}); return err }},
		{"make a service", false, func() error {
			_, err := mine.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{})
			return err
		}},
		{"label its node", true, func() error {
			_, err := mine.CoreV1().Nodes().Patch(ctx, "mine", merge, []byte(`{"metadata":{"labels":{"zone":"a"}}}`), metav1.PatchOptions{})
			return err
		}},
		{"set itself apart", false, func() error {
			_, err := mine.CoreV1().Nodes().Patch(ctx, "mine", merge, []byte(`{"metadata":{"labels":{"node-restriction.kubernetes.io/a":"b"}}}`), metav1.PatchOptions{})
			return err
		}},
		{"uncordon itself", false, func() error {
			_, err := mine.CoreV1().Nodes().Patch(ctx, "mine", merge, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
			return err
		}},
		{"give itself a pod range", false, func() error {
			_, err := mine.CoreV1().Nodes().Patch(ctx, "mine", merge, []byte(`{"spec":{"podCIDR":"10.42.9.0/24","podCIDRs":["10.42.9.0/24"]}}`), metav1.PatchOptions{})
			return err
		}},
		{"write its status", true, func() error {
			_, err := mine.CoreV1().Nodes().Patch(ctx, "mine", merge, []byte(`{"status":{"nodeInfo":{"kernelVersion":"k"}}}`), metav1.PatchOptions{}, "status")
			return err
		}},
		{"write another's status", false, func() error {
			_, err := mine.CoreV1().Nodes().Patch(ctx, "other", merge, []byte(`{"status":{"nodeInfo":{"kernelVersion":"k"}}}`), metav1.PatchOptions{}, "status")
			return err
		}},
		{"make another node", false, func() error {
			_, err := mine.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "third"}}, metav1.CreateOptions{})
			return err
		}},
		{"delete a node", false, func() error { return mine.CoreV1().Nodes().Delete(ctx, "other", metav1.DeleteOptions{}) }},
		{"make its lease", true, func() error {
			_, err := mine.CoordinationV1().Leases("kube-node-lease").Create(ctx, lease("mine"), metav1.CreateOptions{})
			return err
		}},
		{"make its proxy's lease", true, func() error {
			_, err := mine.CoordinationV1().Leases("kube-node-lease").Create(ctx, lease("windlass-proxy-mine"), metav1.CreateOptions{})
			return err
		}},
		{"make another's lease", false, func() error {
			_, err := mine.CoordinationV1().Leases("kube-node-lease").Create(ctx, lease("other"), metav1.CreateOptions{})
			return err
		}},
		{"make a lease elsewhere", false, func() error {
			_, err := mine.CoordinationV1().Leases("default").Create(ctx, lease("mine"), metav1.CreateOptions{})
			return err
		}},
		{"be an endpoint of kube-dns", true, func() error {
			_, err := mine.DiscoveryV1().EndpointSlices("kube-system").Create(ctx, slice("kube-dns-mine", "kube-dns", "mine"), metav1.CreateOptions{})
			return err
		}},
		{"be one for another node", false, func() error {
			_, err := other.DiscoveryV1().EndpointSlices("kube-system").Create(ctx, slice("kube-dns-other", "kube-dns", "mine"), metav1.CreateOptions{})
			return err
		}},
		{"be an endpoint of any Service", false, func() error {
			_, err := mine.DiscoveryV1().EndpointSlices("default").Create(ctx, slice("kube-dns-mine", "kubernetes", "mine"), metav1.CreateOptions{})
			return err
		}},
		{"make an event", true, func() error {
			_, err := mine.CoreV1().Events("default").Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default", Name: "mine"}}, metav1.CreateOptions{})
			return err
		}},
		{"read deployments", false, func() error { _, err := mine.AppsV1().Deployments("").List(ctx, metav1.ListOptions{}); return err }},
		{"delete its pod", true, func() error { return mine.CoreV1().Pods("default").Delete(ctx, "mine", metav1.DeleteOptions{}) }},
	} {
		err := test.do()
		if test.allowed && err != nil || !test.allowed && !apierrors.IsForbidden(err) {
			t.Errorf("%s: allowed %v, got %v", test.what, test.allowed, err)
		}
	}
}
