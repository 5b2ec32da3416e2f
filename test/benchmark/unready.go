package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	gate     = corev1.PodConditionType("bench/gate")
	gatePort = 30099
)

// unready measures how soon a pod that turns unready gets no new connections, and
// one that turns ready gets them: from the request that closes or opens its
// readiness gate to the first connection that is refused, or accepted.
func (b *bench) unready(ctx context.Context) error {
	const times = 100
	client, err := b.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	pod := webPod("gated")
	pod.Labels = map[string]string{"app": "gated"}
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "gated"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: pod.Labels, Ports: []corev1.ServicePort{{Port: 80, NodePort: gatePort}},
	}}
	if _, err := client.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := turn(ctx, client, true); err != nil {
		return err
	}
	var out, in []time.Duration
	for range times {
		closed, err := turn(ctx, client, false)
		if err != nil {
			return err
		}
		opened, err := turn(ctx, client, true)
		if err != nil {
			return err
		}
		out, in = append(out, closed), append(in, opened)
	}
	row(fmt.Sprintf("pod turns unready to first connection refused (%d times), median / p99", times), "%s / %s", ms(quantile(out, 0.5)), ms(quantile(out, 0.99)))
	row("pod turns ready to first connection accepted, median / p99", "%s / %s", ms(quantile(in, 0.5)), ms(quantile(in, 0.99)))
	return errors.Join(client.CoreV1().Pods("default").Delete(ctx, pod.Name, metav1.DeleteOptions{}),
		client.CoreV1().Services("default").Delete(ctx, service.Name, metav1.DeleteOptions{}))
}

// turn opens or closes the pod's gate and waits until connections tell.
func turn(ctx context.Context, client *kubernetes.Clientset, open bool) (time.Duration, error) {
	status := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[open]
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q}]}}`, gate, status)
	began := time.Now()
	if _, err := client.CoreV1().Pods("default").Patch(ctx, "gated", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		return 0, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", gatePort)
	for {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0) // or its port would be reused while the other side still has it
			_ = conn.Close()
		}
		switch {
		case err == nil && open, errors.Is(err, syscall.ECONNREFUSED) && !open:
			return time.Since(began), nil
		case err != nil && !errors.Is(err, syscall.ECONNREFUSED):
			return 0, err
		}
	}
}
