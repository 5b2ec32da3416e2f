package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/test/harness"
)

// spread is six web servers on three nodes, that leave a node that is not
// reachable after so many seconds.
const spread = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {run: web}}
  template:
    metadata: {labels: {run: web}}
    spec:
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: %d}]
      containers: [{name: httpd, image: 'httpd:2.2.31', ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {run: web}, ports: [{port: 80, nodePort: 30096}]}
`

// beat is how often a request is sent, whatever becomes of those before it, patience
// how long each may take, and late from when on it is told as one that was not
// answered at once.
const (
	beat     = 10 * time.Millisecond
	patience = 15 * time.Second
	late     = 500 * time.Millisecond
)

// deathByDefault is one death of a node with the settings that nobody changed.
func (b *bench) deathByDefault(ctx context.Context) error {
	return b.deaths(ctx, 40*time.Second, 300, 1)
}

// deathFast is three deaths with settings that are fast and safe, and three with the
// shortest Lease that there is.
func (b *bench) deathFast(ctx context.Context) error {
	if err := b.deaths(ctx, 4*time.Second, 1, 3); err != nil {
		return err
	}
	return b.deaths(ctx, 2*time.Second, 1, 3)
}

// deaths switches a node off in the middle of traffic, so many times, and prints
// the median of each figure.
func (b *bench) deaths(ctx context.Context, lease time.Duration, toleration, times int) error {
	return b.withFleet(ctx, 2, []string{"--node-lease=" + lease.String()}, func(f *harness.Fleet, client *kubernetes.Clientset) error {
		if _, err := f.Server.RunInput(ctx, fmt.Sprintf(spread, toleration), f.Server.Kubectl, "apply", "-f", "-"); err != nil {
			return err
		}
		var unready, last, whole []time.Duration
		var counts []string
		for range times {
			d, err := oneDeath(ctx, f, client, lease+time.Duration(toleration)*time.Second+time.Minute)
			if err != nil {
				return err
			}
			unready, last, whole = append(unready, d.unready), append(last, d.last), append(whole, d.whole)
			counts = append(counts, fmt.Sprintf("%d and %d of %d", d.lost, d.late, d.sent))
		}
		with := fmt.Sprintf("a node dies, --node-lease %v, toleration %d s (median of %d)", lease, toleration, times)
		row(with+": until it is NotReady", "%.2f s", quantile(unready, 0.5).Seconds())
		row(with+": until the last request was sent to it", "%.2f s", quantile(last, 0.5).Seconds())
		row(with+": until its pods are replaced, all Ready", "%.2f s", quantile(whole, 0.5).Seconds())
		row(with+": requests lost and answered late (by another pod), of those sent, 100 a second to 6 pods of which it had 2", "%s", strings.Join(counts, ", "))
		return nil
	})
}

// death is what one death of a node was: times from its last moment.
type death struct {
	unready, last, whole time.Duration
	lost, late, sent     int
}

func oneDeath(ctx context.Context, f *harness.Fleet, client *kubernetes.Clientset, atMost time.Duration) (d death, err error) {
	victim := f.Agents[0]
	for _, args := range [][]string{{"restart"}, {"status", "--timeout=120s"}} { // so that the pods are spread anew
		if _, err := f.Server.KubectlRun(ctx, append([]string{"rollout", args[0], "deployment/web"}, args[1:]...)...); err != nil {
			return d, err
		}
	}
	on, _, err := readyPods(ctx, client, victim.Name)
	if err != nil {
		return d, err
	}
	if on == 0 {
		return d, fmt.Errorf("no pod is on %s", victim.Name)
	}
	traffic := startBeats(ctx, fmt.Sprintf("http://%s:30096/", f.IP(0)), fmt.Sprintf("http://%s:30096/", f.IP(2)))
	defer traffic.stop()
	if err := pause(ctx, time.Second); err != nil {
		return d, err
	}
	began := time.Now()
	if err := victim.PowerOff(); err != nil {
		return d, err
	}
	err = until(ctx, atMost, victim.Name+" is NotReady", func() (bool, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, victim.Name, metav1.GetOptions{})
		return err == nil && !isReady(node), err
	})
	if err != nil {
		return d, err
	}
	d.unready = time.Since(began)
	err = until(ctx, atMost, "the Deployment is whole", func() (bool, error) {
		on, elsewhere, err := readyPods(ctx, client, victim.Name)
		return err == nil && on == 0 && elsewhere == 6, err
	})
	if err != nil {
		pods, _ := f.Server.KubectlRun(ctx, "get", "pods,nodes", "-o", "wide")
		return d, fmt.Errorf("%w\n%s", err, pods)
	}
	d.whole = time.Since(began)
	if err := pause(ctx, time.Second); err != nil {
		return d, err
	}
	traffic.stop().since(began, &d)
	if err := victim.PowerOn(); err != nil {
		return d, err
	}
	return d, victim.WaitReady(ctx)
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// readyPods counts the Ready web servers on a node and on the others.
func readyPods(ctx context.Context, client *kubernetes.Clientset, node string) (on, elsewhere int, err error) {
	pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "run=web", ResourceVersion: "0"})
	if err != nil {
		return 0, 0, err
	}
	for i := range pods.Items {
		switch pod := &pods.Items[i]; {
		case !ready(pod) || pod.DeletionTimestamp != nil:
		case pod.Spec.NodeName == node:
			on++
		default:
			elsewhere++
		}
	}
	return on, elsewhere, nil
}

// beats is traffic at a steady pace: a request, on a connection of its own, every
// beat, to the addresses in turn.
type beats struct {
	cancel  context.CancelFunc
	stopped sync.WaitGroup

	mu   sync.Mutex
	sent []time.Time
	lost []time.Time // when those that were lost were sent
	late []time.Time // when those that were answered late were sent
}

func startBeats(ctx context.Context, urls ...string) *beats {
	ctx, cancel := context.WithCancel(ctx)
	b := &beats{cancel: cancel}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}}
	b.stopped.Go(func() {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				b.stopped.Go(func() { b.send(client, urls[i%len(urls)]) })
			}
		}
	})
	return b
}

func (b *beats) send(client *http.Client, url string) {
	began := time.Now()
	response, err := client.Get(url)
	if err == nil {
		response.Body.Close()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, began)
	switch {
	case err != nil || response.StatusCode != http.StatusOK:
		b.lost = append(b.lost, began)
	case time.Since(began) >= late:
		b.late = append(b.late, began)
	}
}

// stop ends the traffic, once what is on its way is answered or lost.
func (b *beats) stop() *beats {
	b.cancel()
	b.stopped.Wait()
	return b
}

// since counts what was sent from a moment on, and tells how long after it the
// last request was sent that was not answered at once.
func (b *beats) since(began time.Time, d *death) {
	for _, at := range b.sent {
		if !at.Before(began) {
			d.sent++
		}
	}
	d.lost, d.late = len(b.lost), len(b.late)
	for _, at := range slices.Concat(b.lost, b.late) {
		d.last = max(d.last, at.Sub(began))
	}
}
