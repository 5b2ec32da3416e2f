package podlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A log is the file that is being written, at the path that it has from the
// beginning, and those before it, which are named after it with a number that
// grows: 0.log, 0.log.1, 0.log.2, the oldest with the lowest.

// rotated returns the numbers of the files before the one being written, the
// oldest first.
func rotated(path string) ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, entry := range entries {
		if n, ok := parseRotated(filepath.Base(path), entry.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// parseRotated reads the number in the name of a file that has been rotated.
func parseRotated(base, name string) (n uint64, ok bool) {
	text, ok := strings.CutPrefix(name, base+".")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 63)
	return n, err == nil && n > 0 && strconv.FormatUint(n, 10) == text
}

func rotatedPath(path string, n uint64) string { return path + "." + strconv.FormatUint(n, 10) }

// Rotate gives the file that is being written a second name, that of the newest
// before it. Its writer is then to replace it by a new one in one step: until it
// has, Rotating tells true. Nothing is kept in memory about it.
func Rotate(path string) error {
	numbers, err := rotated(path)
	if err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	if err := os.Link(path, rotatedPath(path, next)); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	return nil
}

// Rotating tells whether a log was rotated and its writer goes on in the same file.
func Rotating(path string) (bool, error) {
	numbers, err := rotated(path)
	if err != nil || len(numbers) == 0 {
		return false, err
	}
	newest, err := os.Stat(rotatedPath(path, numbers[len(numbers)-1]))
	if err != nil {
		return false, err
	}
	written, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(newest, written), nil
}

// Prune deletes the oldest files of a log: so many stay at most, with the one that
// is being written, and so many bytes, but for that one and the newest before it.
// The oldest goes first, so that what is missing is older than all that is there.
func Prune(path string, files int, bytes int64) error {
	numbers, err := rotated(path)
	if err != nil {
		return fmt.Errorf("prune log: %w", err)
	}
	var sum int64
	kept := 0
	for kept < len(numbers) {
		info, err := os.Stat(rotatedPath(path, numbers[len(numbers)-1-kept]))
		if err != nil {
			return fmt.Errorf("prune log: %w", err)
		}
		if sum += info.Size(); kept > 0 && (kept+1 >= files || sum > bytes) {
			break
		}
		kept++
	}
	for _, old := range paths(path, numbers[:len(numbers)-kept]) {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("prune log: %w", err)
		}
	}
	return nil
}

// Remove deletes all files of a log. One that is absent is no error.
func Remove(path string) error {
	numbers, err := rotated(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, file := range append(paths(path, numbers), path) {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func paths(path string, numbers []uint64) []string {
	var list []string
	for _, n := range numbers {
		list = append(list, rotatedPath(path, n))
	}
	return list
}

// openFiles opens the files of a log, the oldest first; fs.ErrNotExist when there
// is none. When some come or go meanwhile it looks again, so that none is missed.
func openFiles(path string) ([]*os.File, error) {
	for {
		before, err := rotated(path)
		if err != nil {
			return nil, err
		}
		files, err := open(append(paths(path, before), path))
		if err != nil {
			return nil, err
		}
		after, err := rotated(path)
		if err == nil && slices.Equal(before, after) {
			if len(files) == 0 {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return files, nil
		}
		closeFiles(files)
		if err != nil {
			return nil, err
		}
	}
}

// open opens those of the files that are there, each once.
func open(paths []string) ([]*os.File, error) {
	var files []*os.File
	var last fs.FileInfo
	for _, path := range paths {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var info fs.FileInfo
		if err == nil {
			files = append(files, f)
			info, err = f.Stat()
		}
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		if last != nil && os.SameFile(last, info) {
			files = files[:len(files)-1]
			_ = f.Close()
		}
		last = cmp.Or(info, last)
	}
	return files, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
