package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// However many ask for the log of a container that runs, one thing is kept for them
// until it has ended.
func TestEnded(t *testing.T) {
	pod := &corev1.Pod{}
	w := newWorker(&Agent{}, pod, Recall(stepEpoch, pod, nil, nil))
	w.seen.Record(Container{ID: "1", Name: "web", Phase: ContainerRunning})
	first := w.ended("1")
	for range 100 {
		if w.ended("1") != first {
			t.Fatal("another channel for the same container")
		}
	}
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	other := w.ended("2") // is not there any more
	if w.tellEnds(); closed(first) || !closed(other) {
		t.Errorf("that the one which runs has ended: %v, that the other has: %v", closed(first), closed(other))
	}
	w.seen.Record(Container{ID: "1", Name: "web", Phase: ContainerExited})
	if w.tellEnds(); !closed(first) || len(w.ends) > 0 {
		t.Errorf("not told of its end; kept: %v", w.ends)
	}
	last := w.ended("3")
	if w.end(); !closed(last) || !closed(w.ended("4")) {
		t.Error("the worker has ended, and somebody waits for it")
	}
}

// What is remembered of a container's attempts does not grow with their number.
func TestAttemptsAreForgotten(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "web", Image: "i"}}}}
	w := newWorker(&Agent{}, pod, Recall(stepEpoch, pod, nil, nil))
	for attempt := range 10 {
		id := ContainerID("", "web", attempt)
		w.record(Container{ID: id, Name: "web", Attempt: attempt, Phase: ContainerRunning, StartedAt: stepEpoch})
		w.seen.Memory.Listening[id] = true
		w.progress(id, func(p *StopProgress) { p.SignalledAt = stepEpoch })
		w.seen.Memory = Step(stepEpoch, pod, w.seen).Memory
		w.record(Container{ID: id, Name: "web", Attempt: attempt, Phase: ContainerExited, StartedAt: stepEpoch, FinishedAt: stepEpoch})
	}
	if listening, stops := len(w.seen.Memory.Listening), len(w.seen.Stops); listening > 1 || stops > 0 {
		t.Errorf("%d that listened, %d that were stopped", listening, stops)
	}
}
