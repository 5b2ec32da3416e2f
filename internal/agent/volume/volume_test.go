package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/internal/agent/environment"
)

// objects is a source of one ConfigMap c and one Secret s.
type objects struct{ data map[string]string }

func (o objects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	if name != "c" {
		return nil, fmt.Errorf("configmap %q %w", name, environment.ErrNotFound)
	}
	return &corev1.ConfigMap{Data: o.data, BinaryData: map[string][]byte{"bin": {0, 1}}}, nil
}

func (o objects) File(string, string) ([]byte, error) { return nil, environment.ErrNotFound }

func (o objects) Secret(name string) (*corev1.Secret, error) {
	if name != "s" {
		return nil, fmt.Errorf("secret %q %w", name, environment.ErrNotFound)
	}
	return &corev1.Secret{Data: map[string][]byte{"key": []byte("secret")}}, nil
}

func podWith(volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"a": "1"}}, Spec: corev1.PodSpec{Volumes: volumes}}
}

// claims is the claims that are bound, by name.
type claims map[string]Directory

func (c claims) Claim(name string) (Directory, error) {
	if found, ok := c[name]; ok {
		return found, nil
	}
	return Directory{}, fmt.Errorf("persistentvolumeclaim %q not found", name)
}

// prepared makes a pod's volumes and returns where they are.
func prepared(dir string, pod *corev1.Pod, source objects) (map[string]string, error) {
	if _, err := Prepare(dir, pod, Sources{Objects: source}); err != nil {
		return nil, err
	}
	places, err := Locate(dir, pod, nil)
	paths := map[string]string{}
	for name, place := range places {
		paths[name] = place.Path
	}
	return paths, err
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(entry.Name(), "..") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return err
		}
		if info, err := os.Stat(filepath.Join(dir, path)); err == nil && info.Mode().IsRegular() {
			content, err := os.ReadFile(filepath.Join(dir, path))
			files[path] = fmt.Sprintf("%s %v", content, info.Mode())
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPrepare(t *testing.T) {
	mode, yes := int32(0o400), true
	name := corev1.LocalObjectReference{Name: "c"}
	pod := podWith(
		corev1.Volume{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name}}},
		corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: &mode}}},
		corev1.Volume{Name: "optional", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none", Optional: &yes}}},
		corev1.Volume{Name: "projected", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name, Items: []corev1.KeyToPath{{Key: "a", Path: "x"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
		}}}},
		corev1.Volume{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	)
	dir := t.TempDir()
	source := objects{map[string]string{"a": "1", "b": "2"}}
	paths, err := prepared(dir, pod, source)
	if err != nil {
		t.Fatal(err)
	}
	for volume, want := range map[string]map[string]string{
		"cm":        {"a": "1 -rw-r--r--", "b": "2 -rw-r--r--", "bin": "\x00\x01 -rw-r--r--"},
		"secret":    {"key": "secret -r--------"},
		"optional":  {},
		"projected": {"x": "1 -rw-r--r--", "labels": `a="1" -rw-r--r--`},
		"empty":     {},
	} {
		if got := read(t, paths[volume]); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", volume, got, want)
		}
	}
	if info, err := os.Stat(paths["empty"]); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("emptyDir: %v, %v", info, err)
	}
	// Again: an emptyDir keeps what it holds, the others follow their objects.
	if err := os.WriteFile(filepath.Join(paths["empty"], "kept"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	source.data = map[string]string{"a": "changed"}
	if _, err := prepared(dir, pod, source); err != nil {
		t.Fatal(err)
	}
	if got := read(t, paths["cm"]); len(got) != 2 || got["a"] != "changed -rw-r--r--" {
		t.Errorf("changed: %q", got)
	}
	entries, _ := os.ReadDir(paths["cm"])
	if len(entries) != 4 { // ..data, what it leads to, a, bin
		t.Errorf("entries: %v", entries)
	}
	if len(read(t, paths["empty"])) != 1 {
		t.Error("the emptyDir has lost its file")
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	items := func(key, path string) corev1.VolumeSource {
		return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: key, Path: path}}}}
	}
	for want, source := range map[string]corev1.VolumeSource{
		`configmap "none" not found`:                         {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}},
		"configmap references non-existent config key: none": items("none", "x"),
		`invalid path "../x"`:                                items("a", "../x"),
		`invalid path "..x"`:                                 items("a", "..x"),
		`invalid path "/x"`:                                  items("a", "/x"),
		"not supported on this node":                         {NFS: &corev1.NFSVolumeSource{}},
		"tokens are not supported":                           {Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}},
		"clusterTrustBundle is not":                          {Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}}}},
		"a projected source of this":                         {Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{}}}}},
		`medium "HugePages" is not`:                          {EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}},
		"references non-existent secret key: none":           {Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: []corev1.KeyToPath{{Key: "none", Path: "x"}}}},
		`field path "spec.x" is not`:                         {DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "f", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.x"}}}}},
	} {
		_, err := prepared(t.TempDir(), podWith(corev1.Volume{Name: "v", VolumeSource: source}), objects{map[string]string{"a": "1"}})
		var failure *Error
		if !errors.As(err, &failure) || failure.Volume != "v" || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "MountVolume.SetUp failed for volume \"v\" : ") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A volume that is a claim is where the claim's PersistentVolume is.
func TestClaims(t *testing.T) {
	here := t.TempDir()
	pod := podWith(
		corev1.Volume{Name: "named", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c", ReadOnly: true}}},
		corev1.Volume{Name: "own", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
	)
	bound := claims{"c": {Path: here}, "p-own": {Path: here, Owned: true}}
	if _, err := Prepare(t.TempDir(), pod, Sources{Objects: objects{}, Claims: bound}); err != nil {
		t.Fatal(err)
	}
	got, err := Locate(t.TempDir(), pod, bound)
	if want := map[string]Directory{"named": {Path: here, ReadOnly: true}, "own": {Path: here, Owned: true}}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for want, bound := range map[string]Claims{
		`volume "own" : persistentvolumeclaim "p-own" not found`: claims{"c": {Path: here}},
		"no such file or directory":                              claims{"c": {Path: here + "/none"}, "p-own": {Path: here}},
		"claims are not supported on this node":                  nil,
	} {
		if _, err := Prepare(t.TempDir(), pod, Sources{Objects: objects{}, Claims: bound}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A memory-backed emptyDir is a file system of its own, which Remove unmounts.
func TestMemory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir, size := filepath.Join(t.TempDir(), "with space"), resource.MustParse("1Mi")
	pod := podWith(corev1.Volume{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}}})
	for range 2 {
		paths, err := prepared(dir, pod, objects{})
		if err != nil {
			t.Skipf("mounting is not allowed here: %v", err)
		}
		if mounts, err := mountsBelow(dir); err != nil || !slices.Equal(mounts, []string{paths["m"]}) {
			t.Fatalf("mounts: %q, %v", mounts, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "m", "big"), make([]byte, 2<<20), 0o644); err == nil {
		t.Error("more than the size limit fits")
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if mounts, err := mountsBelow(dir); err != nil || len(mounts) > 0 {
		t.Errorf("after Remove: %q, %v", mounts, err)
	}
}

func FuzzMountPoints(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n")
	f.Add("a b c d \\9 \\134")
	f.Fuzz(func(t *testing.T, table string) {
		for _, point := range mountPoints(table) {
			if len(point) > len(table) {
				t.Errorf("%q is longer than the table", point)
			}
		}
	})
}
