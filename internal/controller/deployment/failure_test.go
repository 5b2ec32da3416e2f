package deployment_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/deployment"
	"windlass.dev/windlass/internal/controller/replicaset"
	"windlass.dev/windlass/internal/rollout"
)

func onFailure(policy v1alpha1.FailurePolicy) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		d.Annotations[v1alpha1.AnnotationOnFailure] = string(policy)
	}
}

// eventsOf returns the events with a reason since the last call; others are lost.
func (c *cluster) eventsOf(reason string) (out []string) {
	for len(c.events.Events) > 0 {
		if event := <-c.events.Events; strings.Contains(event, " "+reason+" ") {
			out = append(out, event)
		}
	}
	return out
}

// settlesAt waits until the Deployment's image is as wanted, and it is rolled out.
func (c *cluster) settlesAt(image string) {
	c.Helper()
	c.eventually(func() string {
		if got := c.deployment("httpd").Spec.Template.Spec.Containers[0].Image; got != image {
			return "image " + got
		}
		return ""
	})
	c.rolledOut("httpd")
}

// TestRollback: an image that nobody has; by the namespace's default the earlier
// revision comes back, while its pods serve on.
func TestRollback(t *testing.T) {
	c := newCluster(t)
	c.create(httpd(2, "httpd:1"))
	c.rolledOut("httpd")
	c.watchFewest()
	c.edit("httpd", setImage("gone:1"))
	c.eventually(func() string {
		for _, pod := range c.listPods() {
			if len(pod.Status.ContainerStatuses) > 0 {
				return ""
			}
		}
		return "no pod fails"
	})
	before := corev1.Namespace{}
	if err := c.client.Get(context.Background(), client.ObjectKey{Name: "default"}, &before); err != nil {
		t.Fatal(err)
	}
	after := before.DeepCopy()
	after.Annotations = map[string]string{v1alpha1.AnnotationOnFailure: "rollback"}
	if err := c.client.Patch(context.Background(), after, client.MergeFrom(&before)); err != nil {
		t.Fatal(err)
	}
	c.settlesAt("httpd:1")
	want(t, "history", c.history("httpd"), "REVISION CHANGE-CAUSE 2 image httpd: httpd:1 → gone:1 3 back to revision 1: ImagePullBackOff: container httpd there is no such image")
	events := c.eventsOf("DeploymentRollback")
	if len(events) != 1 || !strings.Contains(events[0], "Rolled back to revision 1, replica set httpd-") {
		t.Errorf("events %q", events)
	}
	if n := c.fewestAvailable(); n < 2 {
		t.Errorf("only %d of 2 pods were available at a time", n)
	}
	a := c.deployment("httpd").Annotations
	want(t, "failure", fmt.Sprint(a[v1alpha1.AnnotationFailedRevision], a[v1alpha1.AnnotationFailedAction]), "2rollback")
}

func (c *cluster) listPods() []corev1.Pod {
	c.Helper()
	var pods corev1.PodList
	if err := c.client.List(context.Background(), &pods, client.InNamespace("default")); err != nil {
		c.Fatal(err)
	}
	return pods.Items
}

// TestPauseOnFailure: paused by its deadline, and once only.
func TestPauseOnFailure(t *testing.T) {
	c := newCluster(t)
	d := httpd(2, "httpd:1")
	onFailure(v1alpha1.OnFailurePause)(d)
	c.create(d)
	c.rolledOut("httpd")
	c.edit("httpd", func(d *appsv1.Deployment) {
		setImage("bad")(d)
		d.Spec.ProgressDeadlineSeconds = ptr.To(int32(1))
	})
	c.eventually(func() string {
		if !c.deployment("httpd").Spec.Paused {
			return "not paused"
		}
		return ""
	})
	c.edit("httpd", func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.eventually(func() string {
		d := c.deployment("httpd")
		for _, condition := range d.Status.Conditions {
			if condition.Type == appsv1.DeploymentProgressing && condition.Reason == rollout.ReasonDeadlineExceeded && d.Status.ObservedGeneration == d.Generation {
				return ""
			}
		}
		return "the deadline has not passed again"
	})
	if c.deployment("httpd").Spec.Paused {
		t.Error("paused for the second time")
	}
	if events := c.eventsOf("RolloutFailed"); len(events) != 1 {
		t.Errorf("events %q", events)
	}
}

// mortal makes clients that do some writes and then no more, as a process does
// that dies.
type mortal struct {
	mu   sync.Mutex
	left int
	died chan struct{} // closed by the first write that is not done
}

// write does a write unless its process is dead.
func (m *mortal) write(do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	if m.left >= 0 {
		return do()
	}
	if m.left == -1 {
		close(m.died)
	}
	return errors.New("this controller is dead")
}

func (m *mortal) newClient(config *rest.Config, options client.Options) (client.Client, error) {
	inner, err := client.NewWithWatch(config, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return m.write(func() error { return c.Create(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return m.write(func() error { return c.Patch(ctx, o, patch, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return m.write(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, name string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return m.write(func() error { return c.SubResource(name).Update(ctx, o, opts...) })
		},
	}), nil
}

// revision is the one that is noted on the Deployment.
func (c *cluster) revision() int {
	c.Helper()
	n, err := strconv.Atoi(c.deployment("httpd").Annotations[rollout.AnnotationRevision])
	if err != nil {
		c.Fatal(err)
	}
	return n
}

// TestRollbackByControllersThatDie: one controller after the other dies after one
// write more; each time the next one ends what it began, with the same cause and
// at most one rollback.
func TestRollbackByControllersThatDie(t *testing.T) {
	c := newCluster(t)
	d := httpd(2, "httpd:1")
	onFailure(v1alpha1.OnFailureRollback)(d)
	c.create(d)
	c.rolledOut("httpd")
	c.watchFewest()
	c.stopControllers()
	c.startWith(client.New, func(mgr ctrl.Manager) error { return replicaset.Setup(mgr, c.events, c.events) })

	setup := func(mgr ctrl.Manager) error { return deployment.Setup(mgr, c.events) }
	for writes, dies := 0, true; dies; writes++ {
		m := &mortal{left: writes, died: make(chan struct{})}
		stop := c.startWith(m.newClient, setup)
		failed := c.revision() + 1
		c.edit("httpd", setImage(fmt.Sprintf("gone:%d", writes)))
		c.eventually(func() string {
			select {
			case <-m.died:
				return ""
			default:
			}
			if _, done := c.status("httpd"); done && c.revision() == failed+1 {
				dies = false
				return ""
			}
			return "it neither ends nor dies"
		})
		stop()
		stop = c.startWith(client.New, setup)
		c.eventually(func() string {
			if got := c.deployment("httpd").Annotations[v1alpha1.AnnotationFailedRevision]; got != strconv.Itoa(failed) {
				return "failed revision " + got
			}
			return ""
		})
		c.settlesAt("httpd:1")
		c.eventually(func() string {
			if got := c.revision(); got != failed+1 {
				return fmt.Sprintf("revision %d, not %d", got, failed+1)
			}
			return ""
		})
		stop()
		last := fmt.Sprintf(" %d back to revision %d: ImagePullBackOff: container httpd there is no such image", failed+1, failed-1)
		if history := c.history("httpd"); !strings.HasSuffix(history, last) {
			t.Errorf("after %d writes: history %s\ndoes not end with%s", writes, history, last)
		}
		if events := c.eventsOf("DeploymentRollback"); len(events) > 1 {
			t.Errorf("after %d writes: events %q", writes, events)
		}
		if writes == 30 {
			t.Fatal("a rollback takes more than 30 writes")
		}
	}
	if n := c.fewestAvailable(); n < 2 {
		t.Errorf("only %d of 2 pods were available at a time", n)
	}
}

// TestUserIsFasterThanRollback: what the user changes between the decision and
// the write stands.
func TestUserIsFasterThanRollback(t *testing.T) {
	c := newCluster(t)
	d := httpd(2, "httpd:1")
	onFailure(v1alpha1.OnFailureRollback)(d)
	c.create(d)
	c.rolledOut("httpd")
	c.stopControllers()
	var once sync.Once
	c.startWith(func(config *rest.Config, options client.Options) (client.Client, error) {
		inner, err := client.NewWithWatch(config, options)
		if err != nil {
			return nil, err
		}
		return interceptor.NewClient(inner, interceptor.Funcs{
			Patch: func(ctx context.Context, w client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if o.GetAnnotations()[v1alpha1.AnnotationFailedRevision] != "" {
					once.Do(func() { c.edit("httpd", setImage("httpd:2")) })
				}
				return w.Patch(ctx, o, patch, opts...)
			},
		}), nil
	}, func(mgr ctrl.Manager) error {
		return errors.Join(deployment.Setup(mgr, c.events), replicaset.Setup(mgr, c.events, c.events))
	})
	c.edit("httpd", setImage("gone:1"))
	c.settlesAt("httpd:2")
	if events := c.eventsOf("DeploymentRollback"); len(events) != 0 {
		t.Errorf("events %q", events)
	}
	want(t, "history", c.history("httpd"), "REVISION CHANGE-CAUSE 1 image httpd:1 2 image httpd: httpd:1 → gone:1 3 image httpd: gone:1 → httpd:2")
}
