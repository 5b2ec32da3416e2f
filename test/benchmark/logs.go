package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/test/harness"
)

const (
	logRounds = 5
	logLine   = 100      // bytes
	logBytes  = 30 << 20 // that a container writes: with what is added to each line no more than is kept of a log
)

// flood is a command of busybox that writes lines as fast as they are taken, and
// then how long that took, all of it on standard output.
var flood = []string{"-c", fmt.Sprintf("busybox time sh -c 'busybox yes %s | busybox head -c %d' 2>/took; busybox cat /took", strings.Repeat("a", logLine-1), logBytes)}

// logImage is what floods run in.
var logImage = harness.Busybox("busybox:1")

// took is busybox's way to tell how long a command took.
var took = regexp.MustCompile(`real\s+(\d+)m ([\d.]+)s`)

// logs measures how fast the lines of a container get into its log, and how fast a
// client reads them: afterwards, and as they come. Docker's json-file beside it.
func (b *bench) logs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	client, err := b.client()
	if err != nil {
		return err
	}
	if err := b.cluster.LoadImages(ctx, logImage); err != nil {
		return err
	}
	if err := b.startDocker(ctx); err != nil {
		return err
	}
	archive := filepath.Join(b.dir, "busybox.tar")
	if err := harness.SaveImages(archive, logImage); err != nil {
		return err
	}
	if _, err := b.docker.run(ctx, "load", "-i", archive); err != nil {
		return err
	}
	var own, peer logRates
	for i := range logRounds {
		if err := own.pod(ctx, client, fmt.Sprintf("flood-%d", i)); err != nil {
			return err
		}
		if err := peer.container(ctx, &b.docker); err != nil {
			return err
		}
	}
	for _, r := range []struct {
		what      string
		own, peer []float64
	}{
		{"lines written to the log", own.written, peer.written},
		{"the log read by a client afterwards", own.read, peer.read},
		{"written, and read by a client that follows", own.followed, peer.followed},
	} {
		row(fmt.Sprintf("%s, %d-byte lines (median of %d)", r.what, logLine, logRounds), "%.0f MB/s; `docker` %.0f MB/s; %.2f of it",
			median(r.own), median(r.peer), median(r.own)/median(r.peer))
	}
	return nil
}

// logRates are of what a container says, in MB/s, without what is added in the log.
type logRates struct{ written, read, followed []float64 }

// addRate adds the rate of n bytes.
func addRate(rates *[]float64, n int64, took time.Duration) {
	*rates = append(*rates, float64(n)/1e6/took.Seconds())
}

// pod has one pod flood its log alone, and one while a client follows.
func (r *logRates) pod(ctx context.Context, client *kubernetes.Clientset, name string) error {
	pods := client.CoreV1().Pods("default")
	for _, follow := range []bool{false, true} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "main", Image: logImage.Ref, Args: flood}},
		}}
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
		phases := []corev1.PodPhase{corev1.PodSucceeded}
		if follow {
			phases = append(phases, corev1.PodRunning)
		}
		if err := awaitPhase(ctx, client, name, phases...); err != nil {
			return err
		}
		stream, err := pods.GetLogs(name, &corev1.PodLogOptions{Follow: follow}).Stream(ctx)
		if err != nil {
			return err
		}
		text := newReading()
		_, err = io.Copy(text, stream)
		_ = stream.Close()
		if err != nil {
			return err
		}
		if err := r.add(text, follow); err != nil {
			return fmt.Errorf("pod %s: %w", name, err)
		}
		zero := int64(0)
		if err := pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			return err
		}
		name += "-followed"
	}
	return nil
}

// container does the same with Docker.
func (r *logRates) container(ctx context.Context, d *docker) error {
	for _, follow := range []bool{false, true} {
		id, err := d.run(ctx, append([]string{"run", "-d", logImage.Ref}, flood...)...)
		if err != nil {
			return err
		}
		args := []string{"-H", "unix://" + filepath.Join(d.dir, "sock"), "logs", "--follow=" + strconv.FormatBool(follow), id}
		if !follow {
			if _, err := d.run(ctx, "wait", id); err != nil {
				return err
			}
		}
		text := newReading()
		cmd := exec.CommandContext(ctx, "docker", args...)
		cmd.Stdout, cmd.Stderr = text, text
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("docker logs: %w", err)
		}
		if err := r.add(text, follow); err != nil {
			return fmt.Errorf("docker: %w", err)
		}
		if _, err := d.run(ctx, "rm", id); err != nil {
			return err
		}
	}
	return nil
}

// add takes in a log that was read whole.
func (r *logRates) add(text *reading, followed bool) error {
	wrote := took.FindSubmatch(text.end)
	if text.n < logBytes || wrote == nil {
		return fmt.Errorf("its log has %d bytes and ends with %.80q", text.n, text.end)
	}
	if followed {
		addRate(&r.followed, text.n, time.Since(text.began))
		return nil
	}
	addRate(&r.read, text.n, time.Since(text.began))
	minutes, err := strconv.Atoi(string(wrote[1]))
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(string(wrote[2]), 64)
	if err != nil {
		return err
	}
	addRate(&r.written, text.n, time.Duration((float64(minutes)*60+seconds)*float64(time.Second)))
	return nil
}

// reading counts what is written to it and keeps its end.
type reading struct {
	began time.Time
	n     int64
	end   []byte
}

func newReading() *reading { return &reading{began: time.Now()} }

// Write implements io.Writer.
func (r *reading) Write(p []byte) (int, error) {
	const kept = 256
	r.n += int64(len(p))
	r.end = append(r.end, p[max(0, len(p)-kept):]...)
	r.end = r.end[max(0, len(r.end)-kept):]
	return len(p), nil
}

// awaitPhase waits until a pod is in one of some phases.
func awaitPhase(ctx context.Context, client *kubernetes.Clientset, name string, phases ...corev1.PodPhase) error {
	watch, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("the watch of pod %s tells of %T", name, event.Object)
		}
		for _, phase := range phases {
			if pod.Status.Phase == phase {
				return nil
			}
		}
		if pod.Status.Phase == corev1.PodFailed {
			return fmt.Errorf("pod %s failed: %s", name, pod.Status.Message)
		}
	}
	return fmt.Errorf("the watch of pod %s ended: %w", name, ctx.Err())
}
