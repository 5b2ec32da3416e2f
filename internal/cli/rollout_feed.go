package cli

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rolloutview"
)

// feed follows a workload with its sets, pods and records.
type feed struct {
	cache   cache.Cache
	target  target
	key     client.ObjectKey
	changed chan struct{} // something is new
	records bool          // this cluster keeps records
	close   func()        // ends it
}

// openFeed begins to follow a workload, and returns once everything that there is
// of it is known.
func openFeed(ctx context.Context, conn *connection, target target) (*feed, error) {
	key := client.ObjectKey{Namespace: conn.namespace, Name: target.name}
	object := target.object()
	if err := conn.client.Get(ctx, key, object); err != nil {
		return nil, err
	}
	of, sets := selectorOf(object), client.Object(&appsv1.ReplicaSet{})
	if target.kind == kindStatefulSet {
		sets = &appsv1.ControllerRevision{}
	}
	selector, err := metav1.LabelSelectorAsSelector(of)
	if err != nil {
		return nil, fmt.Errorf("%s: selector: %w", target, err)
	}
	// not by their labels: a name may be longer than a label's value
	targets := fields.Set{"spec.target.kind": target.groupKind().Kind, "spec.target.name": target.name}.AsSelector()
	f := &feed{target: target, key: key, changed: make(chan struct{}, 1)}
	kinds := map[client.Object]cache.ByObject{
		target.object(): {Field: fields.OneTermEqualSelector("metadata.name", target.name)},
		sets:            {Label: selector},
		&corev1.Pod{}:   {Label: selector},
	}
	_, err = conn.mapper.RESTMapping(v1alpha1.GroupVersion.WithKind("RolloutRecord").GroupKind())
	if f.records = err == nil; f.records {
		kinds[&v1alpha1.RolloutRecord{}] = cache.ByObject{Field: targets}
	} else if !meta.IsNoMatchError(err) {
		return nil, err
	}
	f.cache, err = cache.New(conn.config, cache.Options{
		Scheme: conn.scheme, Mapper: conn.mapper, ByObject: kinds, DefaultNamespaces: map[string]cache.Config{conn.namespace: {}},
	})
	if err != nil {
		return nil, err
	}
	return f, f.start(ctx, kinds)
}

// start runs the watches until close is called or ctx ends.
func (f *feed) start(ctx context.Context, kinds map[client.Object]cache.ByObject) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.cache.Start(ctx) // it ends with ctx, and tries again until then
	}()
	f.close = func() { cancel(); <-ended }
	poke := toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { f.poke() }, UpdateFunc: func(any, any) { f.poke() }, DeleteFunc: func(any) { f.poke() },
	}
	for kind := range kinds {
		informer, err := f.cache.GetInformer(ctx, kind)
		if err == nil {
			_, err = informer.AddEventHandler(poke)
		}
		if err != nil {
			f.close()
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	if !f.cache.WaitForCacheSync(ctx) {
		f.close()
		return fmt.Errorf("watch %s: %w", f.target, context.Cause(ctx))
	}
	return nil
}

func (f *feed) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// facts returns what is known now. A workload that is gone is an error.
func (f *feed) facts(ctx context.Context) (rolloutview.Facts, error) {
	object := f.target.object()
	if err := f.cache.Get(ctx, f.key, object); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return rolloutview.Facts{}, fmt.Errorf("%s has been deleted", f.target)
		}
		return rolloutview.Facts{}, err
	}
	facts, err := readFacts(ctx, f.cache, object, client.UnsafeDisableDeepCopy)
	if err == nil && f.records {
		var records v1alpha1.RolloutRecordList
		err = f.cache.List(ctx, &records, client.UnsafeDisableDeepCopy)
		facts.Records = records.Items
	}
	return facts, err
}

func selectorOf(object client.Object) *metav1.LabelSelector {
	if set, is := object.(*appsv1.StatefulSet); is {
		return set.Spec.Selector
	}
	return object.(*appsv1.Deployment).Spec.Selector
}

// readFacts reads the sets, or revisions, and the pods of a workload. What it
// returns must not be changed.
func readFacts(ctx context.Context, from client.Reader, object client.Object, options ...client.ListOption) (rolloutview.Facts, error) {
	selector, err := metav1.LabelSelectorAsSelector(selectorOf(object))
	if err != nil {
		return rolloutview.Facts{}, fmt.Errorf("selector: %w", err)
	}
	options = append(options, client.InNamespace(object.GetNamespace()), client.MatchingLabelsSelector{Selector: selector})
	var pods corev1.PodList
	if err := from.List(ctx, &pods, options...); err != nil {
		return rolloutview.Facts{}, err
	}
	set, is := object.(*appsv1.StatefulSet)
	if !is {
		var sets appsv1.ReplicaSetList
		err := from.List(ctx, &sets, options...)
		return rolloutview.Facts{Deployment: object.(*appsv1.Deployment), Sets: sets.Items, Pods: pods.Items}, err
	}
	var list appsv1.ControllerRevisionList
	if err := from.List(ctx, &list, options...); err != nil {
		return rolloutview.Facts{}, err
	}
	return rolloutview.OfStatefulSet(set, list.Items, pods.Items), nil
}

// settling waits until a rollout that has ended is told completely: its record has
// the outcome, its old pods are gone, the last of the traffic has been counted.
type settling struct {
	overSince, quietSince time.Time
}

const (
	settleQuiet = 500 * time.Millisecond
	settleLimit = 4 * time.Second

	// settleTraffic is how long after the outcome the proxies may take to write
	// the last of their counts.
	settleTraffic = 2500 * time.Millisecond
)

// done says whether nothing more is to be expected, and else when to look again.
// It is told of every look, with whether the rollout has ended and whether
// something had changed.
func (s *settling) done(r *rolloutview.Rollout, ended, changed bool, now time.Time) (bool, time.Duration) {
	if !ended {
		*s = settling{}
		return false, time.Second
	}
	if s.overSince.IsZero() {
		s.overSince, s.quietSince = now, now
	}
	if changed {
		s.quietSince = now
	}
	quiet := r.Record != nil && r.Phase.Over() && (r.Old == 0 || r.Phase != v1alpha1.RolloutCompleted)
	if quiet && len(r.Record.Spec.Services) > 0 && now.Sub(s.overSince) < settleTraffic {
		ended := r.Record.Status.EndedAt
		quiet = ended != nil && now.Sub(ended.Time) >= settleTraffic
	}
	if now.Sub(s.overSince) >= settleLimit || quiet && now.Sub(s.quietSince) >= settleQuiet {
		return true, 0
	}
	return false, settleQuiet
}
