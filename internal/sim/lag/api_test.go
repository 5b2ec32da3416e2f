package lag

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// key is an object's.
type key struct {
	kind string
	types.NamespacedName
}

// change is one write, for those who watch.
type change struct {
	at      time.Time
	kind    string
	version int
	event   watch.EventType
	object  client.Object
}

// api is an API in memory: versions, conflicts, finalizers, preconditions, and a log
// that is watched.
type api struct {
	mu      sync.Mutex
	objects map[key]client.Object
	log     []change
	more    chan struct{} // closed at each change
	version int
	random  *rand.Rand
	bound   func(pod *corev1.Pod, node string) // told of each binding, before it is
}

func newAPI(random *rand.Rand) *api {
	return &api{objects: map[key]client.Object{}, more: make(chan struct{}), random: random}
}

// draw returns a random number below n.
func (a *api) draw(n int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.random.IntN(n)
}

func kindOf(object any) string {
	name := reflect.TypeOf(object).Elem().Name()
	return strings.TrimSuffix(name, "List")
}

func keyOf(o client.Object) key { return key{kindOf(o), client.ObjectKeyFromObject(o)} }

func typeOf(k key) schema.GroupResource {
	return schema.GroupResource{Resource: strings.ToLower(k.kind)}
}

// find returns the object of that kind and name as it is; a is locked.
func (a *api) find(o client.Object) (key, client.Object, error) {
	k := keyOf(o)
	is, ok := a.objects[k]
	if !ok {
		return k, nil, apierrors.NewNotFound(typeOf(k), k.Name)
	}
	return k, is, nil
}

// store keeps an object as it is from now on; a is locked.
func (a *api) store(event watch.EventType, o client.Object) {
	a.version++
	o.SetResourceVersion(fmt.Sprint(a.version))
	k := keyOf(o)
	if event == watch.Deleted {
		delete(a.objects, k)
	} else {
		a.objects[k] = o
	}
	a.log = append(a.log, change{at: time.Now(), kind: k.kind, version: a.version, event: event, object: o})
	close(a.more)
	a.more = make(chan struct{})
}

func (a *api) get(k key, into client.Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok := a.objects[k]
	if !ok {
		return apierrors.NewNotFound(typeOf(k), k.Name)
	}
	copyInto(o, into)
	return nil
}

func copyInto(from, into client.Object) {
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from.DeepCopyObject()).Elem())
}

// list fills a list, in the order of the names.
func (a *api) list(into client.ObjectList, options *client.ListOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	kind := kindOf(into)
	metadata, part := into.(*metav1.PartialObjectMetadataList)
	if part {
		kind = strings.TrimSuffix(metadata.Kind, "List")
	}
	items := reflect.ValueOf(into).Elem().FieldByName("Items")
	items.SetZero()
	for k, o := range a.objects {
		if k.kind != kind || options.Namespace != "" && k.Namespace != options.Namespace {
			continue
		}
		if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(o.GetLabels())) {
			continue
		}
		if o = o.DeepCopyObject().(client.Object); part {
			o = &metav1.PartialObjectMetadata{ObjectMeta: reflect.ValueOf(o).Elem().FieldByName("ObjectMeta").Interface().(metav1.ObjectMeta)}
		}
		items.Set(reflect.Append(items, reflect.ValueOf(o).Elem()))
	}
	into.SetResourceVersion(fmt.Sprint(a.version))
	return nil
}

func (a *api) create(o client.Object) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.GetName() == "" {
		o.SetName(fmt.Sprint(o.GetGenerateName(), a.version))
	}
	k := keyOf(o)
	if _, there := a.objects[k]; there {
		return apierrors.NewAlreadyExists(typeOf(k), k.Name)
	}
	made := o.DeepCopyObject().(client.Object)
	made.SetUID(types.UID(fmt.Sprintf("%s-%d", k.Name, a.version+1)))
	made.SetCreationTimestamp(metav1.Now())
	made.SetGeneration(1)
	switch made := made.(type) {
	case *corev1.Pod:
		made.Status.Phase = corev1.PodPending
		made.Spec.SchedulerName = corev1.DefaultSchedulerName
	case *corev1.PersistentVolumeClaim:
		made.Status.Phase = corev1.ClaimPending
		made.Finalizers = append(made.Finalizers, "kubernetes.io/pvc-protection")
	case *corev1.PersistentVolume:
		made.Status.Phase = corev1.VolumePending
		made.Finalizers = append(made.Finalizers, "kubernetes.io/pv-protection")
	}
	a.store(watch.Added, made)
	copyInto(made, o)
	return nil
}

// change writes an object: all of it but the status, or the status alone.
func (a *api) change(o client.Object, status bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changeLocked(o, status)
}

func (a *api) changeLocked(o client.Object, status bool) error {
	k := keyOf(o)
	is, ok := a.objects[k]
	switch {
	case !ok:
		return apierrors.NewNotFound(typeOf(k), k.Name)
	case o.GetUID() != "" && o.GetUID() != is.GetUID():
		return apierrors.NewConflict(typeOf(k), k.Name, fmt.Errorf("uid %s is not %s", o.GetUID(), is.GetUID()))
	case o.GetResourceVersion() != "" && o.GetResourceVersion() != is.GetResourceVersion():
		return apierrors.NewConflict(typeOf(k), k.Name, fmt.Errorf("version %s is not %s", o.GetResourceVersion(), is.GetResourceVersion()))
	}
	from, onto := o, is.DeepCopyObject().(client.Object)
	if !status {
		from, onto = is, o.DeepCopyObject().(client.Object)
		onto.SetUID(is.GetUID())
		onto.SetCreationTimestamp(is.GetCreationTimestamp())
		onto.SetDeletionTimestamp(is.GetDeletionTimestamp())
		onto.SetGeneration(is.GetGeneration())
		if !equality.Semantic.DeepEqual(field(is, "Spec"), field(onto, "Spec")) {
			onto.SetGeneration(is.GetGeneration() + 1)
		}
	}
	if to := reflect.ValueOf(onto).Elem().FieldByName("Status"); to.IsValid() {
		to.Set(reflect.ValueOf(from.DeepCopyObject()).Elem().FieldByName("Status"))
	}
	onto.SetResourceVersion(is.GetResourceVersion())
	if !equality.Semantic.DeepEqual(is, onto) {
		a.store(watch.Modified, onto)
		if onto.GetDeletionTimestamp() != nil && len(onto.GetFinalizers()) == 0 && !waitsForAgent(onto) {
			onto = onto.DeepCopyObject().(client.Object)
			a.store(watch.Deleted, onto)
		}
	}
	copyInto(onto, o)
	return nil
}

func field(o client.Object, name string) any {
	if f := reflect.ValueOf(o).Elem().FieldByName(name); f.IsValid() {
		return f.Interface()
	}
	return nil
}

// waitsForAgent says whether an object is a pod that its node has to end.
func waitsForAgent(o client.Object) bool {
	pod, is := o.(*corev1.Pod)
	return is && pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded
}

func (a *api) remove(o client.Object, options *client.DeleteOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, is, err := a.find(o)
	if err != nil {
		return err
	}
	if must := options.Preconditions; must != nil {
		if must.UID != nil && *must.UID != is.GetUID() || must.ResourceVersion != nil && *must.ResourceVersion != is.GetResourceVersion() {
			return apierrors.NewConflict(typeOf(k), k.Name, fmt.Errorf("precondition failed"))
		}
	}
	gone := is.DeepCopyObject().(client.Object)
	now := metav1.Now()
	force := options.GracePeriodSeconds != nil && *options.GracePeriodSeconds == 0
	if len(gone.GetFinalizers()) > 0 || waitsForAgent(gone) && !force {
		if gone.GetDeletionTimestamp() == nil {
			gone.SetDeletionTimestamp(&now)
			a.store(watch.Modified, gone)
		}
		return nil
	}
	a.store(watch.Deleted, gone)
	return nil
}

// patch changes an object as a patch says.
func (a *api) patch(o client.Object, patch client.Patch, status bool) error {
	data, err := patch.Data(o)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, is, err := a.find(o)
	if err != nil {
		return err
	}
	before, err := json.Marshal(is)
	if err != nil {
		return err
	}
	var after []byte
	if patch.Type() == types.StrategicMergePatchType {
		after, err = strategicpatch.StrategicMergePatch(before, data, is)
	} else {
		after, err = merge(before, data)
	}
	if err != nil {
		return err
	}
	changed := reflect.New(reflect.TypeOf(o).Elem()).Interface().(client.Object)
	if err := json.Unmarshal(after, changed); err != nil {
		return err
	}
	if err := a.changeLocked(changed, status); err != nil {
		return err
	}
	copyInto(changed, o)
	return nil
}

// bind gives a pod its node.
func (a *api) bind(b *corev1.Binding) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := key{"Pod", client.ObjectKeyFromObject(b)}
	is, ok := a.objects[k].(*corev1.Pod)
	switch {
	case !ok:
		return apierrors.NewNotFound(typeOf(k), k.Name)
	case is.UID != b.UID, is.DeletionTimestamp != nil, is.Spec.NodeName != "":
		return apierrors.NewConflict(typeOf(k), k.Name, fmt.Errorf("another, going, or already bound to %q", is.Spec.NodeName))
	}
	a.bound(is, b.Target.Name)
	pod := is.DeepCopy()
	pod.Spec.NodeName = b.Target.Name
	a.store(watch.Modified, pod)
	return nil
}

// merge applies a JSON merge patch.
func merge(before, patch []byte) ([]byte, error) {
	var b, p any
	if err := errors.Join(json.Unmarshal(before, &b), json.Unmarshal(patch, &p)); err != nil {
		return nil, err
	}
	return json.Marshal(merged(b, p))
}

func merged(before, patch any) any {
	p, is := patch.(map[string]any)
	if !is {
		return patch
	}
	b, is := before.(map[string]any)
	if !is {
		b = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(b, k)
		} else {
			b[k] = merged(b[k], v)
		}
	}
	return b
}
