package agent

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func TestPodGroup(t *testing.T) {
	with := func(c corev1.Container, requests, limits string) corev1.Container {
		list := func(text string) corev1.ResourceList {
			l := corev1.ResourceList{}
			for pair := range strings.FieldsSeq(text) {
				name, amount, _ := strings.Cut(pair, "=")
				l[corev1.ResourceName(name)] = resource.MustParse(amount)
			}
			return l
		}
		c.Resources = corev1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}
		return c
	}
	var c corev1.Container
	sidecar := corev1.Container{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}
	whole := with(c, "memory=1Gi", "memory=1Gi").Resources
	for _, test := range []struct {
		name string
		spec corev1.PodSpec
		want PodGroup
	}{
		{"nothing", corev1.PodSpec{Containers: []corev1.Container{c, c}}, PodGroup{corev1.PodQOSBestEffort, Resources{CPUShares: 2}}},
		{"guaranteed", corev1.PodSpec{Containers: []corev1.Container{with(c, "cpu=500m memory=1Mi", "cpu=500m memory=1Mi"), with(c, "cpu=1 memory=1Mi", "cpu=1 memory=1Mi")}},
			PodGroup{corev1.PodQOSGuaranteed, Resources{CPUShares: 1536, CPUQuota: 150_000, CPUPeriod: 100_000, MemoryLimit: 2 << 20}}},
		{"one has no limit", corev1.PodSpec{Containers: []corev1.Container{with(c, "cpu=500m", "cpu=1 memory=1Mi"), with(c, "", "memory=1Mi")}},
			PodGroup{corev1.PodQOSBurstable, Resources{CPUShares: 512, MemoryLimit: 2 << 20}}},
		{"sidecar and init", corev1.PodSpec{
			InitContainers: []corev1.Container{with(sidecar, "cpu=500m", "memory=1Mi"), with(c, "cpu=2", "memory=9Mi")},
			Containers:     []corev1.Container{with(c, "cpu=500m", "memory=1Mi")}},
			PodGroup{corev1.PodQOSBurstable, Resources{CPUShares: 2560, MemoryLimit: 10 << 20}}},
		{"overhead", corev1.PodSpec{Overhead: with(c, "cpu=500m memory=1Mi", "").Resources.Requests, Containers: []corev1.Container{with(c, "cpu=500m", "cpu=1 memory=1Mi")}},
			PodGroup{corev1.PodQOSBurstable, Resources{CPUShares: 1024, CPUQuota: 150_000, CPUPeriod: 100_000, MemoryLimit: 2 << 20}}},
		{"of the pod as a whole", corev1.PodSpec{Resources: &whole, Containers: []corev1.Container{c, with(c, "", "memory=1Mi")}},
			PodGroup{corev1.PodQOSBurstable, Resources{CPUShares: 2, MemoryLimit: 1 << 30}}},
	} {
		test.want.Resources.PidsLimit = 9
		if got := podGroupOf(&corev1.Pod{Spec: test.spec}, 9); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: "system-node-critical", Containers: []corev1.Container{c}}}
	if got := resourcesOf(pod, &c, 1<<30).OOMScoreAdj; got != -997 {
		t.Errorf("what the node cannot do without has an OOM score of %d", got)
	}
}
