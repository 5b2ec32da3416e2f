package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// newClient returns a controller-runtime client, as the parts in the process have.
func newClient(t testing.TB, config *rest.Config) client.WithWatch {
	t.Helper()
	kinds := runtime.NewScheme()
	if err := scheme.AddToScheme(kinds); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(kinds); err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: kinds})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rolloutRecord(name string) *v1alpha1.RolloutRecord {
	return &v1alpha1.RolloutRecord{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{v1alpha1.LabelTargetName: "httpd"}},
		Spec: v1alpha1.RolloutRecordSpec{
			Target:    v1alpha1.RolloutTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "httpd", UID: "u"},
			Revision:  2,
			To:        v1alpha1.RolloutSide{Name: name, Images: []string{"httpd:2.2.32"}},
			Cause:     "image httpd 2.2.31 → 2.2.32",
			StartedAt: metav1.NewMicroTime(time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)),
		},
	}
}

// TestRolloutRecordsInProcess holds that the clients of the parts in this process can do
// with our kind what they can with Kubernetes' own, while those stay protobuf.
func TestRolloutRecordsInProcess(t *testing.T) {
	config := apiservertest.Start(t)
	c, ctx := newClient(t, config), t.Context()
	watching, err := c.Watch(ctx, &v1alpha1.RolloutRecordList{}, client.InNamespace("default"))
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Stop()

	record := rolloutRecord("httpd-2")
	record.Status.Phase = v1alpha1.RolloutFailed
	if err := c.Create(ctx, record); err != nil {
		t.Fatal(err)
	}
	if record.UID == "" || record.Generation != 1 || record.Status.Phase != "" {
		t.Errorf("made %+v", record)
	}
	if event := next(t, watching); event.Object.(*v1alpha1.RolloutRecord).Spec.Cause != record.Spec.Cause {
		t.Errorf("watched %+v", event.Object)
	}

	before := record.DeepCopy()
	record.Status.Phase, record.Status.Replicas = v1alpha1.RolloutProgressing, 3
	record.Spec.Cause, record.Labels, record.OwnerReferences = "ignored", nil, []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "x", UID: "y"}}
	if err := c.Status().Update(ctx, record); err != nil {
		t.Fatal(err)
	}
	if record.Status.Replicas != 3 || record.Spec.Cause != before.Spec.Cause || record.Labels == nil || record.OwnerReferences != nil || record.Generation != 1 {
		t.Errorf("after an update of the status: %+v", record)
	}

	// Each node's proxy writes its own entry, at no version, and none of the others' is lost.
	for _, node := range []string{"a", "b"} {
		patch := fmt.Appendf(nil, `{"status":{"traffic":{%q:{"connections":5,"refused":1,"reset":0}}}}`, node)
		if err := c.Status().Patch(ctx, rolloutRecord("httpd-2"), client.RawPatch(types.MergePatchType, patch)); err != nil {
			t.Fatal(err)
		}
	}
	record.Status.Phase = v1alpha1.RolloutCompleted
	if err := c.Status().Update(ctx, record); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v", err)
	}
	change := before.DeepCopy()
	change.Status.Phase, before.Status.Phase = v1alpha1.RolloutCompleted, v1alpha1.RolloutProgressing
	if err := c.Status().Patch(ctx, change, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	if sum, _ := change.Status.Count(); sum.Connections != 10 || change.Status.Phase != v1alpha1.RolloutCompleted || change.Status.Replicas != 3 {
		t.Errorf("after the patches: %+v", change.Status)
	}

	change.Spec.Cause, change.Spec.CauseComputed = "better words", false
	if err := c.Update(ctx, change); err != nil || change.Generation != 2 {
		t.Errorf("a cause given later: %v, generation %d", err, change.Generation)
	}
	change.Spec.Revision = 9
	if err := c.Update(ctx, change); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.revision") {
		t.Errorf("another revision: %v", err)
	}
	if err := c.Delete(ctx, change, client.Preconditions{UID: &change.UID}); err != nil {
		t.Error(err)
	}
	for event := next(t, watching); event.Type != "DELETED"; event = next(t, watching) {
		if event.Type != "MODIFIED" {
			t.Fatalf("event %s", event.Type)
		}
	}
	must[*corev1.Namespace](t)(func() (*corev1.Namespace, error) {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "builtin"}}
		return n, c.Create(ctx, n)
	}())
}

func TestRolloutRecordsOfSelection(t *testing.T) {
	config := apiservertest.Start(t)
	c, ctx := newClient(t, config), t.Context()
	for i, target := range []string{"httpd", "httpd", "web"} {
		record := rolloutRecord(fmt.Sprintf("%s-%d", target, i+1))
		record.Spec.Target.Name, record.Labels[v1alpha1.LabelTargetName] = target, target
		if err := c.Create(ctx, record); err != nil {
			t.Fatal(err)
		}
	}
	one := rolloutRecord("httpd-1")
	if err := c.Status().Patch(ctx, one, client.RawPatch(types.MergePatchType, []byte(`{"status":{"phase":"Failed"}}`))); err != nil {
		t.Fatal(err)
	}
	count := func(options ...client.ListOption) int {
		t.Helper()
		var list v1alpha1.RolloutRecordList
		if err := c.List(ctx, &list, options...); err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	byField := func(selector string) client.MatchingFieldsSelector {
		return client.MatchingFieldsSelector{Selector: fields.ParseSelectorOrDie(selector)}
	}
	for want, options := range map[int][]client.ListOption{
		3: {client.InNamespace("default")},
		2: {client.MatchingLabels{v1alpha1.LabelTargetName: "httpd"}},
		1: {byField("status.phase=Failed")},
		0: {byField("spec.target.name=web"), client.MatchingLabels{v1alpha1.LabelTargetName: "httpd"}},
	} {
		if got := count(options...); got != want {
			t.Errorf("%v selects %d, want %d", options, got, want)
		}
	}
	if err := c.DeleteAllOf(ctx, &v1alpha1.RolloutRecord{}, client.InNamespace("default"), byField("spec.target.name=httpd")); err != nil {
		t.Fatal(err)
	}
	if left := count(); left != 1 {
		t.Errorf("%d left", left)
	}
}

// TestRolloutRecordsInCaches holds that a controller's cache and one of metadata alone, as
// the garbage collector has, follow our kind.
func TestRolloutRecordsInCaches(t *testing.T) {
	config := apiservertest.Start(t)
	c, ctx := newClient(t, config), t.Context()
	cached, err := cache.New(config, cache.Options{Scheme: c.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- cached.Start(ctx) }()
	defer func() { cancel(); <-ended }()
	if err := c.Create(ctx, rolloutRecord("httpd-2")); err != nil {
		t.Fatal(err)
	}
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("RolloutRecord"))
	for _, obj := range []client.Object{&v1alpha1.RolloutRecord{}, meta} {
		deadline := time.Now().Add(30 * time.Second)
		for err := cached.Get(ctx, client.ObjectKey{Namespace: "default", Name: "httpd-2"}, obj); err != nil; err = cached.Get(ctx, client.ObjectKey{Namespace: "default", Name: "httpd-2"}, obj) {
			if time.Now().After(deadline) {
				t.Fatalf("%T: %v", obj, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if obj.GetUID() == "" {
			t.Errorf("cached %+v", obj)
		}
	}
}

// TestRolloutRecordsHaveNoProtobuf holds that clients are told so in the ways in which
// Kubernetes tells them of kinds that are not its own.
func TestRolloutRecordsHaveNoProtobuf(t *testing.T) {
	config := apiservertest.Start(t)
	if err := newClient(t, config).Create(t.Context(), rolloutRecord("httpd-2")); err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/apis/windlass.dev/v1alpha1/namespaces/default/rolloutrecords"
	for _, test := range []struct {
		method, path, accept, contentType string
		status                            int
		want                              string
	}{
		{http.MethodGet, path, "application/vnd.kubernetes.protobuf", "", http.StatusNotAcceptable, "application/json"},
		{http.MethodGet, path, "application/vnd.kubernetes.protobuf,application/json", "", http.StatusOK, `"kind":"RolloutRecordList"`},
		{http.MethodGet, path + "/httpd-2", "application/vnd.kubernetes.protobuf, */*", "", http.StatusOK, `"kind":"RolloutRecord"`},
		{http.MethodGet, path + "/httpd-2", "application/yaml", "", http.StatusOK, "kind: RolloutRecord"},
		{http.MethodGet, path, "application/json;as=Table;v=v1;g=meta.k8s.io", "", http.StatusOK, `"deployment/httpd"`},
		{http.MethodGet, path + "/httpd-2", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "", http.StatusOK, "PartialObjectMetadata"},
		{http.MethodPost, path, "application/json", "application/vnd.kubernetes.protobuf", http.StatusUnsupportedMediaType, "application/json"},
		{http.MethodGet, "/apis/windlass.dev/v1alpha1", "application/json", "", http.StatusOK, `"shortNames":["rr"]`},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, config.Host+test.path, strings.NewReader("k8s\x00"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", test.accept)
		if test.contentType != "" {
			request.Header.Set("Content-Type", test.contentType)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || !strings.Contains(string(body), test.want) {
			t.Errorf("%s %s, accepting %q: %d, %v, want %d and %q in\n%s", test.method, test.path, test.accept, response.StatusCode, err, test.status, test.want, body)
		}
	}
}

// TestRolloutRecordsServerSideApply holds that records are applied as other kinds are,
// although who set which field is not followed before.
func TestRolloutRecordsServerSideApply(t *testing.T) {
	config := apiservertest.Start(t)
	c, ctx := newClient(t, config), t.Context()
	apply := func(name, manager, cause string) (*v1alpha1.RolloutRecord, error) {
		record := rolloutRecord(name)
		record.Spec.Cause = cause
		body := must[[]byte](t)(json.Marshal(map[string]any{
			"apiVersion": v1alpha1.GroupVersion.String(), "kind": "RolloutRecord", "metadata": map[string]any{"name": name}, "spec": record.Spec}))
		got := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
		return got, c.Patch(ctx, got, client.RawPatch(types.ApplyPatchType, body), client.FieldOwner(manager))
	}
	if made := must[*v1alpha1.RolloutRecord](t)(apply("httpd-2", "one", "this")); made.Spec.Cause != "this" || made.Generation != 1 || len(made.ManagedFields) != 1 {
		t.Errorf("applied %+v", made)
	}
	if changed := must[*v1alpha1.RolloutRecord](t)(apply("httpd-2", "one", "that")); changed.Spec.Cause != "that" {
		t.Errorf("applied again %+v", changed.Spec)
	}
	if _, err := apply("httpd-2", "two", "other"); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "one": .spec.cause`) {
		t.Errorf("conflict: %v", err)
	}

	record := rolloutRecord("httpd-3")
	if err := c.Create(ctx, record); err != nil {
		t.Fatal(err)
	}
	record.Status.Phase = v1alpha1.RolloutProgressing
	if err := c.Status().Update(ctx, record); err != nil || len(record.ManagedFields) != 0 {
		t.Errorf("created and updated: %v, %v", err, record.ManagedFields)
	}
	if _, err := apply("httpd-3", "one", "this"); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "before-first-apply"`) {
		t.Errorf("conflict: %v", err)
	}
	if applied := must[*v1alpha1.RolloutRecord](t)(apply("httpd-3", "one", record.Spec.Cause)); len(applied.ManagedFields) != 2 || applied.Status.Phase != v1alpha1.RolloutProgressing {
		t.Errorf("applied %+v", applied)
	}
}
