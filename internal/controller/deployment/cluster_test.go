package deployment_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
	"windlass.dev/windlass/internal/controller/deployment"
	"windlass.dev/windlass/internal/controller/replicaset"
)

// deadline bounds every wait, on a machine with much else to do.
const deadline = 60 * time.Second

// cluster is a real API with the two controllers, and nodes without containers:
// a pod is ready as soon as it exists, unless its image is "bad", which never
// starts, or begins with "gone", which cannot be pulled; and it is gone as soon
// as it is asked to stop.
type cluster struct {
	testing.TB
	config *rest.Config
	client client.Client // reads from the API
	kube   kubernetes.Interface
	events *record.FakeRecorder

	stopControllers func()

	mu     sync.Mutex
	pods   map[string]*corev1.Pod // as of the last event
	fewest int
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	ctrl.SetLogger(testLogger(t))
	c := &cluster{TB: t, config: apiservertest.Start(t), events: record.NewFakeRecorder(100_000), pods: map[string]*corev1.Pod{}}
	var err error
	if c.client, err = client.New(c.config, client.Options{Scheme: scheme.Scheme}); err != nil {
		t.Fatal(err)
	}
	c.kube = kubernetes.NewForConfigOrDie(c.config)
	c.startNodes()
	c.startControllers()
	return c
}

// startControllers runs the controllers, in a manager of their own, until
// stopControllers or the end of the test.
func (c *cluster) startControllers() {
	c.Helper()
	c.stopControllers = c.startWith(client.New, func(mgr ctrl.Manager) error {
		return errors.Join(deployment.Setup(mgr, c.events), replicaset.Setup(mgr, c.events, c.events))
	})
}

// startWith runs controllers that write through a client of the test's making.
func (c *cluster) startWith(newClient client.NewClientFunc, setup func(ctrl.Manager) error) (stop func()) {
	c.Helper()
	mgr, err := ctrl.NewManager(c.config, ctrl.Options{
		Scheme:     scheme.Scheme,
		NewClient:  newClient,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		c.Fatal(err)
	}
	if err := setup(mgr); err != nil {
		c.Fatal(err)
	}
	return c.background("controllers", mgr.Start)
}

// background runs a function until the returned one is called, or the test ends.
func (c *cluster) background(name string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			c.Errorf("%s: %v", name, err)
		}
	}()
	stop = func() { cancel(); <-ended }
	c.Cleanup(stop)
	return stop
}

func (c *cluster) startNodes() {
	c.Helper()
	watch, err := c.kube.CoreV1().Pods("default").Watch(context.Background(), metav1.ListOptions{})
	if err != nil {
		c.Fatal(err)
	}
	c.background("nodes", func(ctx context.Context) error {
		defer watch.Stop()
		for {
			select {
			case event := <-watch.ResultChan():
				if pod, ok := event.Object.(*corev1.Pod); ok {
					c.observe(pod, event.Type == "DELETED")
					go c.live(ctx, pod, event.Type == "DELETED")
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// live plays a node's part for a pod.
func (c *cluster) live(ctx context.Context, pod *corev1.Pod, gone bool) {
	var err error
	switch {
	case gone:
	case pod.DeletionTimestamp != nil:
		err = c.kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))})
	case pod.Spec.NodeName == "":
		err = c.kube.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "hollow"}}, metav1.CreateOptions{})
	case strings.HasPrefix(pod.Spec.Containers[0].Image, "gone"):
		if len(pod.Status.ContainerStatuses) == 0 {
			waiting := pod.DeepCopy()
			waiting.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image,
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "there is no such image"}},
			}}
			_, err = c.kube.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, waiting, metav1.UpdateOptions{})
		}
	case pod.Status.Phase == corev1.PodPending && pod.Spec.Containers[0].Image != "bad":
		ready := pod.DeepCopy()
		ready.Status.Phase = corev1.PodRunning
		ready.Status.Conditions = append(ready.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
		_, err = c.kube.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, ready, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		c.Errorf("node: pod %s: %v", pod.Name, err)
	}
}

// observe keeps count of available pods, in the order of the API's events.
func (c *cluster) observe(pod *corev1.Pod, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[pod.Name] = pod
	if gone {
		delete(c.pods, pod.Name)
	}
	c.fewest = min(c.fewest, c.available())
}

func (c *cluster) available() (n int) {
	for _, pod := range c.pods {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			n++
		}
	}
	return n
}

// watchFewest begins to note how many pods are available at the least.
func (c *cluster) watchFewest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fewest = c.available()
}

func (c *cluster) fewestAvailable() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fewest
}

func (c *cluster) create(object client.Object) {
	c.Helper()
	if err := c.client.Create(context.Background(), object); err != nil {
		c.Fatal(err)
	}
}

// edit changes a Deployment as a user would.
func (c *cluster) edit(name string, change func(*appsv1.Deployment)) {
	c.Helper()
	before := c.deployment(name)
	after := before.DeepCopy()
	change(after)
	if err := c.client.Patch(context.Background(), after, client.MergeFrom(before)); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) deployment(name string) *appsv1.Deployment {
	c.Helper()
	var d appsv1.Deployment
	if err := c.client.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: name}, &d); err != nil {
		c.Fatal(err)
	}
	return &d
}

func (c *cluster) replicaSets() []appsv1.ReplicaSet {
	c.Helper()
	var list appsv1.ReplicaSetList
	if err := c.client.List(context.Background(), &list, client.InNamespace("default")); err != nil {
		c.Fatal(err)
	}
	return list.Items
}

// eventually waits until check returns nothing, and fails with what it returned
// last.
func (c *cluster) eventually(check func() string) {
	c.Helper()
	end := time.Now().Add(deadline)
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		wrong := check()
		if wrong == "" {
			tick.Stop()
			return
		}
		if time.Now().After(end) {
			c.Fatalf("after %s: %s", deadline, wrong)
		}
	}
}

// scalings returns the events of scaling since the last call, with each set's
// name in place of its hash as given.
func (c *cluster) scalings(names map[string]string) []string {
	var out []string
	for len(c.events.Events) > 0 {
		event := <-c.events.Events
		if message, ok := strings.CutPrefix(event, "Normal ScalingReplicaSet "); ok {
			for _, hash := range slices.Sorted(maps.Keys(names)) {
				message = strings.ReplaceAll(message, hash, names[hash])
			}
			out = append(out, message)
		}
	}
	return out
}
