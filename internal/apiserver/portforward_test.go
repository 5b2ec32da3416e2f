package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientforward "k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// echoPorts answers every port of a pod with its number and what it is sent.
type echoPorts struct{}

// PortForward implements portforward.PortForwarder.
func (echoPorts) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	if port == 81 {
		return fmt.Errorf("nobody listens at %d", port)
	}
	if _, err := fmt.Fprintf(stream, "%d ", port); err != nil {
		return err
	}
	_, err := io.Copy(stream, stream)
	return err
}

func TestPortForward(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	client := kubernetes.NewForConfigOrDie(server.Config)
	asked := make(chan string, 100)
	mux := http.NewServeMux()
	mux.HandleFunc("/portForward/default/p", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.TLS.PeerCertificates[0].Subject.CommonName + " " + r.Method + " " + r.Header.Get("Upgrade")
		options, err := portforward.NewV4Options(r)
		if err != nil {
			t.Error(err)
			return
		}
		portforward.ServePortForward(w, r, echoPorts{}, "p", "uid", options, time.Minute, time.Minute, portforward.SupportedProtocols)
	})
	addNode(t, client, "node-1", serveAgent(t, server, mux))
	for _, name := range []string{"p", "unbound"} {
		must[*corev1.Pod](t)(client.CoreV1().Pods("default").Create(t.Context(), pod(name), metav1.CreateOptions{}))
	}
	if err := bind(t, client, "p", "node-1"); err != nil {
		t.Fatal(err)
	}

	config := overTLS(t, server)
	target := func(name string) *url.URL {
		return kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name(name).SubResource("portforward").URL()
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	overSPDY := func(name string) httpstream.Dialer {
		return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target(name))
	}
	overWebSocket, err := clientforward.NewSPDYOverWebsocketDialer(target("p"), config)
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for protocol, dialer := range map[string]httpstream.Dialer{"SPDY": overSPDY("p"), "WebSocket": overWebSocket} {
		t.Run(protocol, func(t *testing.T) {
			port, ended := forward(t, dialer, "0:80")
			for _, data := range [][]byte{[]byte("hello"), big, big} {
				if got := exchange(t, port, data); !bytes.Equal(got, append([]byte("80 "), data...)) {
					t.Errorf("sent %d bytes, got %d", len(data), len(got))
				}
			}
			select {
			case err := <-ended:
				t.Errorf("ended early: %v", err)
			default:
			}
			if got := <-asked; got != "system:apiserver POST SPDY/3.1" {
				t.Errorf("the agent was asked by %q", got)
			}

			port, ended = forward(t, dialer, "0:81")
			if err := knock(port, ended); err == nil || !strings.Contains(err.Error(), "lost connection to pod") {
				t.Errorf("a port at which nobody listens: %v", err)
			}
			<-asked
		})
	}

	for name, want := range map[string]string{"unbound": "pod unbound does not have a host assigned", "nobody": `pods "nobody" not found`} {
		if _, _, err := overSPDY(name).Dial(portforward.ProtocolV1Name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", name, err, want)
		}
	}
	err = client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p").SubResource("portforward").Do(t.Context()).Error()
	if err == nil || !strings.Contains(err.Error(), "Upgrade request required") {
		t.Errorf("a request without an upgrade: %v", err)
	}
	for _, ports := range []string{"0", "x", "70000", "80,"} {
		err = client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name("p").SubResource("portforward").Param("ports", ports).Do(t.Context()).Error()
		if err == nil || !strings.Contains(err.Error(), "is not a port number") {
			t.Errorf("ports %q: %v", ports, err)
		}
	}
}

// overTLS returns the configuration of an administrator outside the process.
func overTLS(t *testing.T, server *apiservertest.Server) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// forward forwards a port until the test ends and returns the local port.
func forward(t *testing.T, dialer httpstream.Dialer, ports string) (uint16, <-chan error) {
	t.Helper()
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	t.Cleanup(func() { close(stop) })
	forwarder, err := clientforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{ports}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("ended before it began: %v", err)
	}
	local, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return local[0].Local, ended
}

// knock connects to a local port until the forwarding has ended, and returns why
// it did. One connection does not always do: the client may see its stream reset
// before it hears of it.
func knock(port uint16, ended <-chan error) error {
	for {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// exchange sends data to a local port, and returns the answer as far as it comes.
func exchange(t *testing.T, port uint16, data []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = conn.Write(data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	answer, _ := io.ReadAll(conn)
	return answer
}
