package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// What nodes and pods use comes from the agents of all nodes that answer, each of
// which is believed about its own pods only.
func TestMetrics(t *testing.T) {
	server := apiservertest.StartIn(t, t.TempDir())
	client, top := kubernetes.NewForConfigOrDie(server.Config), metrics.NewForConfigOrDie(server.Config).MetricsV1beta1()
	usage := func(cpu string) string {
		return fmt.Sprintf(`"timestamp":"2026-01-01T00:00:00Z","window":"10s","usage":{"cpu":"%s","memory":"1Mi"}`, cpu)
	}
	tell := func(cpu string, pods ...string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/usage/node":
				fmt.Fprintf(w, `{"metadata":{"name":"another"},%s}`, usage(cpu))
			case "/usage/pods":
				var items []string
				for _, name := range pods {
					items = append(items, fmt.Sprintf(`{"metadata":{"namespace":"default","name":%q,"labels":{"x":"y"}},"window":"10s","containers":[{"name":"c",%s}]}`, name, usage(cpu)))
				}
				fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(items, ","))
			}
		})
	}
	addNode(t, client, "node-1", serveAgent(t, server, tell("100m", "a", "b", "pending", "nobody")))
	addNode(t, client, "node-2", serveAgent(t, server, tell("200m", "b", "a")))
	addNode(t, client, "node-3", serveAgent(t, server, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{") })))
	must[*corev1.Node](t)(client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-4"}}, metav1.CreateOptions{}))
	pods := client.CoreV1().Pods("default")
	for name, node := range map[string]string{"a": "node-1", "b": "node-2", "pending": "node-1", "lost": "node-3"} {
		p := pod(name)
		p.Labels, p.Spec.NodeName = map[string]string{"app": name}, node
		must[*corev1.Pod](t)(pods.Create(t.Context(), p, metav1.CreateOptions{}))
		if name != "pending" {
			must[*corev1.Pod](t)(pods.Patch(t.Context(), name, types.MergePatchType, []byte(`{"status":{"phase":"Running"}}`), metav1.PatchOptions{}, "status"))
		}
	}
	list := func(namespace, selector string) string {
		t.Helper()
		found, err := top.PodMetricses(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, m := range found.Items {
			lines = append(lines, fmt.Sprintf("%s %s %s %s", m.Name, m.Labels["app"], m.Containers[0].Name, m.Containers[0].Usage.Cpu()))
		}
		return strings.Join(lines, ", ")
	}
	if got := list("default", ""); got != "a a c 100m, b b c 200m" {
		t.Errorf("the pods: %s", got)
	}
	if got := list("", "app=b"); got != "b b c 200m" {
		t.Errorf("those with a label: %s", got)
	}
	if got := list("kube-system", ""); got != "" {
		t.Errorf("those of another namespace: %s", got)
	}
	if m, err := top.PodMetricses("default").Get(t.Context(), "a", metav1.GetOptions{}); err != nil || m.Name != "a" || m.Window.Seconds() != 10 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, name := range []string{"pending", "lost", "nobody"} {
		if m, err := top.PodMetricses("default").Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	nodes, err := top.NodeMetricses().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 2 || nodes.Items[0].Name != "node-1" || nodes.Items[1].Usage.Cpu().String() != "200m" {
		t.Errorf("the nodes: %+v, %v", nodes, err)
	}
	if _, err := top.NodeMetricses().Get(t.Context(), "node-3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a node that does not answer: %v", err)
	}
}
