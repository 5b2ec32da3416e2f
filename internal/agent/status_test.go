package agent

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestContainerStatusTells: as whom a container runs, what it was given and what
// stops it, once it has been started.
func TestContainerStatusTells(t *testing.T) {
	quit := corev1.Signal("SIGQUIT")
	cpu := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{
		Name: "web", Image: "i",
		Resources: corev1.ResourceRequirements{Requests: cpu, Limits: cpu},
		Lifecycle: &corev1.Lifecycle{StopSignal: &quit},
	}}}}
	seen := Recall(stepEpoch, pod, nil, nil)
	if status := Step(stepEpoch, pod, seen).Status.ContainerStatuses[0]; status.AllocatedResources != nil || status.Resources != nil || status.User != nil {
		t.Errorf("before its start: %+v", status)
	}
	who := &corev1.LinuxContainerUser{UID: 1000, GID: 1001, SupplementalGroups: []int64{1001, 2000}}
	seen.Record(Container{ID: "1", Name: "web", Phase: ContainerRunning, StartedAt: stepEpoch.Add(-time.Second), User: who})
	status := Step(stepEpoch, pod, seen).Status.ContainerStatuses[0]
	if !equality.Semantic.DeepEqual(status.User, &corev1.ContainerUser{Linux: who}) {
		t.Errorf("user %+v", status.User)
	}
	if !equality.Semantic.DeepEqual(status.AllocatedResources, cpu) || status.Resources == nil || !equality.Semantic.DeepEqual(status.Resources.Limits, cpu) {
		t.Errorf("resources %+v, %+v", status.AllocatedResources, status.Resources)
	}
	if status.StopSignal == nil || *status.StopSignal != quit {
		t.Errorf("stop signal %v", status.StopSignal)
	}
}
