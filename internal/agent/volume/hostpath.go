package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// hostPath checks a path of the node as its type says, and makes it for the
// types that ask for it, and for the one that asks for nothing.
func hostPath(source *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(source.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(source.Path, os.O_CREATE, 0o644)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err == nil {
			_ = f.Close()
		}
	}
	info, err := os.Stat(source.Path)
	if kind == corev1.HostPathUnset && errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(source.Path, 0o755)
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	if kind == corev1.HostPathUnset {
		return nil
	}
	wanted, known := hostPathTypes[kind]
	switch {
	case !known:
		return fmt.Errorf("hostPath type check failed: %q is not a type of host path", kind)
	case !wanted.fits(info.Mode()):
		return fmt.Errorf("hostPath type check failed: %s is not a %s", source.Path, wanted.noun)
	}
	return nil
}

type hostPathType struct {
	noun string
	fits func(fs.FileMode) bool
}

var (
	directory     = hostPathType{"directory", fs.FileMode.IsDir}
	regularFile   = hostPathType{"file", fs.FileMode.IsRegular}
	hostPathTypes = map[corev1.HostPathType]hostPathType{
		corev1.HostPathDirectoryOrCreate: directory,
		corev1.HostPathDirectory:         directory,
		corev1.HostPathFileOrCreate:      regularFile,
		corev1.HostPathFile:              regularFile,
		corev1.HostPathSocket:            {"socket file", func(m fs.FileMode) bool { return m&fs.ModeSocket != 0 }},
		corev1.HostPathCharDev:           {"character device", func(m fs.FileMode) bool { return m&fs.ModeCharDevice != 0 }},
		corev1.HostPathBlockDev:          {"block device", func(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 }},
	}
)
