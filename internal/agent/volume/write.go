package volume

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// dataLink names, in a volume made from API objects, the symbolic link to the
// directory with the present files. Each file has a link through it, so that
// changing this one link changes all files at once.
const dataLink = "..data"

// write makes a volume's files be those given, all at once. What is unchanged
// is not touched.
func write(dir string, files map[string]file, pod *corev1.Pod) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil || !same(filepath.Join(dir, current), files) {
		if current, err = swap(dir, files, pod); err != nil {
			return err
		}
	}
	if err := link(dir, files); err != nil {
		return err
	}
	return sweep(dir, current)
}

// swap has the link lead to a new directory with the files, and returns its name.
func swap(dir string, files map[string]file, pod *corev1.Pod) (string, error) {
	next, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return "", err
	}
	if err := fill(next, files, pod); err != nil {
		return "", errors.Join(err, os.RemoveAll(next))
	}
	temporary := filepath.Join(dir, dataLink+"_tmp")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.Symlink(filepath.Base(next), temporary); err != nil {
		return "", err
	}
	return filepath.Base(next), os.Rename(temporary, filepath.Join(dir, dataLink))
}

// sweep removes what earlier times have left, but for the current directory.
func sweep(dir, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, "..") && name != dataLink && name != current {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func fill(dir string, files map[string]file, pod *corev1.Pod) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.content, 0o600); err != nil {
			return err
		}
		if f.owner != nil {
			if err := os.Chown(path, int(*f.owner), -1); err != nil {
				return err
			}
		}
		if err := os.Chmod(path, fs.FileMode(f.mode)&fs.ModePerm); err != nil {
			return err
		}
	}
	if group := fsGroup(pod); group >= 0 {
		return ownAll(dir, group, readable)
	}
	return nil
}

// link makes the links of a volume's top level lead to its files, and removes
// those that lead nowhere.
func link(dir string, files map[string]file) error {
	top := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		top[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, ".."):
		case top[name]:
			delete(top, name)
		default:
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name := range top {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// same: the directory holds exactly these files.
func same(dir string, files map[string]file) bool {
	count := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if want, ok := files[name]; !ok || !bytes.Equal(content, want.content) {
			return fs.ErrNotExist
		}
		return nil
	})
	return err == nil && count == len(files)
}
