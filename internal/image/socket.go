package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SocketName is the name of the socket, in the data directory, that serves
// Handler to the command line.
const SocketName = "agent.sock"

// Listen opens the socket in a data directory, for root alone, in place of one
// that was left there. Its path may be longer than a socket address (108 bytes).
func Listen(dataDir string) (net.Listener, error) {
	var listener net.Listener
	err := inDir(dataDir, func(short string) (err error) {
		if err := os.Remove(short); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if listener, err = net.Listen("unix", short); err != nil {
			return err
		}
		// The short path ends with this function.
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		return os.Chmod(short, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dataDir, SocketName), err)
	}
	return listener, nil
}

// dial connects to the socket in a data directory.
func dial(ctx context.Context, dataDir string) (conn net.Conn, err error) {
	err = inDir(dataDir, func(short string) error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", short)
		return err
	})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("no windlass server or agent runs on %s: start one, or name its directory with --data-dir: %w", dataDir, err)
	}
	return conn, err
}

// inDir calls do with a path of the socket that is short however long the
// directory's is.
func inDir(dir string, do func(short string) error) error {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), SocketName))
}
