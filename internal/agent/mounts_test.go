package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
	"windlass.dev/windlass/internal/agent/volume"
)

func TestMounts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, parts := t.TempDir(), t.TempDir()
	t.Cleanup(func() { _ = volume.Remove(parts) })
	both, recursive := corev1.MountPropagationBidirectional, corev1.RecursiveReadOnlyEnabled
	c := &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{
		{Name: "v", MountPath: "/data", ReadOnly: true, RecursiveReadOnly: &recursive},
		{Name: "v", MountPath: "/etc/hosts", SubPathExpr: "$(NAME)/hosts"},
		{Name: "claim", MountPath: "claim", MountPropagation: &both},
	}}
	volumes := map[string]volume.Directory{"v": {Path: dir}, "claim": {Path: "/claim", ReadOnly: true}}
	got, err := mountsOf(c, volumes, parts, environment.Lookup([]string{"NAME=me"}))
	if err != nil {
		if strings.Contains(err.Error(), "not permitted") {
			t.Skipf("mounting is not allowed here: %v", err)
		}
		t.Fatal(err)
	}
	got = withFiles(got, []Mount{{Source: "/f/hosts", Destination: "/etc/hosts"}, {Source: "/f/hostname", Destination: "/etc/hostname"}})
	want := []Mount{
		{Source: dir, Destination: "/data", ReadOnly: true, Recursive: recursive},
		{Source: parts + "/1", Destination: "/etc/hosts"},
		{Source: "/claim", Destination: "/claim", ReadOnly: true, Propagation: both},
		{Source: "/f/hostname", Destination: "/etc/hostname"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "me", "hosts", "seen"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(parts, "1", "seen")); err != nil {
		t.Errorf("the part of the volume is not there: %v", err)
	}
}

func TestMountRefusals(t *testing.T) {
	for want, mount := range map[string]corev1.VolumeMount{
		`volume "none" of mount /m is not in the pod`:                                                                  {Name: "none", MountPath: "/m"},
		`failed to prepare subPath for volumeMount "v" of container "c": missing value for "NONE"`:                     {Name: "v", MountPath: "/m", SubPathExpr: "$(NONE)"},
		`failed to prepare subPath for volumeMount "v" of container "c": subPath "../x": must stay in the volume`:      {Name: "v", MountPath: "/m", SubPathExpr: "$(UP)/x"},
		`failed to prepare subPath for volumeMount "v" of container "c": subPath "/x/y": must not be an absolute path`: {Name: "v", MountPath: "/m", SubPathExpr: "$(ROOT)/y"},
	} {
		c := &corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{mount}}
		volumes := map[string]volume.Directory{"v": {Path: t.TempDir()}}
		_, err := mountsOf(c, volumes, t.TempDir(), environment.Lookup([]string{"UP=..", "ROOT=/x"}))
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
