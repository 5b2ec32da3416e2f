package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The files of a running pod follow the ConfigMap, the Secret and the labels that
// they are made of, also what changed while no agent ran.
func testVolumes(t *testing.T, h *harness) {
	ctx := context.Background()
	meta := metav1.ObjectMeta{Namespace: "default", Name: h.name}
	cm := &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"file": "1"}}
	secret := &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"file": "1"}}
	for _, object := range []client.Object{cm, secret} {
		if err := h.client.Create(ctx, object); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	yes := true
	pod := h.untilReady(h.pod("p", func(pod *corev1.Pod) {
		name := corev1.LocalObjectReference{Name: h.name}
		pod.Spec.Volumes = []corev1.Volume{
			{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name}}},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: name}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: h.name + "-later"}, Optional: &yes}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}}}},
			}}}},
		}
	}))
	file := func(path string) string {
		content, err := os.ReadFile(filepath.Join(h.data, "pods", string(pod.UID), "volumes", path))
		if err != nil {
			return err.Error()
		}
		return string(content)
	}
	access := pod.Spec.Volumes[len(pod.Spec.Volumes)-1].Name
	for path, want := range map[string]string{"cm/file": "1", "all/file": "1", "all/labels": h.name, access + "/namespace": "default", access + "/ca.crt": "certificate"} {
		if got := file(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	token := file(access + "/token")
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := h.client.Create(ctx, review); err != nil || review.Status.User.Username != "system:serviceaccount:default:default" ||
		review.Status.User.Extra["authentication.kubernetes.io/pod-name"][0] != pod.Name {
		t.Errorf("the pod's token: %v, %+v", err, review.Status)
	}
	change := func(to string) {
		t.Helper()
		cm.Data["file"], secret.StringData = to, map[string]string{"file": to}
		now := h.get(pod)
		now.Labels["app"] = to
		for _, object := range []client.Object{cm, secret, now} {
			if err := h.client.Update(ctx, object); err != nil {
				t.Fatal(err)
			}
		}
	}
	follows := func(to string) {
		t.Helper()
		for _, path := range []string{"cm/file", "all/file", "all/labels"} {
			h.until(path+" is "+to, func() bool { return file(path) == to })
		}
	}
	change("2")
	follows("2")
	later := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: h.name + "-later"}, StringData: map[string]string{"more": "3"}}
	if err := h.client.Create(ctx, later); err != nil {
		t.Fatal(err)
	}
	h.until("an optional Secret has come", func() bool { return file("all/more") == "3" })
	h.stop()
	change("4")
	h.start()
	follows("4")
	if file(access+"/token") != token {
		t.Error("the token was renewed before its time")
	}
	if err := h.client.Delete(ctx, cm); err != nil {
		t.Fatal(err)
	}
	h.until("the missing ConfigMap is told", func() bool { return h.events.has(`FailedMount: MountVolume.SetUp failed for volume "cm"`) })
	if got := file("cm/file"); got != "4" || !ready(h.get(pod)) {
		t.Errorf("without its ConfigMap the file is %q", got)
	}
	if calls := strings.Join(h.node.Calls(), " "); strings.Count(calls, "start ") != 1 {
		t.Errorf("the container was started again: %s", calls)
	}
}
