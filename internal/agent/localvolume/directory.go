package localvolume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// deleting ends the name of a directory whose deletion has begun.
const deleting = ".deleting"

// Directories is where the volumes of a node are.
type Directories interface {
	// Path is where a volume's directory is, or would be.
	Path(volume string) string
	// Make makes a volume's empty directory, or finds it, and bounds what it may hold
	// to size bytes. Capacity is as in the annotation windlass.dev/capacity.
	Make(volume string, size int64) (capacity string, err error)
	// Grow changes the bound of a directory that is there.
	Grow(volume string, size int64) error
	// Remove deletes a directory and all it holds; it may be gone already.
	Remove(volume string) error
	// Abandon deletes a directory if it is empty.
	Abandon(volume string) error
	// Sweep goes on with deletions that were cut short and returns the names of
	// the volumes that have directories.
	Sweep() ([]string, error)
}

// disk is real directories.
type disk struct {
	dir string
	mu  sync.Mutex // held while a project is chosen
}

// Below returns the directories of volumes below dir, which is made with the first.
func Below(dir string) Directories { return &disk{dir: dir} }

// Path implements Directories.
func (d *disk) Path(volume string) string { return filepath.Join(d.dir, volume) }

// Make implements Directories. Any user may write to the directory, as to an
// emptyDir; a pod's fsGroup narrows that.
func (d *disk) Make(volume string, size int64) (string, error) {
	path := d.Path(volume)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := limit(path, size); err != nil {
		return "not enforced: " + err.Error(), nil
	}
	return "enforced", nil
}

// Grow implements Directories. Where nothing is enforced there is nothing to do.
func (d *disk) Grow(volume string, size int64) error {
	path := d.Path(volume)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := limit(path, size); err != nil && !errors.Is(err, errNoQuota) {
		return err
	}
	return nil
}

// Remove implements Directories.
func (d *disk) Remove(volume string) error {
	path := d.Path(volume)
	err := os.Rename(path, path+deleting)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(path + deleting)
}

// Abandon implements Directories.
func (d *disk) Abandon(volume string) error {
	if err := os.Remove(d.Path(volume)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep implements Directories.
func (d *disk) Sweep() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case strings.HasSuffix(name, deleting):
			if err := os.RemoveAll(filepath.Join(d.dir, name)); err != nil {
				return nil, fmt.Errorf("go on deleting %s: %w", name, err)
			}
		case entry.IsDir():
			names = append(names, name)
		}
	}
	return names, nil
}

// nowhere is directories of a node without files.
type nowhere struct{ disk }

// Nowhere returns directories that have a path and do not exist, for nodes whose
// containers run no process.
func Nowhere(dir string) Directories { return &nowhere{disk{dir: dir}} }

func (*nowhere) Make(string, int64) (string, error) { return "enforced", nil } // nothing is ever written
func (*nowhere) Grow(string, int64) error           { return nil }
func (*nowhere) Remove(string) error                { return nil }
func (*nowhere) Abandon(string) error               { return nil }
func (*nowhere) Sweep() ([]string, error)           { return nil, nil }
