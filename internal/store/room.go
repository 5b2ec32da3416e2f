package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roomBytes is how much of the disk etcd's database has beyond its size, so
	// that it can grow while others have filled the disk. etcd ends for good at the
	// first page that it cannot write; its log has its own segments ahead.
	roomBytes = 32 << 20

	// roomEvery is how often it is looked whether the database has grown.
	roomEvery = time.Second
)

// databasePath is where etcd has its database.
func databasePath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

// keepRoom gives the database room to grow, now and whenever it has grown, until
// stop is closed. While there is none to give it goes on with what it has.
func keepRoom(path string, log *slog.Logger, stop <-chan struct{}) {
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	var given int64
	var told string
	for {
		switch size, err := giveRoom(path, given); {
		case err == nil:
			given, told = size, ""
		case errors.Is(err, unix.EOPNOTSUPP):
			log.Info("The store has no room of its own: a full disk stops it", "because", err)
			return
		case err.Error() != told:
			told = err.Error()
			log.Warn("The store gets no more room of its own", "because", err)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// giveRoom allocates the blocks of a file and of roomBytes beyond its end, which
// stays where it is, and returns its size. A file of the size given has them.
func giveRoom(path string, given int64) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("look at the store's database: %w", err)
	}
	if info.Size() == given {
		return given, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open the store's database: %w", err)
	}
	defer file.Close()
	for {
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, info.Size()+roomBytes)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, &fs.PathError{Op: "fallocate", Path: path, Err: err}
		}
		return info.Size(), nil
	}
}
