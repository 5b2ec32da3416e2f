package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"windlass.dev/windlass/test/harness"
)

// leases are tried at the same time, each on a machine of its own. The first is the
// shortest that there is.
var leases = []time.Duration{2 * time.Second, 3 * time.Second, 4 * time.Second}

// falseAlarms counts how often nodes that live are taken for dead, by their
// Leases, while the machine has much more to do than it can, and writes are many.
func (b *bench) falseAlarms(ctx context.Context) error {
	const busy = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return b.withFleet(ctx, len(leases), nil, func(f *harness.Fleet, client *kubernetes.Clientset) error {
		for i, m := range f.Agents {
			if err := m.Stop(); err != nil {
				return err
			}
			m.Args = []string{"--node-lease=" + leases[i].String()}
			if err := m.Start(); err != nil {
				return err
			}
			if err := m.WaitReady(ctx); err != nil {
				return err
			}
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		before, err := alarms(ctx, client)
		if err != nil {
			return err
		}
		if err := strain(ctx, client, busy); err != nil {
			return err
		}
		after, err := alarms(ctx, client)
		if err != nil {
			return err
		}
		var counts []string
		for i, m := range f.Agents {
			counts = append(counts, fmt.Sprintf("%v: %d", leases[i], after[m.Name]-before[m.Name]))
		}
		row(fmt.Sprintf("nodes that live taken for dead in %v, with %d busy processes and %d writers on %d cores, by --node-lease", busy, spinners(), writers, runtime.NumCPU()), "%s", strings.Join(counts, ", "))
		return nil
	})
}

func spinners() int { return 4 * runtime.NumCPU() }

// strain keeps the processors and the API busy for a time.
func strain(ctx context.Context, client *kubernetes.Clientset, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var group sync.WaitGroup
	for range spinners() {
		group.Go(func() { _ = exec.CommandContext(ctx, "sh", "-c", "while :; do :; done").Run() })
	}
	for w := range writers {
		group.Go(func() {
			configMaps := client.CoreV1().ConfigMaps("default")
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("write-%d-%d", w, i)
				if _, err := configMaps.Create(ctx, configMap(name), metav1.CreateOptions{}); err == nil {
					_ = configMaps.Delete(ctx, name, metav1.DeleteOptions{}) // or it stays
				}
			}
		})
	}
	group.Wait()
	return nil
}

// alarms counts, by node, how often it was told that it is not ready.
func alarms(ctx context.Context, client *kubernetes.Clientset) (map[string]int, error) {
	events, err := client.CoreV1().Events("").List(ctx, metav1.ListOptions{FieldSelector: "reason=NodeNotReady,involvedObject.kind=Node"})
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for i := range events.Items {
		event := &events.Items[i]
		counts[event.InvolvedObject.Name] += occurrences(event)
	}
	return counts, nil
}

func occurrences(event *corev1.Event) int {
	if event.Series != nil {
		return int(event.Series.Count)
	}
	return max(1, int(event.Count))
}
