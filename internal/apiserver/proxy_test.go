package apiserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"windlass.dev/windlass/internal/apiserver"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// podApp is what the pods of these tests run.
func podApp(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Upgrade") == "echo":
		conn, buffer, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n%s\n", r.URL.RequestURI())
		_, _ = io.Copy(conn, buffer)
	case r.URL.Path == "/moved":
		http.Redirect(w, r, "/here/", http.StatusFound)
	case r.URL.Path == "/page":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<a href="/other">other</a><a href="http://elsewhere.test/x">elsewhere</a>`)
	case r.URL.Path == "/stream":
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s auth=%q", r.Method, r.URL.RequestURI(), body, r.Header.Get("Authorization"))
	}
}

// proxied is a server whose pods' addresses lead to podApp.
func proxied(t *testing.T) (*apiservertest.Server, *kubernetes.Clientset) {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(podApp))
	t.Cleanup(app.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(podApp))
	t.Cleanup(secure.Close)
	leads := map[string]string{
		"10.42.0.9:80": app.Listener.Addr().String(), "10.42.0.9:8080": app.Listener.Addr().String(),
		"10.42.0.9:8443": secure.Listener.Addr().String(),
	}
	server := apiservertest.StartWith(t, t.TempDir(), func(c *apiserver.Config) {
		c.DialPod = func(ctx context.Context, network, address string) (net.Conn, error) {
			to, ok := leads[address]
			if !ok {
				return nil, fmt.Errorf("dial %s: connection refused", address)
			}
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, to)
		}
	})
	client := kubernetes.NewForConfigOrDie(server.Config)
	pods := client.CoreV1().Pods("default")
	for name, ip := range map[string]string{"web": "10.42.0.9", "loop": "127.0.0.1", "link": "169.254.1.1", "many": "224.0.0.1", "none": ""} {
		p := pod(name)
		if name == "web" {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080}}
		}
		p = must[*corev1.Pod](t)(pods.Create(t.Context(), p, metav1.CreateOptions{}))
		if p.Status.PodIP = ip; ip != "" {
			p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
			must[*corev1.Pod](t)(pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}))
		}
	}
	for _, name := range []string{"web", "unready", "foreign", "lying", "empty"} {
		must[*corev1.Service](t)(client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "https", Port: 443}}},
		}, metav1.CreateOptions{}))
	}
	no := false
	ofWeb := &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web"}
	for name, endpoint := range map[string]discoveryv1.Endpoint{
		"web":     {Addresses: []string{"10.42.0.9"}, TargetRef: ofWeb},
		"unready": {Addresses: []string{"10.42.0.9"}, TargetRef: ofWeb, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
		"foreign": {Addresses: []string{"10.42.0.9"}},
		"lying":   {Addresses: []string{"10.42.0.10"}, TargetRef: ofWeb},
	} {
		http, plain, https, encrypted := "http", int32(8080), "https", int32(8443)
		must[*discoveryv1.EndpointSlice](t)(client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{endpoint},
			Ports: []discoveryv1.EndpointPort{{Name: &http, Port: &plain}, {Name: &https, Port: &encrypted}},
		}, metav1.CreateOptions{}))
	}
	return server, client
}

func TestProxy(t *testing.T) {
	server, client := proxied(t)
	agent := serveAgent(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "agent %s for %s", r.URL.RequestURI(), r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	addNode(t, client, "node-1", agent)
	browser := must[*http.Client](t)(rest.HTTPClientFor(overTLS(t, server)))
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(method, path, body string) (int, string, http.Header) {
		t.Helper()
		request := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, server.URL+"/api/v1/"+path, strings.NewReader(body)))
		response := must[*http.Response](t)(browser.Do(request))
		defer response.Body.Close()
		return response.StatusCode, string(must[[]byte](t)(io.ReadAll(response.Body))), response.Header
	}
	in := "namespaces/default/"
	for _, test := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", in + "pods/web/proxy/a/b/?x=1&y=%20", "", 200, `GET /a/b/?x=1&y=%20  auth=""`},
		{"GET", in + "pods/web:80/proxy/", "", 200, "GET / "},
		{"POST", in + "pods/http:web:8080/proxy/form?q", "data", 200, "POST /form?q data"},
		{"PUT", in + "pods/https:web:8443/proxy/form", "data", 200, "PUT /form data"},
		{"DELETE", in + "pods/web/proxy/thing", "", 200, "DELETE /thing"},
		{"PATCH", in + "pods/web/proxy/thing", "p", 200, "PATCH /thing p"},
		{"OPTIONS", in + "pods/web/proxy/thing", "", 200, "OPTIONS /thing"},
		{"GET", in + "services/web:http/proxy/a", "", 200, "GET /a"},
		{"GET", in + "services/web:80/proxy/a", "", 200, "GET /a"},
		{"POST", in + "services/http:web:http/proxy/a?b", "c", 200, "POST /a?b c"},
		{"GET", in + "services/https:web:443/proxy/a", "", 200, "GET /a"},
		{"GET", "nodes/node-1/proxy/healthz?x", "", 200, "agent /healthz?x for system:apiserver"},
		{"GET", fmt.Sprintf("nodes/node-1:%d/proxy/logs/", agent.Port()), "", 200, "agent /logs/ for system:apiserver"},

		{"GET", in + "pods/loop/proxy/", "", 400, "address not allowed"},
		{"GET", in + "pods/link/proxy/", "", 400, "address not allowed"},
		{"GET", in + "pods/many/proxy/", "", 400, "address not allowed"},
		{"GET", in + "pods/none/proxy/", "", 400, "address not allowed"},
		{"GET", "nodes/node-1:22/proxy/", "", 400, "address not allowed"},
		{"GET", in + "pods/ftp:web:21/proxy/", "", 400, `invalid pod request \"ftp:web:21\"`},
		{"GET", in + "services/a:b:c:d/proxy/", "", 400, `invalid service request \"a:b:c:d\"`},
		{"GET", "nodes/x:y:z/proxy/", "", 400, `invalid node request \"x:y:z\"`},
		{"GET", in + "pods/nobody/proxy/", "", 404, `pods \"nobody\" not found`},
		{"GET", in + "services/nobody/proxy/", "", 404, `services \"nobody\" not found`},
		{"GET", "nodes/nobody/proxy/", "", 404, `nodes \"nobody\" not found`},
		{"GET", in + "services/web:81/proxy/", "", 503, `no service port 81 found for service \"web\"`},
		{"GET", in + "services/web/proxy/", "", 503, `no endpoints available for service \"web\"`},
		{"GET", in + "services/empty:http/proxy/", "", 503, `no endpoints available for service \"empty\"`},
		{"GET", in + "services/unready:http/proxy/", "", 503, `no endpoints available for service \"unready\"`},
		{"GET", in + "services/foreign:http/proxy/", "", 503, `no endpoints available for service \"foreign\"`},
		{"GET", in + "services/lying:http/proxy/", "", 503, `no endpoints available for service \"lying\"`},
		{"GET", in + "pods/web:81/proxy/", "", 503, "error trying to reach service: dial 10.42.0.9:81: connection refused"},
	} {
		if code, got, _ := ask(test.method, test.path, test.body); code != test.code || !strings.Contains(got, test.want) {
			t.Errorf("%s %s: %d %s; want %d %s", test.method, test.path, code, got, test.code, test.want)
		}
	}

	base := "/api/v1/" + in + "services/web:http/proxy"
	for path, want := range map[string]string{"/moved": base + "/here/", "": base + "/"} {
		if code, _, header := ask("GET", strings.TrimPrefix(base, "/api/v1/")+path, ""); code/100 != 3 || strings.TrimPrefix(header.Get("Location"), server.URL) != want {
			t.Errorf("%q is redirected with %d to %q; want %q", path, code, header.Get("Location"), want)
		}
	}
	if _, page, _ := ask("GET", in+"services/web:http/proxy/page", ""); !strings.Contains(page, base+`/other"`) || !strings.Contains(page, `"http://elsewhere.test/x"`) {
		t.Errorf("the page is %s", page)
	}

	stream := must[*http.Response](t)(browser.Get(server.URL + base + "/stream"))
	defer stream.Body.Close()
	if line, err := bufio.NewReader(stream.Body).ReadString('\n'); line != "first\n" {
		t.Errorf("of a stream came %q, %v", line, err)
	}

	// An upgraded connection passes both ways.
	request := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", server.URL+base+"/chat?room=1", nil))
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "echo")
	config := overTLS(t, server)
	config.NextProtos = []string{"http/1.1"}
	upgraded := must[*http.Response](t)(must[*http.Client](t)(rest.HTTPClientFor(config)).Do(request))
	conn, ok := upgraded.Body.(io.ReadWriteCloser)
	if upgraded.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("an upgrade is answered by %s", upgraded.Status)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); line != "/chat?room=1\n" {
		t.Errorf("upgraded at %q, %v", line, err)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); line != "hello\n" {
		t.Errorf("the echo is %q, %v", line, err)
	}
}
