package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// start runs a server and returns a client of it.
func start(t *testing.T) (*kubernetes.Clientset, *rest.Config) {
	t.Helper()
	config := apiservertest.Start(t)
	return kubernetes.NewForConfigOrDie(config), config
}

// must returns v, or ends the test.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestStartsWithSystemObjects(t *testing.T) {
	client, _ := start(t)
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		namespace := must[*corev1.Namespace](t)(client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{}))
		if namespace.Status.Phase != corev1.NamespaceActive {
			t.Errorf("%s is %s", name, namespace.Status.Phase)
		}
	}
	service := must[*corev1.Service](t)(client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{}))
	if service.Spec.ClusterIP != "10.43.0.1" {
		t.Errorf("kubernetes has the address %s", service.Spec.ClusterIP)
	}
	endpoints := must[*corev1.Endpoints](t)(client.CoreV1().Endpoints("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})) // served for clients of old
	if got := endpoints.Subsets[0].Addresses[0].IP; got != "192.0.2.1" {
		t.Errorf("kubernetes is at %s", got)
	}
}

func TestStateOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	first := apiservertest.StartIn(t, dir)
	client := kubernetes.NewForConfigOrDie(first.Config)
	made := must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: map[string]string{"a": "1"}}, metav1.CreateOptions{}))
	service := must[*corev1.Service](t)(client.CoreV1().Services("default").Create(t.Context(), nodePortService("kept"), metav1.CreateOptions{}))
	certificate := peerCertificate(t, first.URL)
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}

	second := apiservertest.StartIn(t, dir)
	client = kubernetes.NewForConfigOrDie(second.Config)
	found := must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}))
	if found.UID != made.UID || found.ResourceVersion != made.ResourceVersion {
		t.Errorf("found %s at %s, made %s at %s", found.UID, found.ResourceVersion, made.UID, made.ResourceVersion)
	}
	if again := peerCertificate(t, second.URL); !again.Equal(certificate) {
		t.Error("the serving certificate was made anew")
	}
	taken := nodePortService("late")
	taken.Spec.ClusterIP = service.Spec.ClusterIP
	if _, err := client.CoreV1().Services("default").Create(t.Context(), taken, metav1.CreateOptions{}); err == nil {
		t.Error("an address allocated before the restart was given again")
	}
}

func peerCertificate(t *testing.T, url string) *x509.Certificate {
	t.Helper()
	connection, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true}) // only looked at
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	return connection.ConnectionState().PeerCertificates[0]
}

func TestWhoMayDoWhat(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	stranger, err := server.Authority.Client("stranger", "stranger", "people")
	if err != nil {
		t.Fatal(err)
	}
	admin := must[*rest.Config](t)(clientcmd.BuildConfigFromFlags("", server.Kubeconfig))
	anonymous := rest.AnonymousClientConfig(admin)
	known := rest.CopyConfig(anonymous)
	known.CertData, known.KeyData = stranger.Cert, stranger.Key
	foreign := rest.CopyConfig(anonymous)
	other := apiservertest.StartIn(t, t.TempDir())
	foreignPair, err := other.Authority.Client("admin", "kubernetes-admin", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	foreign.CertData, foreign.KeyData = foreignPair.Cert, foreignPair.Key

	for _, test := range []struct {
		who    string
		config *rest.Config
		path   string
		status int
	}{
		{"admin", admin, "/api/v1/pods", 200},
		{"admin", admin, "/metrics", 200},
		{"anonymous", anonymous, "/readyz", 200},
		{"anonymous", anonymous, "/livez", 200},
		{"anonymous", anonymous, "/healthz", 200},
		{"anonymous", anonymous, "/version", 200},
		{"anonymous", anonymous, "/metrics", 403},
		{"anonymous", anonymous, "/api/v1/pods", 403},
		{"anonymous", anonymous, "/apis", 403},
		{"stranger", known, "/version", 200},
		{"stranger", known, "/api/v1/pods", 403},
		{"bearer of another authority's certificate", foreign, "/readyz", 401},
	} {
		transport, err := rest.TransportFor(test.config)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: transport}).Get(server.URL + test.path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%s gets %d for %s, want %d: %s", test.who, response.StatusCode, test.path, test.status, body)
		}
	}
}

func TestDiscovery(t *testing.T) {
	client, _ := start(t)
	groups, resources, err := client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range groups {
		names = append(names, g.PreferredVersion.GroupVersion)
	}
	for _, want := range []string{"v1", "apps/v1", "coordination.k8s.io/v1", "discovery.k8s.io/v1", "events.k8s.io/v1"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not served, but %v", want, names)
		}
	}
	short := map[string]string{}
	var everything []string
	for _, list := range resources {
		for _, r := range list.APIResources {
			for _, s := range r.ShortNames {
				short[s] = r.Name
			}
			if slices.Contains(r.Categories, "all") {
				everything = append(everything, r.Name)
			}
		}
	}
	for s, want := range map[string]string{"po": "pods", "svc": "services", "deploy": "deployments", "rs": "replicasets", "rc": "replicationcontrollers",
		"cm": "configmaps", "sa": "serviceaccounts", "ns": "namespaces", "no": "nodes", "ep": "endpoints", "ev": "events"} {
		if short[s] != want {
			t.Errorf("%s stands for %q, want %q", s, short[s], want)
		}
	}
	slices.Sort(everything)
	if want := []string{"deployments", "pods", "replicasets", "replicationcontrollers", "services", "statefulsets"}; !slices.Equal(everything, want) {
		t.Errorf(`"all" is %v, want %v`, everything, want)
	}
	for _, list := range resources {
		for _, r := range list.APIResources {
			if r.Name == "namespaces" && slices.Contains(r.Verbs, "deletecollection") {
				t.Error("namespaces can be deleted as a collection")
			}
		}
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil || version.Major != "1" || !strings.HasPrefix(version.GitVersion, "v1.37") {
		t.Errorf("version %v, %v", version, err)
	}
}

func TestOpenAPI(t *testing.T) {
	client, _ := start(t)
	document, err := client.Discovery().OpenAPISchema()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range document.Definitions.AdditionalProperties {
		found = found || d.Name == "io.k8s.api.apps.v1.Deployment"
		if strings.Contains(d.String(), "__internal") {
			t.Errorf("%s speaks of an internal version", d.Name)
		}
	}
	if !found {
		t.Error("OpenAPI v2 does not describe Deployments")
	}
	paths, err := client.Discovery().OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"api/v1", "apis/apps/v1", "apis/events.k8s.io/v1"} {
		if paths[version] == nil {
			t.Fatalf("OpenAPI v3 does not describe %s", version)
		}
		schema, err := paths[version].Schema("application/json")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(schema), "__internal") {
			t.Errorf("%s speaks of an internal version", version)
		}
	}
}
