package rolloutrecord_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/controller/controllertest"
	"windlass.dev/windlass/internal/controller/deployment"
	"windlass.dev/windlass/internal/controller/endpointslice"
	"windlass.dev/windlass/internal/controller/replicaset"
	"windlass.dev/windlass/internal/controller/rolloutrecord"
)

// cluster is the real API with the controllers of Deployments, sets, slices and records,
// and a node that only notes what it would do.
type cluster struct {
	*testing.T
	client.Client
}

func newCluster(t *testing.T) cluster {
	events := record.NewFakeRecorder(100_000)
	return cluster{t, controllertest.Start(t,
		func(m ctrl.Manager) error { return deployment.Setup(m, events) },
		func(m ctrl.Manager) error { return replicaset.Setup(m, events, events) },
		func(m ctrl.Manager) error { return endpointslice.Setup(m, events) },
		rolloutrecord.Setup)}
}

func (c cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// step plays the node's part once for each pod: it is bound, ready, and, once
// asked to stop, gone, with the moments that an agent would note. Pods with one
// of the images are left as they are.
func (c cluster) step(leave ...string) {
	c.Helper()
	ctx := context.Background()
	var pods corev1.PodList
	c.must(c.List(ctx, &pods, client.InNamespace("default")))
	for i := range pods.Items {
		pod := &pods.Items[i]
		now := metav1.NowMicro().UTC().Format(metav1.RFC3339Micro)
		left := false
		for _, image := range leave {
			left = left || image == pod.Spec.Containers[0].Image
		}
		var err error
		switch {
		case pod.DeletionTimestamp != nil && !strings.Contains(pod.Annotations[v1alpha1.AnnotationMoments], "stopped"):
			err = c.status(pod, fmt.Sprintf(`{"ready": %q, "endpointRemoved": %q, "drained": %q, "stopped": %q}`, now, now, now, now))
		case pod.DeletionTimestamp != nil:
			err = c.Delete(ctx, pod, client.GracePeriodSeconds(0))
		case left:
		case pod.Spec.NodeName == "":
			err = c.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "hollow"}})
		case pod.Status.Phase == corev1.PodPending:
			err = c.status(pod, fmt.Sprintf(`{"imageReady": %q, "started": %q, "ready": %q}`, now, now, now))
		}
		c.must(client.IgnoreNotFound(err))
	}
}

// status writes the status of a running pod, and its moments, as an agent does.
func (c cluster) status(pod *corev1.Pod, moments string) error {
	after := pod.DeepCopy()
	metav1.SetMetaDataAnnotation(&after.ObjectMeta, v1alpha1.AnnotationMoments, moments)
	after.Status.Phase = corev1.PodRunning
	after.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.9"}}
	after.Status.PodIP = after.Status.PodIPs[0].IP
	if pod.Status.Phase != corev1.PodRunning {
		after.Status.Conditions = append(after.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	return c.Status().Patch(context.Background(), after, client.MergeFrom(pod))
}

func (c cluster) record(name string) *v1alpha1.RolloutRecord {
	var r v1alpha1.RolloutRecord
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: name}, &r); err != nil {
		c.must(client.IgnoreNotFound(err))
		return nil
	}
	return &r
}

func (c cluster) edit(change func(*appsv1.Deployment)) {
	c.Helper()
	var before appsv1.Deployment
	c.must(c.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: "httpd"}, &before))
	after := before.DeepCopy()
	change(after)
	c.must(c.Patch(context.Background(), after, client.MergeFrom(&before)))
}

func httpd(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "httpd"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "httpd", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "httpd", Image: "httpd:1"}}},
			},
		},
	}
}

// gone says whether all pods that a record's rollout stopped are gone.
func gone(r *v1alpha1.RolloutRecord, want int) bool {
	n := 0
	for _, t := range r.Status.Pods {
		if t.Stopped != nil {
			n++
		}
	}
	return n == want
}

func TestUpdateIsRecorded(t *testing.T) {
	c, ctx := newCluster(t), context.Background()
	c.must(c.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "httpd"}, Ports: []corev1.ServicePort{{Port: 80}}}}))
	began := time.Now().Add(-time.Second)
	c.must(c.Create(ctx, httpd(3)))
	controllertest.Eventually(t, "the first revision is recorded as complete", func() bool {
		c.step()
		r := c.record("httpd-1")
		return r != nil && r.Status.Phase == v1alpha1.RolloutCompleted
	})
	c.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "httpd:2" })
	controllertest.Eventually(t, "the second revision has a record that goes on", func() bool {
		r := c.record("httpd-2")
		return r != nil && r.Status.Phase == v1alpha1.RolloutProgressing
	})
	traffic := &v1alpha1.RolloutRecord{ObjectMeta: metav1.ObjectMeta{Name: "httpd-2", Namespace: "default"}}
	c.must(c.Status().Patch(ctx, traffic, client.RawPatch(types.MergePatchType, []byte(`{"status":{"traffic":{"one":{"connections":7}}}}`))))
	controllertest.Eventually(t, "the second revision is recorded to the last old pod", func() bool {
		c.step()
		r := c.record("httpd-2")
		return r.Status.Phase == v1alpha1.RolloutCompleted && gone(r, 3)
	})

	r := c.record("httpd-2")
	if r.Status.Traffic["one"].Connections != 7 {
		t.Errorf("what a proxy wrote is gone: %v", r.Status.Traffic)
	}
	if r.Spec.From == nil || r.Spec.From.Images[0] != "httpd:1" || r.Spec.To.Images[0] != "httpd:2" || len(r.Spec.Changes) != 1 || r.Spec.Cause == "" || !r.Spec.CauseComputed {
		t.Errorf("it says that the rollout was %+v", r.Spec)
	}
	if len(r.Spec.Services) != 1 || r.Spec.Services[0] != "web" || r.Spec.StartedAt.Time.Before(began) || r.Spec.StartedAt.Time.After(time.Now()) {
		t.Errorf("services %v, started at %s", r.Spec.Services, r.Spec.StartedAt)
	}
	if len(r.OwnerReferences) != 1 || r.OwnerReferences[0].Name != r.Spec.To.Name || r.Labels[v1alpha1.LabelTargetName] != "httpd" {
		t.Errorf("it belongs to %+v, labels %v", r.OwnerReferences, r.Labels)
	}
	sizes := map[string]int32{r.Spec.From.Name: 3}
	for _, step := range r.Status.Steps {
		if sizes[step.Set] != step.From {
			t.Errorf("a step of %s from %d to %d, where it had %d", step.Set, step.From, step.To, sizes[step.Set])
		}
		sizes[step.Set] = step.To
	}
	if sizes[r.Spec.From.Name] != 0 || sizes[r.Spec.To.Name] != 3 {
		t.Errorf("the steps lead to %v", sizes)
	}
	if len(r.Status.Pods) != 6 || r.Status.EndedAt == nil || r.Status.Duration == nil || r.Status.UpdatedReplicas != 3 {
		t.Errorf("%d pods, %d new, ended %v after %v", len(r.Status.Pods), r.Status.UpdatedReplicas, r.Status.EndedAt, r.Status.Duration)
	}
	for _, p := range r.Status.Pods {
		if p.Set == r.Spec.To.Name && (p.Created == nil || p.Scheduled == nil || p.Ready == nil || p.Available == nil || p.StopRequested != nil) {
			t.Errorf("a new pod: %+v", p)
		}
		if p.Set == r.Spec.From.Name && (p.StopRequested == nil || p.Drained == nil || p.Stopped == nil) {
			t.Errorf("an old pod: %+v", p)
		}
	}

	c.edit(func(d *appsv1.Deployment) {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, "kubernetes.io/change-cause", "because I can")
	})
	controllertest.Eventually(t, "a cause that is given later is taken over", func() bool {
		r := c.record("httpd-2")
		return r.Spec.Cause == "because I can" && !r.Spec.CauseComputed
	})
}

func TestNextRolloutClosesRecord(t *testing.T) {
	c := newCluster(t)
	c.must(c.Create(context.Background(), httpd(2)))
	controllertest.Eventually(t, "the first revision is complete", func() bool {
		c.step()
		r := c.record("httpd-1")
		return r != nil && r.Status.Phase == v1alpha1.RolloutCompleted
	})
	c.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "bad" })
	controllertest.Eventually(t, "the second revision is at work", func() bool {
		c.step("bad")
		r := c.record("httpd-2")
		return r != nil && r.Status.UpdatedReplicas > 0
	})
	c.edit(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "httpd:1" })
	controllertest.Eventually(t, "the third, with the first template, is complete", func() bool {
		c.step("bad")
		second, third := c.record("httpd-2"), c.record("httpd-3")
		return third != nil && third.Status.Phase == v1alpha1.RolloutCompleted && second.Status.Phase == v1alpha1.RolloutSuperseded
	})
	second, third := c.record("httpd-2"), c.record("httpd-3")
	if third.Spec.To.Name != second.Spec.From.Name || third.Spec.From.Name != second.Spec.To.Name {
		t.Errorf("back from %s to %s, after the way from %s to %s", third.Spec.From.Name, third.Spec.To.Name, second.Spec.From.Name, second.Spec.To.Name)
	}
	if !second.Status.EndedAt.Equal(ptr.To(third.Spec.StartedAt)) {
		t.Errorf("it ended at %s, when the next began at %s", second.Status.EndedAt, third.Spec.StartedAt)
	}
}

// TestSwitchIsRecorded goes the blue-green way: a second controller, then the
// Service's selector.
func TestSwitchIsRecorded(t *testing.T) {
	c, ctx := newCluster(t), context.Background()
	for _, version := range []string{"v1", "v2"} {
		labels := map[string]string{"app": "kubia", "version": version}
		c.must(c.Create(ctx, &corev1.ReplicationController{
			ObjectMeta: metav1.ObjectMeta{Name: "kubia-" + version, Namespace: "default"},
			Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](2), Selector: labels, Template: &corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kubia", Image: "kubia:" + version}}},
			}},
		}))
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubia", Namespace: "default"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "kubia", "version": "v1"}, Ports: []corev1.ServicePort{{Port: 80}}}}
	c.must(c.Create(ctx, service))
	controllertest.Eventually(t, "both controllers' pods are there", func() bool {
		c.step()
		var slices discoveryv1.EndpointSliceList
		c.must(c.List(ctx, &slices, client.InNamespace("default"), client.MatchingLabels{discoveryv1.LabelServiceName: "kubia"}))
		return len(slices.Items) == 1 && len(slices.Items[0].Endpoints) == 2
	})
	for i, version := range []string{"v2", "v1"} {
		patch := []byte(fmt.Sprintf(`{"spec":{"selector":{"version":%q}}}`, version))
		c.must(c.Patch(ctx, service, client.RawPatch(types.MergePatchType, patch)))
		name := fmt.Sprintf("kubia-switch-%d", i+1)
		controllertest.Eventually(t, name+" is complete", func() bool {
			c.step()
			r := c.record(name)
			return r != nil && r.Status.Phase == v1alpha1.RolloutCompleted
		})
		r := c.record(name)
		if r.Spec.To.Name != "kubia-"+version || r.Spec.From == nil || r.Spec.From.Name == r.Spec.To.Name || r.Spec.Target.UID != service.UID || r.OwnerReferences[0].Kind != "Service" {
			t.Errorf("%s: %+v, of %+v", name, r.Spec, r.OwnerReferences)
		}
		if r.Status.Replicas != 2 || r.Status.UpdatedReplicas != 2 || r.Status.EndedAt == nil {
			t.Errorf("%s ended with %+v", name, r.Status)
		}
	}
	if want := "selector version v1 → v2"; c.record("kubia-switch-1").Spec.Cause != want {
		t.Errorf("because %q, want %q", c.record("kubia-switch-1").Spec.Cause, want)
	}
}

// TestTakenName: a record of another target has the name.
func TestTakenName(t *testing.T) {
	c, ctx := newCluster(t), context.Background()
	c.must(c.Create(ctx, &v1alpha1.RolloutRecord{
		ObjectMeta: metav1.ObjectMeta{Name: "httpd-1", Namespace: "default"},
		Spec: v1alpha1.RolloutRecordSpec{
			Target:   v1alpha1.RolloutTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "httpd", UID: "of-an-earlier-one"},
			Revision: 1, To: v1alpha1.RolloutSide{Name: "httpd-x"}, StartedAt: metav1.NowMicro(),
		},
	}))
	c.must(c.Create(ctx, httpd(1)))
	var other *v1alpha1.RolloutRecord
	controllertest.Eventually(t, "there is a record by another name", func() bool {
		c.step()
		var list v1alpha1.RolloutRecordList
		c.must(c.List(ctx, &list, client.InNamespace("default")))
		for i := range list.Items {
			if list.Items[i].Spec.Target.UID != "of-an-earlier-one" {
				other = &list.Items[i]
			}
		}
		return other != nil && other.Status.Phase == v1alpha1.RolloutCompleted
	})
	if !strings.HasPrefix(other.Name, "httpd-1-") || len(other.Name) != len("httpd-1-xxxxx") {
		t.Errorf("it is called %s", other.Name)
	}
	if r := c.record("httpd-1"); r.Status.Phase != "" {
		t.Errorf("the other target's record says %q", r.Status.Phase)
	}
}
