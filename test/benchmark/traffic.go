package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	trafficPort = 30098
	publicPort  = 30097 // of the container
	rounds      = 5
	roundTime   = 2 * time.Second
)

// way is a way to a web server, and what was measured on it, round by round.
type way struct {
	name, url string
	rates     []float64 // requests a second
	late      []time.Duration
	lost      []string // what wrk says of rounds in which not all was answered
}

// traffic measures what a Service costs: the same server asked directly and
// through its node port, beside Docker's published port, in turns. wrk makes the
// load: 16 connections, kept or one for each request.
func (b *bench) traffic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	ways, err := b.windlassWays(ctx)
	if err != nil {
		return err
	}
	published, err := b.dockerWays(ctx)
	if err != nil {
		return err
	}
	ways = append(ways, published...)
	for _, w := range ways {
		if err := answers(ctx, &http.Client{Timeout: time.Second}, w.url); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	for _, kept := range []bool{true, false} {
		how := "a connection for each request"
		if kept {
			how = "16 kept connections"
		}
		for range rounds {
			for i := range ways {
				if err := ways[i].measure(ctx, kept); err != nil {
					return err
				}
			}
		}
		for i := range ways {
			w := &ways[i]
			direct := &ways[i-i%len(published)]
			figure := fmt.Sprintf("%.0f requests/s, p99 %s", median(w.rates), ms(quantile(w.late, 0.5)))
			if w != direct {
				figure += fmt.Sprintf("; %.3f of the direct way's rate, %.2f times its p99", roundRatio(w, direct), float64(quantile(w.late, 0.5))/float64(quantile(direct.late, 0.5)))
			}
			if len(w.lost) > 0 {
				figure += "; " + strings.Join(w.lost, "; ")
			}
			row(fmt.Sprintf("%s, %s (median of %d)", w.name, how, rounds), "%s", figure)
		}
		for i := range ways {
			ways[i].rates, ways[i].late, ways[i].lost = nil, nil, nil
		}
	}
	return nil
}

// roundRatio is the median over the rounds of w's rate as a part of direct's,
// so that a machine that is slow for a while does not count.
func roundRatio(w, direct *way) float64 {
	var ratios []float64
	for i, rate := range w.rates {
		ratios = append(ratios, rate/direct.rates[i])
	}
	return median(ratios)
}

func median(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// windlassWays is a pod asked at its own address, and through its node port at
// the node's address and at 127.0.0.1.
func (b *bench) windlassWays(ctx context.Context) ([]way, error) {
	client, err := b.client()
	if err != nil {
		return nil, err
	}
	pod := webPod("traffic")
	pod.Labels = map[string]string{"app": "traffic"}
	if _, err := client.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "traffic"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, Selector: pod.Labels, Ports: []corev1.ServicePort{{Port: 80, NodePort: trafficPort}},
	}}, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if _, err := b.cluster.KubectlRun(ctx, "wait", "--for=condition=Ready", "pod/traffic", "--timeout=60s"); err != nil {
		return nil, err
	}
	if pod, err = client.CoreV1().Pods("default").Get(ctx, "traffic", metav1.GetOptions{}); err != nil {
		return nil, err
	}
	return []way{
		{name: "Windlass, the pod's address", url: fmt.Sprintf("http://%s/", pod.Status.PodIP)},
		{name: "Windlass, node port at the node's address", url: fmt.Sprintf("http://%s:%d/", pod.Status.HostIP, trafficPort)},
		{name: "Windlass, node port at 127.0.0.1", url: fmt.Sprintf("http://127.0.0.1:%d/", trafficPort)},
	}, nil
}

// dockerWays is a container asked at its own address, and through its published
// port at the bridge's address and at 127.0.0.1.
func (b *bench) dockerWays(ctx context.Context) ([]way, error) {
	if err := b.startDocker(ctx); err != nil {
		return nil, err
	}
	id, err := b.docker.run(ctx, "run", "-d", "--rm", "-p", fmt.Sprintf("%d:80", publicPort), "httpd:2.2.31")
	if err != nil {
		return nil, err
	}
	ip, err := b.docker.address(ctx, id)
	if err != nil {
		return nil, err
	}
	gateway, err := b.docker.run(ctx, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", id)
	if err != nil {
		return nil, err
	}
	return []way{
		{name: "Docker, the container's address", url: fmt.Sprintf("http://%s/", ip)},
		{name: "Docker, published port at the bridge's address", url: fmt.Sprintf("http://%s:%d/", gateway, publicPort)},
		{name: "Docker, published port at 127.0.0.1", url: fmt.Sprintf("http://127.0.0.1:%d/", publicPort)},
	}, nil
}

var (
	wrkRate = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLate = regexp.MustCompile(`99%\s+([\d.]+[a-z]+)`)
	wrkLost = regexp.MustCompile(`Socket errors: .*|Non-2xx or 3xx responses: .*`)
)

// measure adds one round.
func (w *way) measure(ctx context.Context, kept bool) error {
	args := []string{"-t1", "-c16", "--latency", fmt.Sprintf("-d%.0fs", roundTime.Seconds())}
	if !kept {
		args = append(args, "-H", "Connection: close")
	}
	out, err := exec.CommandContext(ctx, "wrk", append(args, w.url)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk %s: %w: %s", w.url, err, out)
	}
	if lost := wrkLost.Find(out); lost != nil {
		w.lost = append(w.lost, string(lost))
	}
	rate, late := wrkRate.FindSubmatch(out), wrkLate.FindSubmatch(out)
	if rate == nil || late == nil {
		return fmt.Errorf("wrk %s printed no figures: %s", w.url, out)
	}
	perSecond, err := strconv.ParseFloat(string(rate[1]), 64)
	if err != nil {
		return err
	}
	p99, err := time.ParseDuration(string(late[1]))
	if err != nil {
		return err
	}
	w.rates, w.late = append(w.rates, perSecond), append(w.late, p99)
	return nil
}
