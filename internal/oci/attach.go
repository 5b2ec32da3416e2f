package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// maxInput is how much is sent to conmon in one packet; it cuts those above 32 KiB.
const maxInput = 8 << 10

// Attach implements agent.Streamer, by conmon's attach socket: each of its
// packets is a byte that names the stream and what was written to it.
func (r *Runtime) Attach(ctx context.Context, id string, streams agent.Streams) error {
	if _, err := r.running(id); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	dir := r.containerDir(id)
	conn, err := dialIn(dir, "attach")
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if streams.In != nil {
		go func() {
			// Not io.Copy: a packet is never empty, and never longer than what conmon takes.
			input := make([]byte, maxInput)
			_, err := io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{streams.In}, input)
			if err == nil {
				_ = conn.CloseWrite() // conmon closes the container's stdin, if that is to end with its client
			}
		}()
	}
	if streams.TTY {
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		go eachSize(own, streams.Resize, func(size agent.TerminalSize) {
			if err := resizeTerminal(dir, size); err != nil {
				r.log.Debug("Resizing a container's terminal", "container", id, "err", err)
			}
		})
	}
	return copyPackets(conn, streams)
}

// copyPackets hands what conmon sends to a client, until it ends it or the client
// takes no more.
func copyPackets(conn io.Reader, streams agent.Streams) error {
	packet := make([]byte, 64<<10)
	for {
		n, err := conn.Read(packet)
		if err != nil || n == 0 {
			return nil // the container has ended, or the client has
		}
		stream, text, err := parsePacket(packet[:n])
		if err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		to := streams.Out
		if stream == packetStderr {
			to = streams.Err
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(text); err != nil {
			return nil
		}
	}
}

// The first byte of conmon's packets.
const (
	packetStdout = 2
	packetStderr = 3
)

// parsePacket reads a packet of conmon's attach socket.
func parsePacket(packet []byte) (stream byte, text []byte, err error) {
	if len(packet) == 0 {
		return 0, nil, errors.New("conmon sent an empty packet")
	}
	if stream = packet[0]; stream != packetStdout && stream != packetStderr {
		return 0, nil, fmt.Errorf("conmon sent a packet of stream %d", stream)
	}
	return stream, packet[1:], nil
}

// dialIn connects to a socket in a directory whose path may be longer than a
// socket's address.
func dialIn(dir, name string) (*net.UnixConn, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	path := fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
}

// maxTerminal is the largest height and width that conmon takes.
const maxTerminal = 1000

func resizeTerminal(dir string, size agent.TerminalSize) error {
	return tellConmon(dir, fmt.Sprintf("1 %d %d\n", min(size.Height, maxTerminal), min(size.Width, maxTerminal)))
}

// tellConmon writes a line to the control pipe of the conmon of a container.
func tellConmon(dir, line string) error {
	pipe, err := os.OpenFile(filepath.Join(dir, "ctl"), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("conmon's control pipe: %w", err)
	}
	_, err = pipe.WriteString(line)
	return errors.Join(err, pipe.Close())
}
