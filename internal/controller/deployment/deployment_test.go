package deployment_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/polymorphichelpers"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/rollout"
)

func testLogger(t testing.TB) logr.Logger {
	if tt, ok := t.(*testing.T); ok && testing.Verbose() {
		return testr.New(tt)
	}
	return logr.Discard()
}

func httpd(replicas int32, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "httpd", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"run": "httpd"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"run": "httpd"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "httpd", Image: image}}},
			},
		},
	}
}

func setImage(image string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image }
}

// status is what `kubectl rollout status` makes of a Deployment.
func (c *cluster) status(name string) (string, bool) {
	c.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.deployment(name))
	if err != nil {
		c.Fatal(err)
	}
	message, done, err := (&polymorphichelpers.DeploymentStatusViewer{}).Status(&unstructured.Unstructured{Object: fields}, 0)
	if err != nil {
		return err.Error(), false
	}
	return message, done
}

// rolledOut waits until kubectl says that a rollout is over, and all old pods are
// gone.
func (c *cluster) rolledOut(name string) {
	c.Helper()
	c.eventually(func() string {
		message, done := c.status(name)
		d := c.deployment(name)
		if !done || ptr.Deref(d.Status.TerminatingReplicas, 0) > 0 {
			return fmt.Sprintf("%s (%d stopping)", message, ptr.Deref(d.Status.TerminatingReplicas, 0))
		}
		return ""
	})
}

func (c *cluster) undo(name string, to int64) {
	c.Helper()
	rollbacker, err := polymorphichelpers.RollbackerFor(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), c.kube)
	if err != nil {
		c.Fatal(err)
	}
	if _, err := rollbacker.Rollback(c.deployment(name), nil, to, cmdutil.DryRunNone); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) history(name string) string {
	c.Helper()
	viewer, err := polymorphichelpers.HistoryViewerFor(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), c.kube)
	if err != nil {
		c.Fatal(err)
	}
	out, err := viewer.ViewHistory("default", name, 0)
	if err != nil {
		c.Fatal(err)
	}
	return strings.Join(strings.Fields(out), " ")
}

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

// TestRollout rolls, undoes, pauses and resumes as kubectl does, and looks at
// what it sees.
func TestRollout(t *testing.T) {
	c := newCluster(t)
	d := httpd(3, "httpd:2.2.31")
	d.Annotations = map[string]string{rollout.AnnotationChangeCause: "create"}
	c.create(d)
	c.rolledOut("httpd")
	first := c.replicaSets()[0].Name
	names := map[string]string{first: "V1"}
	want(t, "events", strings.Join(c.scalings(names), "; "), "Scaled up replica set V1 from 0 to 3")

	c.watchFewest()
	c.edit("httpd", func(d *appsv1.Deployment) {
		setImage("httpd:2.2.32")(d)
		d.Annotations[rollout.AnnotationChangeCause] = "update"
	})
	c.rolledOut("httpd")
	sets := c.replicaSets()
	if len(sets) != 2 {
		t.Fatalf("%d replica sets, want 2", len(sets))
	}
	for _, rs := range sets {
		if rs.Name != first {
			names[rs.Name] = "V2"
		}
	}
	want(t, "events", strings.Join(c.scalings(names), "; "), strings.Join([]string{
		"Scaled up replica set V2 from 0 to 1",
		"Scaled down replica set V1 from 3 to 2",
		"Scaled up replica set V2 from 1 to 2",
		"Scaled down replica set V1 from 2 to 1",
		"Scaled up replica set V2 from 2 to 3",
		"Scaled down replica set V1 from 1 to 0",
	}, "; "))
	if n := c.fewestAvailable(); n < 3 {
		t.Errorf("only %d of 3 pods were available at a time", n)
	}
	want(t, "history", c.history("httpd"), "REVISION CHANGE-CAUSE 1 create 2 update")

	c.undo("httpd", 0)
	c.rolledOut("httpd")
	want(t, "history", c.history("httpd"), "REVISION CHANGE-CAUSE 2 update 3 create")
	if got := len(c.replicaSets()); got != 2 {
		t.Errorf("%d replica sets after undo, want 2", got)
	}
	c.scalings(nil)

	c.edit("httpd", func(d *appsv1.Deployment) { d.Spec.Paused = true })
	c.edit("httpd", setImage("httpd:2.2.33"))
	c.edit("httpd", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To(int32(4)) })
	c.eventually(func() string {
		if d := c.deployment("httpd"); d.Status.ReadyReplicas != 4 || d.Status.ObservedGeneration != d.Generation {
			return fmt.Sprintf("status %+v", d.Status)
		}
		return ""
	})
	want(t, "events while paused", strings.Join(c.scalings(names), "; "), "Scaled up replica set V1 from 3 to 4")
	c.edit("httpd", func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.rolledOut("httpd")
	want(t, "history", c.history("httpd"), "REVISION CHANGE-CAUSE 2 update 3 create 4 image httpd 2.2.31 → 2.2.33")
}

// TestControllersThatDie: new ones go on where the old ones were, with no pod
// twice.
func TestControllersThatDie(t *testing.T) {
	c := newCluster(t)
	c.create(httpd(8, "httpd:0"))
	for i := 1; i <= 4; i++ {
		c.eventually(func() string {
			if c.deployment("httpd").Status.UpdatedReplicas < int32(2*i-1) {
				return "not begun"
			}
			return ""
		})
		c.edit("httpd", setImage(fmt.Sprintf("httpd:%d", i)))
		c.stopControllers()
		c.startControllers()
	}
	c.rolledOut("httpd")
	var pods corev1.PodList
	if err := c.client.List(context.Background(), &pods); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 8 {
		t.Errorf("%d pods, want 8", len(pods.Items))
	}
	var hashes []string
	for _, rs := range c.replicaSets() {
		hashes = append(hashes, rs.Labels[appsv1.DefaultDeploymentUniqueLabelKey])
	}
	slices.Sort(hashes)
	if len(slices.Compact(hashes)) != len(c.replicaSets()) {
		t.Errorf("a replica set twice: %v", hashes)
	}
}

// TestTakenName: a set of somebody else has the name; another hash is taken.
func TestTakenName(t *testing.T) {
	c := newCluster(t)
	d := httpd(1, "httpd:1")
	c.create(d)
	c.rolledOut("httpd")
	mine := c.replicaSets()[0]
	zero := int64(0)
	for _, object := range []client.Object{d, &mine} {
		if err := c.client.Delete(context.Background(), object, &client.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	foreign := mine.DeepCopy()
	foreign.ObjectMeta = metav1.ObjectMeta{Name: mine.Name, Namespace: mine.Namespace, Labels: map[string]string{"run": "other"}}
	foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"run": "other"}}
	foreign.Spec.Template.Labels = map[string]string{"run": "other"}
	c.create(foreign)
	c.create(httpd(1, "httpd:1"))
	c.rolledOut("httpd")
	if got := c.deployment("httpd").Status.CollisionCount; got == nil || *got != 1 {
		t.Errorf("collisionCount %v, want 1", got)
	}
}

// TestStuck: an image that never runs; the deadline passes.
func TestStuck(t *testing.T) {
	c := newCluster(t)
	d := httpd(2, "httpd:1")
	d.Spec.ProgressDeadlineSeconds = ptr.To(int32(1))
	c.create(d)
	c.rolledOut("httpd")
	c.watchFewest()
	c.edit("httpd", setImage("bad"))
	c.eventually(func() string {
		if message, _ := c.status("httpd"); !strings.Contains(message, "exceeded its progress deadline") {
			return message
		}
		return ""
	})
	if n := c.fewestAvailable(); n < 2 {
		t.Errorf("only %d of 2 pods were available at a time", n)
	}
}

// TestReplicationController: the same engine, scaled up and down.
func TestReplicationController(t *testing.T) {
	c := newCluster(t)
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "kubia", Namespace: "default"}}
	rc.Spec.Replicas = ptr.To(int32(3))
	rc.Spec.Template = &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "kubia"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "nodejs", Image: "luksa/kubia:v1"}}},
	}
	c.create(rc)
	for _, n := range []int32{3, 5, 0} {
		rc.Spec.Replicas = &n
		if err := c.client.Patch(context.Background(), rc.DeepCopy(), client.RawPatch("application/merge-patch+json",
			fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n))); err != nil {
			t.Fatal(err)
		}
		c.eventually(func() string {
			if err := c.client.Get(context.Background(), client.ObjectKeyFromObject(rc), rc); err != nil {
				return err.Error()
			}
			if rc.Status.Replicas != n || rc.Status.AvailableReplicas != n || rc.Status.ObservedGeneration != rc.Generation {
				return fmt.Sprintf("%d wanted: %+v", n, rc.Status)
			}
			return ""
		})
	}
}

// BenchmarkTenOneAtATime rolls ten pods with a surge of one, on nodes where a pod
// is ready as soon as it exists: what is left is the control plane's own time.
func BenchmarkTenOneAtATime(b *testing.B) {
	c := newCluster(b)
	d := httpd(10, "httpd:0")
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{
		MaxSurge: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(0))}
	c.create(d)
	c.rolledOut("httpd")
	i := 0
	for b.Loop() {
		i++
		c.edit("httpd", setImage(fmt.Sprintf("httpd:%d", i)))
		c.rolledOut("httpd")
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Millisecond)/float64(10*b.N), "ms/pod")
}
