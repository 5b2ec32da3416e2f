package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

func plain() runtime.NegotiatedSerializer { return scheme.Codecs.WithoutConversion() }

func configMaps(t *testing.T, client kubernetes.Interface, n int) {
	t.Helper()
	for i := range n {
		must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m%02d", i), Labels: map[string]string{"odd": fmt.Sprint(i%2 == 1)}},
		}, metav1.CreateOptions{}))
	}
}

func TestPaging(t *testing.T) {
	client, _ := start(t)
	configMaps(t, client, 25)
	var names []string
	options := metav1.ListOptions{Limit: 10}
	pages := 0
	for {
		list := must[*corev1.ConfigMapList](t)(client.CoreV1().ConfigMaps("default").List(t.Context(), options))
		pages++
		for _, m := range list.Items {
			names = append(names, m.Name)
		}
		if pages == 1 {
			if list.RemainingItemCount == nil || *list.RemainingItemCount != 15 {
				t.Errorf("remaining %v", list.RemainingItemCount)
			}
			// Pages are of one moment.
			must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m99"}}, metav1.CreateOptions{}))
		}
		if options.Continue = list.Continue; options.Continue == "" {
			break
		}
	}
	if pages != 3 || len(names) != 25 || names[24] != "m24" {
		t.Errorf("%d pages with %d names: %v", pages, len(names), names)
	}
}

func TestSelectors(t *testing.T) {
	client, _ := start(t)
	configMaps(t, client, 5)
	count := func(label, field string) int {
		t.Helper()
		return len(must[*corev1.ConfigMapList](t)(client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{LabelSelector: label, FieldSelector: field})).Items)
	}
	for _, test := range []struct {
		label, field string
		want         int
	}{
		{"odd=true", "", 2}, {"odd!=true", "", 3}, {"odd in (true,false)", "", 5}, {"!odd", "", 0},
		{"", "metadata.name=m03", 1}, {"odd=false", "metadata.name=m03", 0}, {"", "metadata.namespace!=default", 0},
	} {
		if got := count(test.label, test.field); got != test.want {
			t.Errorf("%q and %q select %d, want %d", test.label, test.field, got, test.want)
		}
	}
	_, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.colour=red"})
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "field label not supported: spec.colour") {
		t.Errorf("an unknown field: %v", err)
	}
	if err := client.CoreV1().ConfigMaps("default").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd=true"}); err != nil {
		t.Fatal(err)
	}
	if left := count("", ""); left != 3 {
		t.Errorf("%d left after deleting the odd ones", left)
	}
}

func TestAListSeesEveryWriteBefore(t *testing.T) {
	client, _ := start(t)
	var waits []time.Duration
	for i := range 30 {
		name := fmt.Sprintf("m%d", i)
		must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}))
		// A write to another resource leaves the secrets' cache behind the store.
		began := time.Now()
		must[*corev1.SecretList](t)(client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}))
		waits = append(waits, time.Since(began))
		list := must[*corev1.ConfigMapList](t)(client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}))
		if len(list.Items) != i+1 {
			t.Fatalf("%d objects after creating %d", len(list.Items), i+1)
		}
	}
	// Unasked, the store tells its caches every 100 ms only how far it is, and where
	// nothing else happens all lists but the first take that long (that it is asked, a
	// test of the store holds). A busy machine makes many slow, not all.
	slices.Sort(waits)
	if quick := waits[len(waits)/10]; quick > 50*time.Millisecond {
		t.Errorf("the quickest lists right after a write to another resource take %v", waits[:len(waits)/10+1])
	}
}

// next returns the next event of w, or ends the test.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case event, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return event
	case <-time.After(20 * time.Second):
		t.Fatal("no event came")
	}
	panic("unreachable")
}

func TestWatch(t *testing.T) {
	client, _ := start(t)
	maps := client.CoreV1().ConfigMaps("default")
	configMaps(t, client, 1)
	list := must[*corev1.ConfigMapList](t)(maps.List(t.Context(), metav1.ListOptions{}))
	w := must[watch.Interface](t)(maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion, LabelSelector: "odd"}))
	defer w.Stop()
	patch := func(body string) {
		t.Helper()
		must[*corev1.ConfigMap](t)(maps.Patch(t.Context(), "m00", types.MergePatchType, []byte(body), metav1.PatchOptions{}))
	}
	patch(`{"data":{"k":"v"}}`)
	patch(`{"metadata":{"labels":{"odd":null}}}`)  // leaves the selection
	patch(`{"metadata":{"labels":{"odd":"yes"}}}`) // and comes back
	if err := maps.Delete(t.Context(), "m00", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []watch.EventType{watch.Modified, watch.Deleted, watch.Added, watch.Deleted} {
		if event := next(t, w); event.Type != want {
			t.Errorf("event %s, want %s", event.Type, want)
		}
	}
	old := must[watch.Interface](t)(maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion}))
	defer old.Stop()
	if event := next(t, old); event.Type != watch.Modified {
		t.Errorf("a watch from the past begins with %s", event.Type)
	}
}

func TestWatchBeginsWithWhatIsThere(t *testing.T) {
	client, _ := start(t)
	configMaps(t, client, 3)
	yes := true
	w := must[watch.Interface](t)(client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	}))
	defer w.Stop()
	for range 3 {
		if event := next(t, w); event.Type != watch.Added {
			t.Errorf("event %s, want what is there", event.Type)
		}
	}
	mark := next(t, w)
	if mark.Type != watch.Bookmark || mark.Object.(*corev1.ConfigMap).Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Errorf("after what is there came %s", mark.Type)
	}
}

func TestWatchesEndWithTheirClient(t *testing.T) {
	client, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := must[watch.Interface](t)(client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{}))
	cancel()
	select {
	case <-w.ResultChan():
	case <-time.After(20 * time.Second):
		t.Fatal("the watch goes on without its client")
	}
}

func TestNamespaceLife(t *testing.T) {
	client, _ := start(t)
	namespaces := client.CoreV1().Namespaces()
	made := must[*corev1.Namespace](t)(namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}))
	if made.Labels["kubernetes.io/metadata.name"] != "team" || made.Spec.Finalizers[0] != corev1.FinalizerKubernetes {
		t.Errorf("made %+v, %+v", made.Labels, made.Spec)
	}
	create := func(namespace string) error {
		_, err := client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "c-"}}, metav1.CreateOptions{})
		return err
	}
	if err := create("team"); err != nil {
		t.Fatal(err)
	}
	if err := create("nowhere"); !apierrors.IsNotFound(err) || err.Error() != `namespaces "nowhere" not found` {
		t.Errorf("an object in no namespace: %v", err)
	}
	if err := namespaces.Delete(t.Context(), "default", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("deletion of default: %v", err)
	}
	if err := namespaces.Delete(t.Context(), "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	going := must[*corev1.Namespace](t)(namespaces.Get(t.Context(), "team", metav1.GetOptions{}))
	if going.Status.Phase != corev1.NamespaceTerminating || going.DeletionTimestamp == nil {
		t.Errorf("deleted namespace: %s, %v", going.Status.Phase, going.DeletionTimestamp)
	}
	err := create("team")
	if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) ||
		!strings.Contains(err.Error(), "unable to create new content in namespace team because it is being terminated") {
		t.Errorf("an object in a namespace that goes: %v", err)
	}
	foreground := metav1.DeletePropagationForeground
	must[*corev1.Namespace](t)(namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "waits"}}, metav1.CreateOptions{}))
	if err := namespaces.Delete(t.Context(), "waits", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	if waits := must[*corev1.Namespace](t)(namespaces.Get(t.Context(), "waits", metav1.GetOptions{})); !slices.Equal(waits.Finalizers, []string{"foregroundDeletion"}) {
		t.Errorf("deleted in the foreground, it has the finalizers %v", waits.Finalizers)
	}
	going.Spec.Finalizers = nil
	if same := must[*corev1.Namespace](t)(namespaces.Update(t.Context(), going, metav1.UpdateOptions{})); len(same.Spec.Finalizers) != 1 {
		t.Error("an ordinary update took the finalizer off")
	}
	going.ResourceVersion = ""
	must[*corev1.Namespace](t)(namespaces.Finalize(t.Context(), going, metav1.UpdateOptions{}))
	if _, err := namespaces.Get(t.Context(), "team", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the finalized namespace: %v", err)
	}
}

func TestDeletionTellsTheGarbageCollector(t *testing.T) {
	client, _ := start(t)
	controllers, sets := client.CoreV1().ReplicationControllers("default"), client.AppsV1().ReplicaSets("default")
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("x").Spec}
	foreground, orphan, background := metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground
	for _, test := range []struct {
		name   string
		policy *metav1.DeletionPropagation
		set    []string // the finalizers of a ReplicaSet after; nil is gone
		rc     []string // of a ReplicationController
	}{
		{"default", nil, nil, []string{"orphan"}},
		{"background", &background, nil, nil},
		{"foreground", &foreground, []string{"foregroundDeletion"}, []string{"foregroundDeletion"}},
		{"orphan", &orphan, []string{"orphan"}, []string{"orphan"}},
	} {
		meta := metav1.ObjectMeta{Name: test.name}
		must[*appsv1.ReplicaSet](t)(sets.Create(t.Context(), &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, Template: template}}, metav1.CreateOptions{}))
		must[*corev1.ReplicationController](t)(controllers.Create(t.Context(), &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{
			Selector: map[string]string{"a": "b"}, Template: &template}}, metav1.CreateOptions{}))
		options := metav1.DeleteOptions{PropagationPolicy: test.policy}
		if err := sets.Delete(t.Context(), test.name, options); err != nil {
			t.Fatal(err)
		}
		if err := controllers.Delete(t.Context(), test.name, options); err != nil {
			t.Fatal(err)
		}
		set, setErr := sets.Get(t.Context(), test.name, metav1.GetOptions{})
		rc, rcErr := controllers.Get(t.Context(), test.name, metav1.GetOptions{})
		for what, got := range map[string]struct {
			finalizers, want []string
			err              error
		}{"ReplicaSet": {set.Finalizers, test.set, setErr}, "ReplicationController": {rc.Finalizers, test.rc, rcErr}} {
			if apierrors.IsNotFound(got.err) != (got.want == nil) || fmt.Sprint(got.finalizers) != fmt.Sprint(got.want) {
				t.Errorf("%s, %s: %v, %v, want %v", test.name, what, got.finalizers, got.err, got.want)
			}
		}
	}
}

func TestEventsHaveTwoViews(t *testing.T) {
	client, _ := start(t)
	made := must[*corev1.Event](t)(client.CoreV1().Events("default").Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: "e"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"},
		Reason:         "Pulled", Message: "Image is there", Type: corev1.EventTypeNormal, Count: 3,
		Source: corev1.EventSource{Component: "agent"}, FirstTimestamp: metav1.Now(), LastTimestamp: metav1.Now(),
	}, metav1.CreateOptions{}))
	seen := must[*eventsv1.Event](t)(client.EventsV1().Events("default").Get(t.Context(), "e", metav1.GetOptions{}))
	if seen.UID != made.UID || seen.Note != made.Message || seen.Regarding.Name != "p" || seen.DeprecatedCount != 3 || seen.DeprecatedSource.Component != "agent" {
		t.Errorf("seen as %+v", seen)
	}
	regarding := must[*eventsv1.EventList](t)(client.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "regarding.name=p,reason=Pulled"}))
	involved := must[*corev1.EventList](t)(client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=p,type=Normal"}))
	if len(regarding.Items) != 1 || len(involved.Items) != 1 {
		t.Errorf("%d and %d events about the pod", len(regarding.Items), len(involved.Items))
	}
	w := must[watch.Interface](t)(client.EventsV1().Events("default").Watch(t.Context(), metav1.ListOptions{}))
	defer w.Stop()
	if event, ok := next(t, w).Object.(*eventsv1.Event); !ok || event.Note != "Image is there" {
		t.Errorf("watched %+v", event)
	}
}

// All watchers of an object are served from one copy in memory; each answer must
// carry its own kind and version all the same.
func TestWatchersOfOneObjectDoNotDisturbEachOther(t *testing.T) {
	client, config := start(t)
	direct := must[rest.Interface](t)(restClient(config))
	configMaps(t, client, 1)
	const watchers, writes = 6, 50
	var group errgroup.Group
	for i := range watchers {
		selector := ""
		if i%2 == 1 { // some through another encoder
			selector = "metadata.name=m00"
		}
		stream, err := direct.Get().AbsPath("/api/v1/configmaps").Param("watch", "1").Param("fieldSelector", selector).Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		group.Go(func() error {
			decoder := json.NewDecoder(stream)
			for range writes + 1 {
				var event struct{ Object metav1.TypeMeta }
				if err := decoder.Decode(&event); err != nil {
					return err
				}
				if event.Object.Kind != "ConfigMap" || event.Object.APIVersion != "v1" {
					return fmt.Errorf("an event of a %q of version %q", event.Object.Kind, event.Object.APIVersion)
				}
			}
			return nil
		})
	}
	for i := range writes {
		must[*corev1.ConfigMap](t)(client.CoreV1().ConfigMaps("default").Patch(t.Context(), "m00", types.MergePatchType, fmt.Appendf(nil, `{"data":{"i":"%d"}}`, i), metav1.PatchOptions{}))
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
