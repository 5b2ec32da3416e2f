package volume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"windlass.dev/windlass/internal/agent/environment"
)

func TestMemorySize(t *testing.T) {
	container := func(limit string) corev1.Container {
		c := corev1.Container{}
		if limit != "" {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}
		}
		return c
	}
	facts := environment.Facts{Allocatable: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}
	for _, test := range []struct {
		what, limit string
		mains       []string
		inits       []string
		want        int64
	}{
		{"nothing is said", "", []string{""}, nil, 1 << 30},
		{"a limit of its own", "1Mi", []string{""}, nil, 1 << 20},
		{"more than the node has", "2Gi", []string{""}, nil, 1 << 30},
		{"the containers' limits", "", []string{"1Mi", "2Mi"}, nil, 3 << 20},
		{"one container has none", "", []string{"1Mi", ""}, nil, 1 << 30},
		{"its own is less than the containers'", "1Mi", []string{"4Mi"}, nil, 1 << 20},
		{"its own is more than the containers'", "8Mi", []string{"4Mi"}, nil, 4 << 20},
		{"an init container has more", "", []string{"1Mi"}, []string{"4Mi"}, 4 << 20},
	} {
		source, pod := &corev1.EmptyDirVolumeSource{}, &corev1.Pod{}
		if test.limit != "" {
			limit := resource.MustParse(test.limit)
			source.SizeLimit = &limit
		}
		for _, limit := range test.mains {
			pod.Spec.Containers = append(pod.Spec.Containers, container(limit))
		}
		for _, limit := range test.inits {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, container(limit))
		}
		if got := memorySize(source, pod, facts); got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.what, got, test.want)
		}
	}
}
