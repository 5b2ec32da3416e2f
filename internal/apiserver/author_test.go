package apiserver_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// authorIn reads the author that an object carries; "" when it carries none.
func authorIn(t *testing.T, m *metav1.ObjectMeta) (v1alpha1.Author, string) {
	t.Helper()
	var author v1alpha1.Author
	text := m.Annotations[v1alpha1.AnnotationChangedBy]
	if text != "" {
		if err := json.Unmarshal([]byte(text), &author); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	for _, entry := range m.ManagedFields {
		if entry.FieldsV1 != nil && strings.Contains(string(entry.FieldsV1.Raw), v1alpha1.AnnotationChangedBy) {
			t.Errorf("%s owns the author", entry.Manager)
		}
	}
	return author, text
}

// TestAuthorThroughKubectl changes a Deployment in every way that kubectl knows: the author is
// the one of the last change of the template, whatever else is written and asked for.
func TestAuthorThroughKubectl(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	run := kubectl(t, server)
	deployments := kubernetes.NewForConfigOrDie(server.Config).AppsV1().Deployments("default")
	const clientSide, keep = "kubectl-client-side-apply", "-"
	forged := strings.Replace(manifest, `"name":"web"`, `"name":"web","annotations":{"windlass.dev/changed-by":"me"}`, 1)
	image := func(n string) string { return strings.Replace(manifest, "httpd:1", "httpd:"+n, 1) }
	before := ""
	for _, step := range []struct {
		args, stdin string
		manager     string // the author's, or keep
		fails       bool
		want        string // in what is printed
	}{
		{args: "apply -f -", stdin: manifest, manager: clientSide, want: "created"},
		{args: "apply -f -", stdin: manifest, manager: keep, want: "unchanged"},
		{args: "diff -f -", stdin: manifest, manager: keep},
		{args: "diff -f -", stdin: forged, manager: keep},
		{args: "diff -f -", stdin: image("2"), manager: keep, fails: true, want: "httpd:2"},
		{args: "apply --dry-run=server -f -", stdin: image("2"), manager: keep, want: "configured"},
		{args: "apply -f -", stdin: forged, manager: keep, want: "configured"},
		{args: "apply -f -", stdin: manifest, manager: keep},
		{args: "scale deployment web --replicas=5", manager: keep},
		{args: "label deployment web a=b", manager: keep},
		{args: "annotate --overwrite deployment web windlass.dev/changed-by=me", manager: keep},
		{args: "annotate deployment web windlass.dev/changed-by-", manager: keep},
		{args: "rollout pause deployment web", manager: keep},
		{args: "set image deployment web main=httpd:3", manager: "kubectl-set"},
		{args: "rollout restart deployment web", manager: keep, fails: true, want: "paused"},
		{args: "rollout resume deployment web", manager: keep},
		{args: "rollout restart deployment web", manager: "kubectl-rollout"},
		{args: "replace -f -", stdin: manifest, manager: "kubectl-replace"},
		{args: "replace -f -", stdin: forged, manager: keep},
		{args: "apply --server-side --force-conflicts --field-manager=ci -f -", stdin: forged, manager: keep},
		{args: "apply --server-side --force-conflicts --field-manager=ci -f -", stdin: image("4"), manager: "ci"},
		{args: "apply --server-side --field-manager=ci -f -", stdin: image("4"), manager: keep},
		{args: "apply --server-side --field-manager=ci -f -", stdin: manifest, manager: "ci"},
		{args: "apply --server-side --force-conflicts --field-manager=other -f -", stdin: forged, manager: keep},
		{args: "replace --force -f -", stdin: forged, manager: "kubectl-replace", want: "replaced"},
	} {
		output, err := run(step.stdin, step.args)
		if (err != nil) != step.fails || !strings.Contains(output, step.want) {
			t.Fatalf("kubectl %s: %v, want %q in\n%s", step.args, err, step.want, output)
		}
		if strings.HasPrefix(step.args, "diff") && !step.fails && output != "" {
			t.Errorf("kubectl %s prints\n%s", step.args, output)
		}
		d := must[*appsv1.Deployment](t)(deployments.Get(t.Context(), "web", metav1.GetOptions{}))
		author, text := authorIn(t, &d.ObjectMeta)
		switch {
		case step.manager == keep && text != before:
			t.Errorf("kubectl %s changes the author from %s to %s", step.args, before, text)
		case step.manager == keep:
		case author.User != "kubernetes-admin" || !strings.HasPrefix(author.Client, "kubectl") || strings.Contains(author.Client, " ") || author.Manager != step.manager:
			t.Errorf("kubectl %s makes the author %s, want the manager %s", step.args, text, step.manager)
		}
		before = text
	}
}

// TestAuthors holds what counts as a change, kind by kind, and that status and scale are none.
func TestAuthors(t *testing.T) {
	config := apiservertest.Start(t)
	as := func(agent string) *kubernetes.Clientset {
		config := rest.CopyConfig(config)
		config.UserAgent = agent
		return kubernetes.NewForConfigOrDie(config)
	}
	first, second := as("first/1 (linux) x/2"), as("second/2")
	ctx, forged := t.Context(), map[string]string{v1alpha1.AnnotationChangedBy: "me", "a": "b"}
	for _, kind := range []struct {
		name   string
		create func() (*metav1.ObjectMeta, error)
		patch  func(body string, subresource ...string) (*metav1.ObjectMeta, error)
		counts []string
		not    []string
	}{
		{name: "Deployment",
			create: func() (*metav1.ObjectMeta, error) {
				d := &appsv1.Deployment{}
				if err := json.Unmarshal([]byte(manifest), d); err != nil {
					return nil, err
				}
				d.Annotations = maps.Clone(forged)
				d, err := first.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{})
				return &d.ObjectMeta, err
			},
			patch: func(body string, subresource ...string) (*metav1.ObjectMeta, error) {
				d, err := second.AppsV1().Deployments("default").Patch(ctx, "web", types.MergePatchType, []byte(body), metav1.PatchOptions{}, subresource...)
				return &d.ObjectMeta, err
			},
			counts: []string{`{"spec":{"template":{"metadata":{"labels":{"b":"c"}}}}}`, `{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":3}}}}`},
			not:    []string{`{"spec":{"replicas":7}}`, `{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}`},
		},
		{name: "ReplicationController",
			create: func() (*metav1.ObjectMeta, error) {
				rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: maps.Clone(forged)}, Spec: corev1.ReplicationControllerSpec{
					Selector: map[string]string{"app": "web"},
					Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "v": "1"}}, Spec: pod("x").Spec},
				}}
				rc, err := first.CoreV1().ReplicationControllers("default").Create(ctx, rc, metav1.CreateOptions{})
				return &rc.ObjectMeta, err
			},
			patch: func(body string, subresource ...string) (*metav1.ObjectMeta, error) {
				rc, err := second.CoreV1().ReplicationControllers("default").Patch(ctx, "web", types.MergePatchType, []byte(body), metav1.PatchOptions{}, subresource...)
				return &rc.ObjectMeta, err
			},
			counts: []string{`{"spec":{"template":{"metadata":{"labels":{"b":"c"}}}}}`, `{"spec":{"selector":{"v":"1"}}}`},
			not:    []string{`{"spec":{"replicas":7}}`, `{"metadata":{"labels":{"x":"y"}}}`},
		},
		{name: "Service",
			create: func() (*metav1.ObjectMeta, error) {
				s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: maps.Clone(forged)}, Spec: corev1.ServiceSpec{
					Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}}
				s, err := first.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
				return &s.ObjectMeta, err
			},
			patch: func(body string, subresource ...string) (*metav1.ObjectMeta, error) {
				s, err := second.CoreV1().Services("default").Patch(ctx, "web", types.MergePatchType, []byte(body), metav1.PatchOptions{}, subresource...)
				return &s.ObjectMeta, err
			},
			counts: []string{`{"spec":{"selector":{"v":"2"}}}`, `{"spec":{"selector":null}}`},
			not:    []string{`{"spec":{"type":"NodePort"}}`, `{"spec":{"sessionAffinity":"ClientIP"}}`},
		},
	} {
		t.Run(kind.name, func(t *testing.T) {
			want := func(m *metav1.ObjectMeta, err error, client, manager, after string) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", after, err)
				}
				author, text := authorIn(t, m)
				if author != (v1alpha1.Author{User: "system:apiserver", Client: client, Manager: manager}) {
					t.Errorf("after %s the author is %s, want %s", after, text, client)
				}
				if m.Annotations["a"] != "b" {
					t.Errorf("%s lost another annotation", after)
				}
			}
			m, err := kind.create()
			want(m, err, "first/1", "first", "creation")
			erase := `{"metadata":{"annotations":{"windlass.dev/changed-by":null}}}`
			for _, body := range append([]string{erase, `{"metadata":{"annotations":{"windlass.dev/changed-by":"me"}}}`}, kind.not...) {
				m, err := kind.patch(body)
				want(m, err, "first/1", "first", body)
			}
			m, err = kind.patch(erase, "status")
			want(m, err, "first/1", "first", "a write of the status")
			for _, body := range kind.counts {
				m, err := kind.patch(body)
				want(m, err, "second/2", "second", body)
				generation := m.Generation
				if m, err = kind.patch(erase); m.Generation != generation {
					t.Errorf("a vain change of the author counts as generation %d after %d", m.Generation, generation)
				}
				want(m, err, "second/2", "second", erase)
			}
		})
	}
}

// TestAuthorWithoutUserAgent holds that a client which does not say what it is leaves that
// empty, and that one which says too much is cut.
func TestAuthorWithoutUserAgent(t *testing.T) {
	client, config := start(t)
	config.UserAgent = ""
	transport := must[http.RoundTripper](t)(rest.TransportFor(config))
	for agent, want := range map[string]v1alpha1.Author{
		"":                              {User: "system:apiserver"},
		strings.Repeat("é", 200) + "/1": {User: "system:apiserver", Client: strings.Repeat("é", 64), Manager: strings.Repeat("é", 64)},
	} {
		request := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, config.Host+"/apis/apps/v1/namespaces/default/deployments", strings.NewReader(manifest)))
		request.Header.Set("Content-Type", "application/json")
		request.Header["User-Agent"] = []string{agent}
		response, err := transport.RoundTrip(request)
		if err != nil || response.StatusCode != http.StatusCreated {
			t.Fatalf("%v, %v", response, err)
		}
		response.Body.Close()
		d := must[*appsv1.Deployment](t)(client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{}))
		if author, text := authorIn(t, &d.ObjectMeta); author != want {
			t.Errorf("the author is %s", text)
		}
		if err := client.AppsV1().Deployments("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}
