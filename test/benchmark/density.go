package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// manyPods is how many pods are on the node at once.
const manyPods = 150

// crowd is a Deployment of many pods, with their nodeSelector.
func crowd(pods int, selector string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd}
spec:
  replicas: %d
  selector: {matchLabels: {run: crowd}}
  template:
    metadata: {labels: {run: crowd}}
    spec:
      nodeSelector: %s
      containers: [{name: httpd, image: 'httpd:2.2.31', ports: [{containerPort: 80}]}]
`, pods, selector)
}

// density measures many pods at once: the time to start and to end all, the
// memory that each costs beyond its own process, and what the server does while
// nothing happens.
func (b *bench) density(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	before, err := anonymous(b.cluster.Pid())
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := b.cluster.RunInput(ctx, crowd(manyPods, "{}"), b.cluster.Kubectl, "apply", "-f", "-"); err != nil {
		return err
	}
	if _, err := b.cluster.KubectlRun(ctx, "rollout", "status", "deployment/crowd", "--timeout=300s"); err != nil {
		return err
	}
	row(fmt.Sprintf("%d pods started at once, until all are Ready", manyPods), "%v", time.Since(began).Round(10*time.Millisecond))
	if err := pause(ctx, settled); err != nil {
		return err
	}
	after, err := anonymous(b.cluster.Pid())
	if err != nil {
		return err
	}
	monitors, n, err := monitorMemory(b.dir)
	if err != nil {
		return err
	}
	row(fmt.Sprintf("memory of the server with %d pods (RssAnon), 30 s later", manyPods), "%d kB, %d kB before", after, before)
	row("memory that one more pod costs beyond its own process", "%.0f kB (server %.0f, its monitor %.0f)",
		float64(after-before)/manyPods+float64(monitors)/float64(n), float64(after-before)/manyPods, float64(monitors)/float64(n))
	busy, err := cpuShare(ctx, b.cluster.Pid(), settled)
	if err != nil {
		return err
	}
	row(fmt.Sprintf("CPU of the server with %d pods and nothing to do, of one core", manyPods), "%.1f%%", 100*busy)
	if err := b.command(ctx); err != nil {
		return err
	}
	began = time.Now()
	if _, err := b.cluster.KubectlRun(ctx, "delete", "deployment/crowd", "--cascade=foreground", "--timeout=300s"); err != nil {
		return err
	}
	row(fmt.Sprintf("%d pods ended at once, until all are gone", manyPods), "%v", time.Since(began).Round(10*time.Millisecond))
	return nil
}

// command measures a command in a container, from the request to its end.
func (b *bench) command(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", b.cluster.Kubeconfig())
	if err != nil {
		return err
	}
	client, err := b.client()
	if err != nil {
		return err
	}
	pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "run=crowd", Limit: 1})
	if err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return errors.New("there is no pod to run a command in")
	}
	url := client.CoreV1().RESTClient().Get().Namespace("default").Resource("pods").Name(pods.Items[0].Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"/webapp"}, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	var times []time.Duration
	for range 30 {
		executor, err := remotecommand.NewWebSocketExecutor(config, "GET", url.String())
		if err != nil {
			return err
		}
		var out bytes.Buffer
		began := time.Now()
		err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &out})
		if code := (exec.CodeExitError{}); !errors.As(err, &code) { // its port is taken, which it says
			return fmt.Errorf("a command in pod %s: %w: %s", pods.Items[0].Name, err, out.String())
		}
		times = append(times, time.Since(began))
	}
	row("a command in a container, from the request to its end (30), median / p99", "%s / %s", ms(quantile(times, 0.5)), ms(quantile(times, 0.99)))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// anonymous is the memory of a process that is its own, in kB.
func anonymous(pid int) (int, error) { return memoryOf(pid, "status", "RssAnon:") }

func memoryOf(pid int, file, name string) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			return strconv.Atoi(strings.Fields(value)[0])
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", pid, file, name)
}

// monitorMemory is what the monitors of this benchmark's containers take together, in kB,
// shared pages by their parts, and how many there are.
func monitorMemory(dir string) (kB, count int, err error) {
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, 0, err
	}
	for _, path := range processes {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(line, []byte("conmon\x00")) && !bytes.HasPrefix(line, []byte("/usr/bin/conmon\x00")) || !bytes.Contains(line, []byte(dir)) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		part, err := memoryOf(pid, "smaps_rollup", "Pss:")
		if err != nil {
			continue // it has just ended
		}
		kB, count = kB+part, count+1
	}
	if count == 0 {
		return 0, 0, fmt.Errorf("no monitor of a container below %s runs", dir)
	}
	return kB, count, nil
}

// cpuShare is the part of one core that a process takes during a time.
func cpuShare(ctx context.Context, pid int, during time.Duration) (float64, error) {
	before, err := cpu(pid)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, during); err != nil {
		return 0, err
	}
	after, err := cpu(pid)
	return float64(after-before) / float64(during), err
}

// cpu is the time that a process has had.
func cpu(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * (time.Second / 100), err
}
