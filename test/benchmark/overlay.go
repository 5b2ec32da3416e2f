package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/test/harness"
)

// lane is a way from one network namespace to another.
type lane struct {
	name, from, to string // namespace, and host:port
	rates          []float64
	half, most     []time.Duration // medians and 99th percentiles
}

// overlay measures what the pod network between nodes costs: one stream and one
// message after the other, between two machines, between pods on them, through a
// Service, and between pods of one machine, in turns.
func (b *bench) overlay(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return b.withFleet(ctx, 1, nil, func(f *harness.Fleet, client *kubernetes.Clientset) error {
		pods := map[string]*corev1.Pod{}
		for name, node := range map[string]string{"near": "node-0", "beside": "node-0", "far": "node-1"} {
			pod := webPod(name)
			pod.Labels, pod.Spec.NodeName = map[string]string{"app": name}, node
			if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		service, err := client.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "far"}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "far"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(wirePort)}},
		}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if _, err := f.Server.KubectlRun(ctx, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"); err != nil {
			return err
		}
		for _, name := range []string{"near", "beside", "far"} {
			if pods[name], err = client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{}); err != nil {
				return err
			}
		}
		far := f.Agents[0]
		near := podNamespace(f.Server.Dir, string(pods["near"].UID))
		port := ":" + strconv.Itoa(wirePort)
		for _, namespace := range []string{f.Namespace(1), podNamespace(far.Dir, string(pods["far"].UID)), podNamespace(f.Server.Dir, string(pods["beside"].UID))} {
			stop, err := serveWire(ctx, namespace, port)
			if err != nil {
				return err
			}
			defer stop()
		}
		lanes := []lane{
			{name: "between the machines, a pair of veths and a bridge", from: f.Namespace(0), to: far.IP + port},
			{name: "pod to pod on another node, VXLAN", from: near, to: pods["far"].Status.PodIP + port},
			{name: "pod to a Service whose pod is on another node", from: near, to: service.Spec.ClusterIP + ":80"},
			{name: "pod to pod on the same node", from: near, to: pods["beside"].Status.PodIP + port},
		}
		for i := range lanes { // the proxies may be told last
			err := until(ctx, 30*time.Second, lanes[i].name, func() (bool, error) {
				_, err := wireFigures(ctx, lanes[i].from, "ask", lanes[i].to, "0")
				return err == nil, err
			})
			if err != nil {
				return err
			}
		}
		for range rounds {
			for i := range lanes {
				if err := lanes[i].measure(ctx); err != nil {
					return err
				}
			}
		}
		bare := &lanes[0]
		for i := range lanes {
			l := &lanes[i]
			figure := fmt.Sprintf("%.2f Gbit/s; %.1f µs, p99 %.1f µs", median(l.rates)*8/1e9, micro(quantile(l.half, 0.5)), micro(quantile(l.most, 0.5)))
			if l != bare {
				figure += fmt.Sprintf("; %.2f of the bare rate, %.2f and %.2f times its latencies", median(l.rates)/median(bare.rates),
					float64(quantile(l.half, 0.5))/float64(quantile(bare.half, 0.5)), float64(quantile(l.most, 0.5))/float64(quantile(bare.most, 0.5)))
			}
			row(fmt.Sprintf("%s: one TCP stream; a message of %d bytes and its answer (median of %d)", l.name, messageSize, rounds), "%s", figure)
		}
		return nil
	})
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// measure adds one round.
func (l *lane) measure(ctx context.Context) error {
	seconds := strconv.Itoa(int(roundTime.Seconds()))
	rate, err := wireFigures(ctx, l.from, "stream", l.to, seconds)
	if err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	times, err := wireFigures(ctx, l.from, "ask", l.to, seconds)
	if err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	if len(rate) != 1 || len(times) != 2 {
		return fmt.Errorf("%s: figures %v and %v", l.name, rate, times)
	}
	l.rates, l.half, l.most = append(l.rates, rate[0]), append(l.half, time.Duration(times[0])), append(l.most, time.Duration(times[1]))
	return nil
}

// serveWire starts the server in a namespace and returns what ends it.
func serveWire(ctx context.Context, namespace, address string) (stop func(), err error) {
	server := inNamespace(ctx, namespace, "serve", address)
	out, err := server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		stop()
		return nil, errors.Join(fmt.Errorf("serve in %s: it says %q", namespace, line), err)
	}
	return stop, nil
}
