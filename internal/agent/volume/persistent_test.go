package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPersistent: which PersistentVolumes a node can mount, and as what; the others
// are refused with what there could be instead.
func TestPersistent(t *testing.T) {
	dir := t.TempDir()
	made, must := corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory
	block := corev1.PersistentVolumeBlock
	for _, test := range []struct {
		name string
		spec corev1.PersistentVolumeSpec
		want Directory
		err  string
	}{
		{"local", source(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: dir}}), Directory{Path: dir, Owned: true}, ""},
		{"hostPath, which is made", source(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir + "/made", Type: &made}}), Directory{Path: dir + "/made"}, ""},
		{"hostPath, which must be there", source(corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir + "/none", Type: &must}}), Directory{}, "hostPath type check failed"},
		{"nfs", source(corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}}), Directory{}, "is of kind nfs, which is not supported on this node (supported: hostPath, local)"},
		{"csi", source(corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{}}), Directory{}, "is of kind csi, which"},
		{"iscsi", source(corev1.PersistentVolumeSource{ISCSI: &corev1.ISCSIPersistentVolumeSource{}}), Directory{}, "is of kind iscsi, which"},
		{"a block device", corev1.PersistentVolumeSpec{VolumeMode: &block}, Directory{}, "volumeMode Block is not supported"},
	} {
		got, err := Persistent(&corev1.PersistentVolume{Spec: test.spec})
		if test.err == "" && (err != nil || got != test.want) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: %v, %v, want %v, %q", test.name, got, err, test.want, test.err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Error(err)
	}
}

func source(s corev1.PersistentVolumeSource) corev1.PersistentVolumeSpec {
	return corev1.PersistentVolumeSpec{PersistentVolumeSource: s}
}
