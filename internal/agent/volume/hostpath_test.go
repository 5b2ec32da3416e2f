package volume

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestHostPath(t *testing.T) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "file"), filepath.Join(dir, "socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, test := range []struct {
		kind corev1.HostPathType
		path string
		want string // of the error
	}{
		{corev1.HostPathUnset, dir, ""},
		{corev1.HostPathUnset, dir + "/made/as/needed", ""},
		{corev1.HostPathDirectory, dir, ""},
		{corev1.HostPathDirectory, file, "file is not a directory"},
		{corev1.HostPathDirectory, dir + "/none", "no such file or directory"},
		{corev1.HostPathDirectoryOrCreate, dir + "/new/dir", ""},
		{corev1.HostPathFile, file, ""},
		{corev1.HostPathFile, dir, "is not a file"},
		{corev1.HostPathFile, dir + "/none", "no such file or directory"},
		{corev1.HostPathFileOrCreate, dir + "/new/file", ""},
		{corev1.HostPathFileOrCreate, dir + "/none/file", "no such file or directory"},
		{corev1.HostPathSocket, socket, ""},
		{corev1.HostPathSocket, file, "is not a socket file"},
		{corev1.HostPathCharDev, "/dev/null", ""},
		{corev1.HostPathCharDev, file, "is not a character device"},
		{corev1.HostPathBlockDev, "/dev/null", "is not a block device"},
		{"Other", file, `"Other" is not a type`},
	} {
		err := hostPath(&corev1.HostPathVolumeSource{Path: test.path, Type: &test.kind})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %q: %v, want %q", test.path, test.kind, err, test.want)
		}
	}
	for path, dir := range map[string]bool{dir + "/made/as/needed": true, dir + "/new/dir": true, dir + "/new/file": false} {
		if info, err := os.Stat(path); err != nil || info.IsDir() != dir {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}
