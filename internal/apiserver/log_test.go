package apiserver_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// agent stands for the agent of a node: it answers with what it was asked, and
// follows as long as the client does.
func agent(t *testing.T, server *apiservertest.Server) netip.AddrPort {
	t.Helper()
	return serveAgent(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s?%s\n", r.TLS.PeerCertificates[0].Subject.CommonName, r.URL.Path, r.URL.Query().Encode())
		if r.URL.Query().Get("follow") == "true" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
}

// serveAgent serves what an agent does, to the API server alone.
func serveAgent(t *testing.T, server *apiservertest.Server, handler http.Handler) netip.AddrPort {
	t.Helper()
	pair, err := server.Authority.Serving("agent", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.Authority.Pool()} // a test
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// addNode makes a node whose agent listens at an address.
func addNode(t *testing.T, client kubernetes.Interface, name string, agent netip.AddrPort) {
	t.Helper()
	must[*corev1.Node](t)(client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: agent.Addr().String()}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(agent.Port())}},
		},
	}, metav1.CreateOptions{}))
}

func TestLogsComeFromTheAgent(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	client := kubernetes.NewForConfigOrDie(server.Config)
	address := agent(t, server)
	addNode(t, client, "node-1", address)
	two := pod("two")
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "side", Image: "busybox"})
	pods := client.CoreV1().Pods("default")
	for _, p := range []*corev1.Pod{pod("p"), two} {
		must[*corev1.Pod](t)(pods.Create(t.Context(), p, metav1.CreateOptions{}))
	}
	if text, err := pods.GetLogs("p", &corev1.PodLogOptions{}).DoRaw(t.Context()); err != nil || len(text) != 0 {
		t.Errorf("the log of a pod without a node: %q, %v", text, err)
	}
	for _, name := range []string{"p", "two"} {
		if err := bind(t, client, name, "node-1"); err != nil {
			t.Fatal(err)
		}
	}

	tail, seconds, minus := int64(5), int64(60), int64(-1)
	for _, test := range []struct {
		pod     string
		options corev1.PodLogOptions
		want    string
	}{
		{"p", corev1.PodLogOptions{}, "system:apiserver /containerLogs/default/p/main?"},
		{"p", corev1.PodLogOptions{TailLines: &tail, Previous: true, Timestamps: true, SinceSeconds: &seconds},
			"/containerLogs/default/p/main?previous=true&sinceSeconds=60&tailLines=5&timestamps=true"},
		{"p", corev1.PodLogOptions{SinceTime: &metav1.Time{Time: time.Unix(0, 0)}}, "sinceTime=1970-01-01T00%3A00%3A00Z"},
		{"two", corev1.PodLogOptions{Container: "side"}, "/containerLogs/default/two/side?"},
	} {
		text, err := pods.GetLogs(test.pod, &test.options).DoRaw(t.Context())
		if err != nil || !strings.Contains(string(text), test.want) {
			t.Errorf("asked for %q, %v; want %q", text, err, test.want)
		}
	}
	for _, test := range []struct {
		pod     string
		options corev1.PodLogOptions
		want    string
	}{
		{"two", corev1.PodLogOptions{}, "a container name must be specified for pod two, choose one of: [main side]"},
		{"p", corev1.PodLogOptions{Container: "nobody"}, "container nobody is not valid for pod p"},
		{"p", corev1.PodLogOptions{TailLines: &minus}, "tailLines"},
	} {
		_, err := pods.GetLogs(test.pod, &test.options).Stream(t.Context())
		if !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v; want %q", err, test.want)
		}
	}

	stream, err := pods.GetLogs("p", &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if line, err := bufio.NewReader(stream).ReadString('\n'); err != nil || !strings.Contains(line, "follow=true") {
		t.Errorf("while following: %q, %v", line, err)
	}
}
