package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"windlass.dev/windlass/internal/condition"
)

// writeTimeout bounds one write.
const writeTimeout = 10 * time.Second

// Setup adds the scheduler to a manager; it runs while the manager leads. It
// schedules the pods whose schedulerName is default-scheduler. recorder takes
// the events Scheduled and FailedScheduling of pods. The only error is that of
// adding to the manager.
func Setup(mgr ctrl.Manager, recorder record.EventRecorder) error {
	log := mgr.GetLogger().WithName("scheduler")
	writer := &apiWriter{client: mgr.GetClient(), live: mgr.GetAPIReader(), recorder: recorder, log: log, now: time.Now}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		l := newLoop(writer, log)
		if err := l.follow(ctx, mgr.GetCache()); err != nil {
			return fmt.Errorf("scheduler: %w", err)
		}
		l.run(ctx)
		return nil
	}))
}

// follow feeds the loop from a cache. It returns once all that exists is known.
func (l *loop) follow(ctx context.Context, informers cache.Cache) error {
	nodes, err := informers.GetInformer(ctx, &corev1.Node{})
	if err != nil {
		return err
	}
	pods, err := informers.GetInformer(ctx, &corev1.Pod{})
	if err != nil {
		return err
	}
	nodesSeen, err := nodes.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { l.setNode(o.(*corev1.Node)) },
		UpdateFunc: func(_, o any) { l.setNode(o.(*corev1.Node)) },
		DeleteFunc: func(o any) {
			if n, ok := last(o).(*corev1.Node); ok {
				l.removeNode(n.Name)
			}
		},
	})
	if err != nil {
		return err
	}
	podsSeen, err := pods.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { l.setPod(o.(*corev1.Pod)) },
		UpdateFunc: func(before, after any) {
			if b, a := before.(*corev1.Pod), after.(*corev1.Pod); b.UID != a.UID {
				l.removePod(b.UID)
			}
			l.setPod(after.(*corev1.Pod))
		},
		DeleteFunc: func(o any) {
			if p, ok := last(o).(*corev1.Pod); ok {
				l.removePod(p.UID)
			}
		},
	})
	if err != nil {
		return err
	}
	namespaces, err := informers.GetInformer(ctx, &corev1.Namespace{})
	if err != nil {
		return err
	}
	namespacesSeen, err := namespaces.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { l.setNamespace(o.(*corev1.Namespace).Name, labelled(o)) },
		UpdateFunc: func(_, o any) { l.setNamespace(o.(*corev1.Namespace).Name, labelled(o)) },
		DeleteFunc: func(o any) {
			if n, ok := last(o).(*corev1.Namespace); ok {
				l.setNamespace(n.Name, nil)
			}
		},
	})
	if err != nil {
		return err
	}
	synced, err := l.followFacts(ctx, informers)
	if err != nil {
		return err
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), append(synced, nodesSeen.HasSynced, podsSeen.HasSynced, namespacesSeen.HasSynced)...) {
		return ctx.Err()
	}
	return nil
}

// labelled returns the labels of a namespace, never nil.
func labelled(namespace any) map[string]string {
	labels := maps.Clone(namespace.(*corev1.Namespace).Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	return labels
}

// last is an object that is gone, as it was last seen.
func last(o any) any {
	if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		return unknown.Obj
	}
	return o
}

// apiWriter writes the loop's decisions and tells them as events.
type apiWriter struct {
	client   client.Client
	live     client.Reader // reads past the cache
	recorder record.EventRecorder
	log      logr.Logger
	now      func() time.Time
}

// bind gives a pod its node through pods/binding. When the answer is lost, the
// pod itself is asked, until that is answered.
func (w *apiWriter) bind(ctx context.Context, pod *corev1.Pod, claims []*corev1.PersistentVolumeClaim, node string) outcome {
	if !w.same(ctx, claims) {
		return failed
	}
	err := w.assign(ctx, pod, node)
	if err != nil && !apierrors.IsNotFound(err) {
		now, readErr := w.asItIs(ctx, pod)
		switch {
		case apierrors.IsNotFound(readErr):
		case readErr != nil: // the process ends
			return failed
		case now.UID == pod.UID && now.Spec.NodeName == node:
			err = nil
		case now.UID == pod.UID && now.Spec.NodeName == "" && now.DeletionTimestamp == nil:
			w.log.Error(err, "Bind a pod", "pod", client.ObjectKeyFromObject(pod), "node", node)
			w.recorder.Eventf(pod, corev1.EventTypeWarning, "FailedScheduling", "binding to node %s: %v", node, err)
			return failed
		}
	}
	if err != nil {
		return outdated
	}
	w.recorder.Eventf(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
	return written
}

func (w *apiWriter) assign(ctx context.Context, pod *corev1.Pod, node string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return w.client.SubResource("binding").Create(ctx, pod.DeepCopy(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	})
}

// asItIs reads a pod from the API. The only errors are that it is not there and that
// ctx has ended: a pod that has its node must not be taken for one that has none, or
// others get its place.
func (w *apiWriter) asItIs(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	read := func() (*corev1.Pod, error) {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		now := &corev1.Pod{}
		return now, w.live.Get(ctx, client.ObjectKeyFromObject(pod), now)
	}
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		now, err := read()
		if err == nil || apierrors.IsNotFound(err) || ctx.Err() != nil {
			return now, err
		}
		w.log.Error(err, "Look what became of a binding", "pod", client.ObjectKeyFromObject(pod))
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// report writes the PodScheduled condition of a pod that has no node, unless
// the pod has changed since it was decided on, and tells it as an event.
func (w *apiWriter) report(ctx context.Context, pod *corev1.Pod, reason, message string) outcome {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	patch, err := conditionPatch(pod, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(w.now()),
	})
	if err != nil {
		w.log.Error(err, "Report an unschedulable pod", "pod", client.ObjectKeyFromObject(pod))
		return outdated
	}
	err = w.client.Status().Patch(ctx, pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, patch))
	switch {
	case apierrors.IsNotFound(err):
		return outdated
	case apierrors.IsConflict(err):
		return failed
	case err != nil:
		w.log.Error(err, "Report an unschedulable pod", "pod", client.ObjectKeyFromObject(pod))
		return failed
	}
	if reason == corev1.PodReasonUnschedulable {
		w.recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", message)
	}
	return written
}

// preempt says in the pod which node is being cleared for it, and deletes the
// pods that are in its way, which say why they go.
func (w *apiWriter) preempt(ctx context.Context, pod *corev1.Pod, node string, victims []*corev1.Pod) outcome {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	nominate := fmt.Appendf(nil, `{"metadata":{"uid":%q},"status":{"nominatedNodeName":%q}}`, pod.UID, node)
	if err := w.client.Status().Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, nominate)); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return outdated
		}
		w.log.Error(err, "Nominate a node", "pod", client.ObjectKeyFromObject(pod), "node", node)
		return failed
	}
	came := written
	for _, victim := range victims {
		if err := w.remove(ctx, victim); err != nil {
			w.log.Error(err, "Preempt a pod", "pod", client.ObjectKeyFromObject(victim), "for", client.ObjectKeyFromObject(pod))
			came = failed
			continue
		}
		w.recorder.Eventf(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %s on node %s", pod.UID, node)
	}
	return came
}

func (w *apiWriter) remove(ctx context.Context, victim *corev1.Pod) error {
	patch, err := conditionPatch(victim, condition.Disrupted("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod", w.now()))
	if err != nil {
		return err
	}
	err = w.client.Status().Patch(ctx, victim.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, patch))
	if err != nil && !apierrors.IsConflict(err) { // one that has changed meanwhile goes without saying why
		return client.IgnoreNotFound(err)
	}
	err = w.client.Delete(ctx, victim.DeepCopy(), client.Preconditions{UID: &victim.UID})
	if apierrors.IsConflict(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// conditionPatch is a strategic merge patch that sets one condition of a pod,
// and only while the pod has not changed. The time of the last transition is
// kept when the condition's status stays.
func conditionPatch(pod *corev1.Pod, c corev1.PodCondition) ([]byte, error) {
	if is := condition.Find(&pod.Status, c.Type); is != nil && is.Status == c.Status && !is.LastTransitionTime.IsZero() {
		c.LastTransitionTime = is.LastTransitionTime
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   map[string]any{"conditions": []corev1.PodCondition{c}},
	})
}
