package rolloutrecord

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/loop"
	"windlass.dev/windlass/internal/rollout"
)

// switcher keeps the records of Services.
type switcher struct {
	client client.Client // reads from the cache
	writer writer
	now    func() time.Time

	mu       sync.Mutex
	services map[types.NamespacedName]*switching
}

// switching is what is remembered of a Service.
type switching struct {
	was       map[string]string // the selector before the first change that is not decided about
	changedAt time.Time
	open      bool                               // a switch goes on
	records   map[string]*v1alpha1.RolloutRecord // as written last, by name, until the cache has them so
}

func newSwitcher(c client.Client, w writer, now func() time.Time) *switcher {
	return &switcher{client: c, writer: w, now: now, services: map[types.NamespacedName]*switching{}}
}

// of returns what is remembered of a Service. The lock is held.
func (s *switcher) of(service types.NamespacedName) *switching {
	n := s.services[service]
	if n == nil {
		n = &switching{records: map[string]*v1alpha1.RolloutRecord{}}
		s.services[service] = n
	}
	return n
}

// onService notes the selector that a Service had.
func (s *switcher) onService() handler.EventHandler {
	return loop.Events[*corev1.Service]{
		Created: func(_ context.Context, service *corev1.Service, q loop.Queue) { loop.Wake(q, loop.For(service)) },
		Updated: func(_ context.Context, before, after *corev1.Service, q loop.Queue) {
			if before.UID != after.UID || maps.Equal(before.Spec.Selector, after.Spec.Selector) {
				return
			}
			s.noteSelector(client.ObjectKeyFromObject(after), before.Spec.Selector)
			loop.Wake(q, loop.For(after))
		},
		Deleted: func(_ context.Context, service *corev1.Service, _ loop.Queue) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.services, client.ObjectKeyFromObject(service))
		},
	}.Handler()
}

func (s *switcher) noteSelector(service types.NamespacedName, was map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.of(service); n.was == nil && len(was) > 0 {
		n.was, n.changedAt = was, s.now()
	}
}

// onSlice wakes the Service of a slice while a switch goes on.
func (s *switcher) onSlice() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, slice client.Object) []reconcile.Request {
		service := types.NamespacedName{Namespace: slice.GetNamespace(), Name: slice.GetLabels()[discoveryv1.LabelServiceName]}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.services[service]; n == nil || !n.open {
			return nil
		}
		return []reconcile.Request{{NamespacedName: service}}
	})
}

// Reconcile looks at a Service, decides about its records, and writes them.
func (s *switcher) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	facts, err := s.look(ctx, request.NamespacedName)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	plan := DecideSwitch(facts)
	if err := s.carryOut(ctx, request.NamespacedName, plan, facts); err != nil {
		return ctrl.Result{}, err
	}
	switch {
	case plan.Create != nil:
		return ctrl.Result{RequeueAfter: time.Millisecond}, nil
	case plan.Unclear:
		return ctrl.Result{RequeueAfter: beat}, nil
	}
	return ctrl.Result{}, nil
}

// look reads all that a decision rests on. It returns a not-found error when
// there is no such Service.
func (s *switcher) look(ctx context.Context, key types.NamespacedName) (SwitchFacts, error) {
	f := SwitchFacts{Service: &corev1.Service{}, Ready: map[types.UID]int32{}}
	if err := s.client.Get(ctx, key, f.Service, client.UnsafeDisableDeepCopy); err != nil {
		return f, err
	}
	var records v1alpha1.RolloutRecordList
	if err := s.client.List(ctx, &records, client.InNamespace(key.Namespace), client.MatchingFields{targetIndex: string(f.Service.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return f, fmt.Errorf("list records: %w", err)
	}
	for i := range records.Items {
		f.Records = append(f.Records, &records.Items[i])
	}
	s.tell(key, &f)
	if f.Was == nil && len(f.Records) == 0 {
		return f, nil // there is nothing to decide
	}
	var err error
	if f.Controllers, err = s.controllers(ctx, key.Namespace); err != nil {
		return f, err
	}
	return f, s.countEndpoints(ctx, key, f.Ready)
}

func (s *switcher) controllers(ctx context.Context, namespace string) (all []Controller, err error) {
	var sets appsv1.ReplicaSetList
	var replicators corev1.ReplicationControllerList
	err = errors.Join(
		s.client.List(ctx, &sets, client.InNamespace(namespace), client.UnsafeDisableDeepCopy),
		s.client.List(ctx, &replicators, client.InNamespace(namespace), client.UnsafeDisableDeepCopy))
	if err != nil {
		return nil, fmt.Errorf("list controllers: %w", err)
	}
	for i := range sets.Items {
		rs := &sets.Items[i]
		c := Controller{Name: rs.Name, UID: rs.UID, Group: rs.UID, Revision: rollout.RevisionOf(rs), Replicas: ptr.Deref(rs.Spec.Replicas, 1), Template: &rs.Spec.Template}
		if owner := metav1.GetControllerOfNoCopy(rs); owner != nil {
			c.Group = owner.UID
		}
		all = append(all, c)
	}
	for i := range replicators.Items {
		if rc := &replicators.Items[i]; rc.Spec.Template != nil {
			all = append(all, Controller{Name: rc.Name, UID: rc.UID, Group: rc.UID, Replicas: ptr.Deref(rc.Spec.Replicas, 1), Template: rc.Spec.Template})
		}
	}
	return all, nil
}

// countEndpoints counts the pods that are ready endpoints, by their controllers.
func (s *switcher) countEndpoints(ctx context.Context, service types.NamespacedName, ready map[types.UID]int32) error {
	var slices discoveryv1.EndpointSliceList
	if err := s.client.List(ctx, &slices, client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list slices: %w", err)
	}
	counted := map[string]bool{} // in the slices of another address family
	for i := range slices.Items {
		for _, e := range slices.Items[i].Endpoints {
			if !ptr.Deref(e.Conditions.Ready, true) || e.TargetRef == nil || counted[e.TargetRef.Name] {
				continue
			}
			counted[e.TargetRef.Name] = true
			var pod corev1.Pod
			err := s.client.Get(ctx, client.ObjectKey{Namespace: service.Namespace, Name: e.TargetRef.Name}, &pod, client.UnsafeDisableDeepCopy)
			if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("read pod: %w", err)
			}
			var of types.UID
			if owner := metav1.GetControllerOfNoCopy(&pod); owner != nil {
				of = owner.UID
			}
			ready[of]++
		}
	}
	return nil
}

// tell completes facts with what is remembered.
func (s *switcher) tell(service types.NamespacedName, f *SwitchFacts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.of(service)
	f.Was, f.ChangedAt, f.Now = n.was, n.changedAt, s.now()
	known := map[string]bool{}
	for i, record := range f.Records {
		known[record.Name] = true
		if written := n.records[record.Name]; written != nil && written.Status.Phase.Over() && !record.Status.Phase.Over() {
			f.Records[i] = written
		} else {
			delete(n.records, record.Name)
		}
	}
	for name, record := range n.records {
		if !known[name] && record.Spec.Target.UID == f.Service.UID {
			f.Records = append(f.Records, record)
		}
	}
}

// carryOut writes what was decided, and remembers it.
func (s *switcher) carryOut(ctx context.Context, service types.NamespacedName, plan SwitchPlan, f SwitchFacts) error {
	var written []*v1alpha1.RolloutRecord
	var gone []string
	var errs []error
	if plan.Create != nil {
		record, err := s.writer.create(ctx, plan.Create)
		if err != nil {
			return err // the selector that was is still remembered
		}
		if record != nil {
			written = append(written, record)
		}
	}
	for _, change := range plan.Statuses {
		err := s.writer.setStatus(ctx, service.Namespace, change.Record, &change.Status)
		if apierrors.IsNotFound(err) {
			gone = append(gone, change.Record)
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, record := range f.Records {
			if record.Name == change.Record {
				record = record.DeepCopy()
				record.Status = change.Status
				written = append(written, record)
			}
		}
	}
	for _, name := range plan.Delete {
		err := s.client.Delete(ctx, &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: name}})
		errs = append(errs, client.IgnoreNotFound(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.of(service)
	n.open = plan.Open
	if !plan.Unclear && n.changedAt.Equal(f.ChangedAt) {
		n.was = nil
	}
	for _, record := range written {
		n.records[record.Name] = record
	}
	for _, name := range gone {
		delete(n.records, name)
	}
	return errors.Join(errs...)
}
