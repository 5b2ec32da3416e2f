package agent

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/condition"
)

// The stages of a pod's start, as the label "stage" names them. The first three
// happen side by side. A Runtime adds those that StageContainer consists of.
const (
	StageNetwork   = "network"   // its network namespace, address and links are made
	StageVolumes   = "volumes"   // its volumes are made, with the token in them
	StageImage     = "image"     // a container's image is found or pulled
	StagePrepare   = "prepare"   // from the first sight of the pod to the start of its first container
	StageContainer = "container" // a container is made and started, for the first time
	StageReady     = "ready"     // from the start of its last container to all being ready
	StageStatus    = "status"    // from there until the API has the pod as Ready
)

// Stages measures how long the stages of pods' starts take. It is a
// prometheus.Collector. Its methods may be called by several goroutines.
type Stages struct {
	stages *prometheus.HistogramVec
	starts prometheus.Histogram
}

// NewStages returns measurements that have none yet.
func NewStages() *Stages {
	// Half a millisecond to two seconds, close enough together to tell a median from, and then on for what has to be pulled.
	buckets := append(prometheus.ExponentialBucketsRange(0.0005, 2.048, 25), 5, 10, 30, 60, 300)
	return &Stages{
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "windlass_pod_start_stage_duration_seconds",
			Help:    "How long a stage of the starts of this node's pods took; stages may overlap.",
			Buckets: buckets,
		}, []string{"stage"}),
		starts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "windlass_pod_start_duration_seconds",
			Help:    "From the node's first sight of a pod until the API had it as Ready for the first time.",
			Buckets: buckets,
		}),
	}
}

// Observe adds what a stage has taken once.
func (s *Stages) Observe(stage string, took time.Duration) {
	s.stages.WithLabelValues(stage).Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (s *Stages) Describe(to chan<- *prometheus.Desc) {
	s.stages.Describe(to)
	s.starts.Describe(to)
}

// Collect implements prometheus.Collector.
func (s *Stages) Collect(to chan<- prometheus.Metric) {
	s.stages.Collect(to)
	s.starts.Collect(to)
}

// Describe implements prometheus.Collector.
func (a *Agent) Describe(to chan<- *prometheus.Desc) { a.cfg.Stages.Describe(to) }

// Collect implements prometheus.Collector.
func (a *Agent) Collect(to chan<- prometheus.Metric) { a.cfg.Stages.Collect(to) }

// firstStart follows the first start of a pod that this agent has seen from its
// beginning. The worker tells it what happens.
type firstStart struct {
	stages *Stages // nil: not followed, or over
	took   []any   // of the stages that are over, to be logged

	seen, begun, ready time.Time // the pod, its first container, all containers
}

// followStart begins to follow a pod, unless an agent has known it before.
func followStart(stages *Stages, pod *corev1.Pod, now time.Time) firstStart {
	if pod.Status.StartTime != nil || pod.UID == "" {
		return firstStart{}
	}
	return firstStart{stages: stages, seen: now}
}

// stageOf is the stage that an act is, "" for none.
func stageOf(act Act) string {
	switch act.Kind {
	case ActSetupNetwork:
		return StageNetwork
	case ActPrepareVolumes:
		return StageVolumes
	case ActEnsureImage:
		return StageImage
	case ActStart:
		return StageContainer
	}
	return ""
}

// begins takes in that an act is begun.
func (f *firstStart) begins(act Act, at time.Time) {
	if f.stages != nil && act.Kind == ActStart && f.begun.IsZero() {
		f.begun = at
		f.over(StagePrepare, at.Sub(f.seen))
	}
}

// ends takes in how long an act has taken that has succeeded.
func (f *firstStart) ends(act Act, took time.Duration) {
	if stage := stageOf(act); f.stages != nil && stage != "" && act.Attempt == 0 {
		f.over(stage, took)
	}
}

// decided takes in what was decided of the pod.
func (f *firstStart) decided(d *Decision, now time.Time) {
	switch {
	case f.stages == nil:
	case condition.Ended(d.Status.Phase) || d.Ending || d.Done:
		f.stages = nil // it did not come to it, or was not to
	case f.ready.IsZero() && readiness(&d.Status) == corev1.ConditionTrue:
		f.ready = now
		if started := d.Memory.Moments.Started; started != nil {
			f.over(StageReady, now.Sub(started.Time))
		}
	}
}

// written takes in that the API has a status, and returns what the stages took
// once they are over.
func (f *firstStart) written(status *corev1.PodStatus, now time.Time) []any {
	if f.stages == nil || f.ready.IsZero() || readiness(status) != corev1.ConditionTrue {
		return nil
	}
	f.over(StageStatus, now.Sub(f.ready))
	f.stages.starts.Observe(now.Sub(f.seen).Seconds())
	f.stages = nil
	return append([]any{slog.Duration("total", now.Sub(f.seen))}, f.took...)
}

func (f *firstStart) over(stage string, took time.Duration) {
	f.stages.Observe(stage, took)
	f.took = append(f.took, slog.Duration(stage, took))
}
