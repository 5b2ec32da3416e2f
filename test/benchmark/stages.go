package main

import (
	"bytes"
	"context"
	"fmt"
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"
)

// stages are the stages of a pod's start as the server measures them, in their
// order, those within another one indented.
var stages = []struct{ name, title string }{
	{"prepare", "prepared"},
	{"network", "- network"},
	{"volumes", "- volumes, token"},
	{"image", "- image found"},
	{"container", "container made and started"},
	{"container_groups", "- control groups of the pod"},
	{"container_rootfs", "- root filesystem"},
	{"container_bundle", "- its specification"},
	{"container_create", "- created (conmon, runc create)"},
	{"container_start", "- started"},
	{"ready", "started to listening"},
	{"status", "listening to told"},
	{"", "seen by the node to told Ready"},
}

// histogram is how many observations were at most so long, in seconds.
type histogram struct {
	limits []float64
	counts []uint64
}

// startStages reads what the server has measured so far, by stage; "" is the whole start.
func startStages(ctx context.Context, client *kubernetes.Clientset) (map[string]histogram, error) {
	text, err := client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read /metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read /metrics: %w", err)
	}
	found := map[string]histogram{}
	for _, name := range []string{"windlass_pod_start_stage_duration_seconds", "windlass_pod_start_duration_seconds"} {
		for _, m := range families[name].GetMetric() {
			found[stageLabel(m)] = toHistogram(m)
		}
	}
	return found, nil
}

func stageLabel(m *dto.Metric) string {
	for _, label := range m.Label {
		if label.GetName() == "stage" {
			return label.GetValue()
		}
	}
	return ""
}

func toHistogram(m *dto.Metric) (h histogram) {
	for _, bucket := range m.GetHistogram().GetBucket() {
		h.limits, h.counts = append(h.limits, bucket.GetUpperBound()), append(h.counts, bucket.GetCumulativeCount())
	}
	return h
}

// since is what came after another reading, which may be none.
func (h histogram) since(before histogram) histogram {
	later := histogram{limits: h.limits}
	for i, n := range h.counts {
		if len(before.counts) > 0 {
			n -= before.counts[i]
		}
		later.counts = append(later.counts, n)
	}
	return later
}

// quantile is in milliseconds, evened out within a bucket as PromQL does.
func (h histogram) quantile(q float64) float64 {
	if len(h.counts) == 0 || h.counts[len(h.counts)-1] == 0 {
		return math.NaN()
	}
	rank := q * float64(h.counts[len(h.counts)-1])
	below, from := 0.0, 0.0
	for i, n := range h.counts {
		if count := float64(n); count >= rank {
			to := h.limits[i]
			if math.IsInf(to, 1) {
				return from * 1000
			}
			return (from + (to-from)*(rank-below)/max(count-below, 1)) * 1000
		}
		below, from = float64(n), h.limits[i]
	}
	return math.NaN()
}

// printStages prints a row for each stage of the starts between two readings.
func printStages(before, after map[string]histogram) {
	for _, stage := range stages {
		h := after[stage.name].since(before[stage.name])
		row("of a start: "+stage.title+", median / p99", "%.1f ms / %.1f ms", h.quantile(0.5), h.quantile(0.99))
	}
}
