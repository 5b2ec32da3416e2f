package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type listRuntime struct {
	Runtime
	containers []Container
}

func (r listRuntime) List(context.Context) ([]Container, error) { return r.containers, nil }

type podReader struct {
	client.Reader
	pods []corev1.Pod
	err  error
}

func (r podReader) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	into.(*corev1.PodList).Items = r.pods
	return r.err
}

// An image is in use by containers in any state and by pods of this node that have not finished.
func TestImagesInUse(t *testing.T) {
	pod := func(name, node string, phase corev1.PodPhase, images ...string) corev1.Pod {
		p := corev1.Pod{}
		p.Namespace, p.Name, p.UID, p.Spec.NodeName, p.Status.Phase = "default", name, "uid-x", node, phase
		p.Spec.InitContainers = []corev1.Container{{Image: images[0]}}
		p.Spec.Containers = []corev1.Container{{Image: images[1]}}
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Image: images[2]}}}
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: images[3]}}}}
		return p
	}
	finished := pod("done", "here", corev1.PodSucceeded, "no", "no", "no", "no")
	finished.UID = "uid-done"
	runtime := listRuntime{containers: []Container{
		{Name: "a", PodUID: "uid-done", ImageID: "sha256:1", Phase: ContainerExited}, {Name: "b", PodUID: "uid-gone", ImageID: "sha256:2", VolumeImageIDs: []string{"sha256:3"}, Phase: ContainerRunning},
	}}
	pods := podReader{pods: []corev1.Pod{pod("web", "here", corev1.PodPending, "init", "main", "debug", "volume"), pod("far", "there", corev1.PodRunning, "no", "no", "no", "no"), finished}}
	got, err := ImagesInUse(t.Context(), runtime, pods, "here")
	web := []string{"pod default/web"}
	want := map[string][]string{"init": web, "main": web, "debug": web, "volume": web, "sha256:1": {"pod default/done"}, "sha256:2": {"container b"}, "sha256:3": {"container b"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := ImagesInUse(t.Context(), runtime, nil, "here"); err != nil || len(got) != 3 {
		t.Errorf("without pods: %v, %v", got, err)
	}
	// Who cannot tell what is in use must not say that nothing is.
	if got, err := ImagesInUse(t.Context(), runtime, podReader{err: errors.New("not started")}, "here"); err == nil {
		t.Errorf("%v though pods are not known", got)
	}
}

func TestPullReport(t *testing.T) {
	if got := pullReport("x", 10*time.Second, nil); !strings.Contains(got, `waiting to pull image "x" after 10s`) {
		t.Error(got)
	}
	got := pullReport("x", 20*time.Second, &PullProgress{Layers: 3, LayersDone: 1, Bytes: 5e6, BytesDone: 25e5})
	if want := `Still pulling image "x" after 20s: 1 of 3 layers, 2.5 of 5.0 MB`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCollectReasons(t *testing.T) {
	if got := collectReasons(fmt.Errorf("%w: x", ErrNotEnoughFreed)); !slices.Equal(got, []string{"FreeDiskSpaceFailed", "ImageGCFailed"}) {
		t.Error(got)
	}
	if got := collectReasons(errors.New("x")); !slices.Equal(got, []string{"ImageGCFailed"}) {
		t.Error(got)
	}
}

func TestRepositoryOf(t *testing.T) {
	for image, want := range map[string]string{
		"httpd": "docker.io/library/httpd", "r.example:5000/team/app:v1": "r.example:5000/team/app", "a/b@sha256:" + strings.Repeat("0", 64): "docker.io/a/b",
	} {
		if got := repositoryOf(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}
