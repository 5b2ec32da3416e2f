package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// The ballast: what is kept of the disk for the records of the node's containers,
// and for what else has to be written while a pod that has filled it is got rid of.
const (
	ballastPart   = 100      // of the disk, one in so many
	mostBallast   = 64 << 20 // bytes
	ballastInodes = 500
)

// ballast is a directory that holds space and inodes. Its size follows the disk.
type ballast struct {
	dir  string
	held bool
}

// hold makes the ballast, unless it is there. capacity is of the disk, in bytes.
func (b *ballast) hold(capacity int64) error {
	if b.held {
		return nil
	}
	err := os.Mkdir(b.dir, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the disk's ballast: %w", err)
	}
	for i := range ballastInodes {
		file, err := os.OpenFile(filepath.Join(b.dir, strconv.Itoa(i)), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("make the disk's ballast: %w", err)
		}
		if i == 0 {
			err = unix.Fallocate(int(file.Fd()), 0, 0, min(capacity/ballastPart, mostBallast)+1)
		}
		if err := errors.Join(err, file.Close()); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("make the disk's ballast: %w", err)
		}
	}
	b.held = true
	return nil
}

// drop gives the ballast up, also that of an agent before this one.
func (b *ballast) drop() error {
	b.held = false
	return os.RemoveAll(b.dir)
}
