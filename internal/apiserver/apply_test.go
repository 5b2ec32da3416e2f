package apiserver_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

const manifest = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":3,
"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
"spec":{"containers":[{"name":"main","image":"httpd:1","env":[{"name":"A","value":"1"}]}]}}}}`

func changed(from, to string) []byte { return []byte(strings.Replace(manifest, from, to, 1)) }

func TestServerSideApply(t *testing.T) {
	client, _ := start(t)
	deployments := client.AppsV1().Deployments("default")
	apply := func(manager, force string, body []byte) (*appsv1.Deployment, error) {
		forced := force == "force"
		return deployments.Patch(t.Context(), "web", types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: manager, Force: &forced})
	}
	made := must[*appsv1.Deployment](t)(apply("one", "", []byte(manifest)))
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply || made.Generation != 1 {
		t.Fatalf("managed fields %v, generation %d", made.ManagedFields, made.Generation)
	}
	if same := must[*appsv1.Deployment](t)(apply("one", "", []byte(manifest))); same.ResourceVersion != made.ResourceVersion {
		t.Error("applying the same again wrote")
	}
	_, err := apply("two", "", changed(`"replicas":3`, `"replicas":5`))
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one": .spec.replicas`) {
		t.Errorf("conflict: %v", err)
	}
	forced := must[*appsv1.Deployment](t)(apply("two", "force", changed(`"replicas":3`, `"replicas":5`)))
	if *forced.Spec.Replicas != 5 || forced.Generation != 2 {
		t.Errorf("forced to %d replicas, generation %d", *forced.Spec.Replicas, forced.Generation)
	}
	// What the first manager no longer applies, and nobody else does, goes.
	without := []byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","annotations":{"a":"b"}},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"main","image":"httpd:1"}]}}}}`)
	must[*appsv1.Deployment](t)(apply("two", "force", without))
	last := must[*appsv1.Deployment](t)(apply("one", "force", without))
	if len(last.Spec.Template.Spec.Containers[0].Env) != 0 || *last.Spec.Replicas != 1 {
		t.Errorf("left over: %v, %d replicas", last.Spec.Template.Spec.Containers[0].Env, *last.Spec.Replicas)
	}
}

func TestScaleTakesTheReplicasOver(t *testing.T) {
	// A user's client: nobody owns what a part of the server's process writes.
	client := kubernetes.NewForConfigOrDie(overTLS(t, apiservertest.StartIn(t, t.TempDir())))
	deployments := client.AppsV1().Deployments("default")
	must[*appsv1.Deployment](t)(deployments.Patch(t.Context(), "web", types.ApplyPatchType, []byte(manifest), metav1.PatchOptions{FieldManager: "one"}))
	scale := must[*autoscalingv1.Scale](t)(deployments.GetScale(t.Context(), "web", metav1.GetOptions{}))
	if scale.Spec.Replicas != 3 || scale.Status.Selector != "app=web" {
		t.Fatalf("scale is %+v, %+v", scale.Spec, scale.Status)
	}
	scale.Spec.Replicas = 7
	must[*autoscalingv1.Scale](t)(deployments.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{FieldManager: "scaler"}))
	if _, err := deployments.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("scaling an old version: %v", err)
	}
	got := must[*appsv1.Deployment](t)(deployments.Get(t.Context(), "web", metav1.GetOptions{}))
	if *got.Spec.Replicas != 7 || got.Generation != 2 {
		t.Errorf("%d replicas, generation %d", *got.Spec.Replicas, got.Generation)
	}
	_, err := deployments.Patch(t.Context(), "web", types.ApplyPatchType, []byte(manifest), metav1.PatchOptions{FieldManager: "one"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "scaler" with subresource "scale"`) {
		t.Errorf("applying over the scale: %v", err)
	}
	scale.ResourceVersion, scale.Spec.Replicas = "", -1
	if _, err := deployments.UpdateScale(t.Context(), "web", scale, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("scaling to -1: %v", err)
	}
	_, err = client.CoreV1().ReplicationControllers("default").GetScale(t.Context(), "none", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("scale of none: %v", err)
	}
}

func TestPatches(t *testing.T) {
	client, _ := start(t)
	deployments := client.AppsV1().Deployments("default")
	must[*appsv1.Deployment](t)(deployments.Patch(t.Context(), "web", types.ApplyPatchType, []byte(manifest), metav1.PatchOptions{FieldManager: "one"}))
	for _, test := range []struct {
		kind  types.PatchType
		patch string
		check func(*appsv1.Deployment) bool
	}{
		{types.JSONPatchType, `[{"op":"replace","path":"/spec/replicas","value":4}]`,
			func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 4 }},
		{types.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`,
			func(d *appsv1.Deployment) bool { return d.Labels["a"] == "b" }},
		{types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"httpd:2"}]}}}}`,
			func(d *appsv1.Deployment) bool {
				c := d.Spec.Template.Spec.Containers
				return len(c) == 1 && c[0].Image == "httpd:2" && len(c[0].Env) == 1
			}},
	} {
		got := must[*appsv1.Deployment](t)(deployments.Patch(t.Context(), "web", test.kind, []byte(test.patch), metav1.PatchOptions{}))
		if !test.check(got) {
			t.Errorf("%s %s gave %+v", test.kind, test.patch, got.Spec)
		}
	}
	_, err := deployments.Patch(t.Context(), "web", types.JSONPatchType, []byte(`[{"op":"test","path":"/spec/replicas","value":1}]`), metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a patch whose test fails: %v", err)
	}
	// A patch through a stale version is refused.
	_, err = deployments.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"metadata":{"resourceVersion":"1"}}`), metav1.PatchOptions{})
	if !apierrors.IsConflict(err) {
		t.Errorf("a patch of an old version: %v", err)
	}
}

func TestFieldValidation(t *testing.T) {
	client, config := start(t)
	warned := &warnings{}
	config.WarningHandler = warned
	direct := must[rest.Interface](t)(restClient(config))
	post := func(mode string, body []byte) error {
		return direct.Post().AbsPath("/apis/apps/v1/namespaces/default/deployments").Param("fieldValidation", mode).Body(body).Do(t.Context()).Error()
	}
	unknown := changed(`"replicas"`, `"replicass"`)
	err := post("Strict", unknown)
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `strict decoding error: unknown field "spec.replicass"`) {
		t.Errorf("strict: %v", err)
	}
	if err := post("Strict", changed(`"replicas":3`, `"replicas":3,"replicas":4`)); err == nil || !strings.Contains(err.Error(), `duplicate field "spec.replicas"`) {
		t.Errorf("strict, twice the same field: %v", err)
	}
	if err := post("Ignore", changed(`"replicas":3`, `"replicas":"three"`)); !apierrors.IsBadRequest(err) {
		t.Errorf("a wrong type: %v", err)
	}
	if err := post("Sometimes", unknown); !apierrors.IsInvalid(err) {
		t.Errorf("an unknown mode: %v", err)
	}
	if err := post("Warn", unknown); err != nil {
		t.Errorf("warn: %v", err)
	}
	if !slices.ContainsFunc(warned.texts, func(s string) bool { return strings.Contains(s, `unknown field "spec.replicass"`) }) {
		t.Errorf("warnings %q", warned.texts)
	}
	_, err = client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "Bad_Name"}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "metadata.name") || !strings.Contains(err.Error(), "spec.selector") {
		t.Errorf("an invalid object: %v", err)
	}
}

type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeader(_ int, _, text string) { w.texts = append(w.texts, text) }

// restClient returns a client that sends and takes JSON as it is.
func restClient(config *rest.Config) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json"
	config.NegotiatedSerializer = plain()
	return rest.UnversionedRESTClientFor(config)
}

func TestDryRun(t *testing.T) {
	client, _ := start(t)
	dry := []string{metav1.DryRunAll}
	maps := client.CoreV1().ConfigMaps("default")
	made := must[*corev1.ConfigMap](t)(maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{DryRun: dry}))
	if made.UID == "" || made.ResourceVersion != "" {
		t.Errorf("dry creation gave uid %q, version %q", made.UID, made.ResourceVersion)
	}
	if _, err := maps.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("dry creation was stored: %v", err)
	}
	made = must[*corev1.ConfigMap](t)(maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}))
	must[*corev1.ConfigMap](t)(maps.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{DryRun: dry}))
	if err := maps.Delete(t.Context(), "a", metav1.DeleteOptions{DryRun: dry}); err != nil {
		t.Error(err)
	}
	if now := must[*corev1.ConfigMap](t)(maps.Get(t.Context(), "a", metav1.GetOptions{})); now.ResourceVersion != made.ResourceVersion {
		t.Error("a dry patch was stored")
	}
}

func TestSecretsFoldStringData(t *testing.T) {
	client, _ := start(t)
	secrets := client.CoreV1().Secrets("default")
	made := must[*corev1.Secret](t)(secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"a": "new"}, Data: map[string][]byte{"a": []byte("old"), "b": []byte("2")},
	}, metav1.CreateOptions{}))
	if string(made.Data["a"]) != "new" || string(made.Data["b"]) != "2" || made.StringData != nil || made.Type != corev1.SecretTypeOpaque {
		t.Errorf("made %v, %v, %s", made.Data, made.StringData, made.Type)
	}
	fixed := true
	made.Immutable = &fixed
	made = must[*corev1.Secret](t)(secrets.Update(t.Context(), made, metav1.UpdateOptions{}))
	made.StringData = map[string]string{"a": "newer"}
	if _, err := secrets.Update(t.Context(), made, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a change of an immutable secret: %v", err)
	}
	list := must[*corev1.SecretList](t)(secrets.List(t.Context(), metav1.ListOptions{FieldSelector: "type=Opaque"}))
	if len(list.Items) != 1 {
		t.Errorf("%d opaque secrets", len(list.Items))
	}
}

func TestGenerationsCountChangesOfTheSpec(t *testing.T) {
	client, _ := start(t)
	deployments := client.AppsV1().Deployments("default")
	var d appsv1.Deployment
	if err := json.Unmarshal([]byte(manifest), &d); err != nil {
		t.Fatal(err)
	}
	d.Generation = 9
	got := must[*appsv1.Deployment](t)(deployments.Create(t.Context(), &d, metav1.CreateOptions{}))
	for _, step := range []struct {
		change func()
		want   int64
	}{
		{func() {}, 1},
		{func() { got.Labels = map[string]string{"a": "b"} }, 1},
		{func() { got.Annotations = map[string]string{"a": "b"} }, 2},
		{func() { got.Spec.Paused = true }, 3},
		{func() { got.Status.Replicas = 9 }, 3},
	} {
		step.change()
		got = must[*appsv1.Deployment](t)(deployments.Update(t.Context(), got, metav1.UpdateOptions{}))
		if got.Generation != step.want {
			t.Errorf("generation %d, want %d", got.Generation, step.want)
		}
	}
	got.Labels["a"] = "c"
	got.Status.Replicas = 3
	got = must[*appsv1.Deployment](t)(deployments.UpdateStatus(t.Context(), got, metav1.UpdateOptions{}))
	if got.Status.Replicas != 3 || got.Labels["a"] != "b" || got.Generation != 3 {
		t.Errorf("after a status update: %d replicas, labels %v, generation %d", got.Status.Replicas, got.Labels, got.Generation)
	}
}
