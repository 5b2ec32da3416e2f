package volume

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func owner(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %v", st.Uid, st.Gid, info.Mode())
}

func withGroup(pod *corev1.Pod, group int64, policy corev1.PodFSGroupChangePolicy) *corev1.Pod {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group, FSGroupChangePolicy: &policy}
	return pod
}

func TestFSGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files away needs root")
	}
	mode := int32(0o400)
	pod := withGroup(podWith(
		corev1.Volume{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, DefaultMode: &mode}}},
		corev1.Volume{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	), 1234, corev1.FSGroupChangeAlways)
	paths, err := prepared(t.TempDir(), pod, objects{map[string]string{"a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.EvalSymlinks(filepath.Join(paths["cm"], "..data"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		data:           "0:1234 dgrwxr-xr-x",
		data + "/a":    "0:1234 -r--r-----",
		paths["empty"]: "0:1234 dgrwxrwxrwx",
	} {
		if got := owner(t, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// The files of a claim's volume belong to the group, and links lead nobody out.
func TestFSGroupOfClaims(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files away needs root")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	for path, mode := range map[string]fs.FileMode{outside: 0o600, dir + "/file": 0o600, dir + "/script": 0o700} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	claim := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}
	prepare := func(policy corev1.PodFSGroupChangePolicy, place Directory) {
		t.Helper()
		if _, err := Prepare(t.TempDir(), withGroup(podWith(claim), 1234, policy), Sources{Claims: claims{"c": place}}); err != nil {
			t.Fatal(err)
		}
	}
	prepare(corev1.FSGroupChangeAlways, Directory{Path: dir})
	if got := owner(t, dir+"/file"); got != "0:0 -rw-------" {
		t.Errorf("a volume that is not owned was changed: %s", got)
	}
	prepare(corev1.FSGroupChangeAlways, Directory{Path: dir, Owned: true})
	for path, want := range map[string]string{
		dir: "0:1234 dgrwxrwxr-x", dir + "/file": "0:1234 -rw-rw----", dir + "/script": "0:1234 -rwxrw----", outside: "0:0 -rw-------",
	} {
		if got := owner(t, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if err := os.WriteFile(dir+"/later", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	prepare(corev1.FSGroupChangeOnRootMismatch, Directory{Path: dir, Owned: true})
	if got := owner(t, dir+"/later"); got != "0:1234 -rw-------" { // the group is inherited
		t.Errorf("OnRootMismatch has changed a volume whose root fits: %s", got)
	}
	prepare(corev1.FSGroupChangeAlways, Directory{Path: dir, Owned: true})
	if got := owner(t, dir+"/later"); got != "0:1234 -rw-rw----" {
		t.Errorf("Always has left a file: %s", got)
	}
}
