package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	writers   = 16
	writeTime = 5 * time.Second
)

func (b *bench) client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", b.cluster.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return kubernetes.NewForConfig(config)
}

// writes measures creations a second with 16 clients, then the time from a
// single write to its watch event.
func (b *bench) writes(ctx context.Context) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	configMaps := client.CoreV1().ConfigMaps("default")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()

	var created atomic.Int64
	var failed error
	var once sync.Once
	var group sync.WaitGroup
	began := time.Now()
	for w := range writers {
		group.Go(func() {
			for i := 0; time.Since(began) < writeTime; i++ {
				if _, err := configMaps.Create(ctx, configMap(fmt.Sprintf("write-%d-%d", w, i)), metav1.CreateOptions{}); err != nil {
					once.Do(func() { failed = err })
					return
				}
				created.Add(1)
			}
		})
	}
	group.Wait()
	if failed != nil {
		return failed
	}
	row("creations a second, 16 clients", "%.0f", float64(created.Load())/time.Since(began).Seconds())

	watch, err := configMaps.Watch(ctx, metav1.ListOptions{LabelSelector: "bench=watch"})
	if err != nil {
		return err
	}
	defer watch.Stop()
	var delays []time.Duration
	for i := range 200 {
		began := time.Now()
		if _, err := configMaps.Create(ctx, configMap(fmt.Sprintf("watch-%d", i)), metav1.CreateOptions{}); err != nil {
			return err
		}
		if _, ok := <-watch.ResultChan(); !ok {
			return errors.New("the watch ended")
		}
		delays = append(delays, time.Since(began))
	}
	row("from a write's begin to its watch event, median / p99", "%s / %s", ms(quantile(delays, 0.5)), ms(quantile(delays, 0.99)))
	return configMaps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "bench"})
}

func configMap(name string) *corev1.ConfigMap {
	kind := "write"
	if name[0:2] == "wa" {
		kind = "watch"
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"bench": kind}}, Data: map[string]string{"a": "b"}}
}

// starts is what a client saw of the starts of pods.
type starts struct {
	created      []time.Duration // to bound
	boundRunning []time.Duration
	ready        []time.Duration // from the creation
}

// pods measures from the creation of a pod to the Ready condition as a watch
// sees it, one pod after the other, and what the server tells of the stages.
func (b *bench) pods(ctx context.Context) error {
	client, err := b.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	before, err := startStages(ctx, client)
	if err != nil {
		return err
	}
	var found starts
	for i := range b.singles {
		name := fmt.Sprintf("single-%d", i)
		if err := found.measure(ctx, client, name); err != nil {
			return fmt.Errorf("pod %s: %w", name, err)
		}
		zero := int64(0)
		if err := client.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			return err
		}
	}
	after, err := startStages(ctx, client)
	if err != nil {
		return err
	}
	for _, r := range []struct {
		what  string
		times []time.Duration
	}{
		{fmt.Sprintf("pod created to Ready (%d pods, one after the other)", b.singles), found.ready},
		{"of these, created to bound", found.created},
		{"of these, bound to Running", found.boundRunning},
	} {
		row(r.what+", median / p99", "%s / %s", ms(quantile(r.times, 0.5)), ms(quantile(r.times, 0.99)))
	}
	printStages(before, after)
	b.own = found
	return nil
}

// measure creates a pod and watches it until it is ready.
func (s *starts) measure(ctx context.Context, client *kubernetes.Clientset, name string) error {
	watch, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return err
	}
	defer watch.Stop()
	began := time.Now()
	if _, err := client.CoreV1().Pods("default").Create(ctx, webPod(name), metav1.CreateOptions{}); err != nil {
		return err
	}
	var bound, running time.Time
	for event := range watch.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("its watch tells of %T", event.Object)
		}
		now := time.Now()
		if bound.IsZero() && pod.Spec.NodeName != "" {
			bound = now
		}
		if running.IsZero() && pod.Status.Phase == corev1.PodRunning {
			running = now
		}
		if ready(pod) {
			s.created, s.boundRunning, s.ready = append(s.created, bound.Sub(began)), append(s.boundRunning, running.Sub(bound)), append(s.ready, now.Sub(began))
			return nil
		}
	}
	return errors.New("its watch ended before it was ready")
}

func webPod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Image: "httpd:2.2.31", Ports: []corev1.ContainerPort{{ContainerPort: 80}},
		}}},
	}
}

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// tenReplicas is rolled one pod at a time: one more, then one fewer.
const tenReplicas = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ten}
spec:
  replicas: 10
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {run: ten}}
  template:
    metadata: {labels: {run: ten}}
    spec: {containers: [{name: httpd, image: 'httpd:2.2.31', ports: [{containerPort: 80}]}]}
`

// roll measures a rollout of ten replicas, one at a time, from `set image` to
// the end of `rollout status`.
func (b *bench) roll(ctx context.Context) error {
	if _, err := b.cluster.RunInput(ctx, tenReplicas, b.cluster.Kubectl, "apply", "-f", "-"); err != nil {
		return err
	}
	if _, err := b.cluster.KubectlRun(ctx, "rollout", "status", "deployment/ten", "--timeout=60s"); err != nil {
		return err
	}
	var times []time.Duration
	for _, image := range []string{"httpd:2.2.32", "httpd:2.2.31", "httpd:2.2.32"} {
		began := time.Now()
		for _, args := range [][]string{{"set", "image", "deployment/ten", "httpd=" + image}, {"rollout", "status", "deployment/ten", "--timeout=60s"}} {
			if _, err := b.cluster.KubectlRun(ctx, args...); err != nil {
				return err
			}
		}
		times = append(times, time.Since(began))
	}
	row("ten replicas rolled one at a time, median of 3", "%s", quantile(times, 0.5).Round(time.Millisecond))
	_, err := b.cluster.KubectlRun(ctx, "delete", "deployment/ten", "--cascade=foreground", "--timeout=60s")
	b.rolled = times
	return err
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
