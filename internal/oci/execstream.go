package oci

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"

	"windlass.dev/windlass/internal/agent"
)

// Exit codes of commands that could not be started, as shells give them.
const (
	exitCannotExecute = 126
	exitNotFound      = 127
)

// hangUpPatience is how long the OCI runtime gets to end after its command was
// hung up, before it is killed: what ignores SIGHUP stays in the container alone.
const hangUpPatience = 2 * time.Second

// ExecStream implements agent.Streamer. The OCI runtime stays in the foreground
// as the command's parent: it ends with it, and hangs it up if we die.
func (r *Runtime) ExecStream(ctx context.Context, id string, command []string, streams agent.Streams) (int, error) {
	if len(command) == 0 {
		return 0, errors.New("exec: no command")
	}
	if _, err := r.running(id); err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Join(r.dataDir, "run"), "exec-")
	if err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	defer os.RemoveAll(scratch)
	s := session{pidFile: filepath.Join(scratch, "pid"), logFile: filepath.Join(scratch, "log")}
	args := []string{"--log", s.logFile, "--log-format", "json", "exec", "--pid-file", s.pidFile}
	if streams.TTY {
		args = append(args, "--tty", "--env", "TERM=xterm")
	}
	s.cmd = r.command(context.Background(), append(append(args, id), command...)...)
	if err := s.run(ctx, streams); err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	return s.result()
}

// session is one run of the OCI runtime's exec in the foreground.
type session struct {
	cmd              *exec.Cmd
	pidFile, logFile string

	copies sync.WaitGroup // of what the command writes
	ours   []*os.File     // our ends of its streams, closed to hang it up
	theirs []*os.File     // closed here once it has them
}

// run starts the command and returns once it has ended and its client has what it
// wrote, or ctx has ended and it was hung up.
func (s *session) run(ctx context.Context, streams agent.Streams) error {
	connect := s.pipes
	if streams.TTY {
		connect = s.terminal
	}
	err := connect(ctx, streams)
	defer s.close(&s.ours)
	if err == nil {
		err = s.cmd.Start()
	}
	s.close(&s.theirs)
	if err != nil {
		s.close(&s.ours)
		s.copies.Wait()
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.cmd.Wait() // result looks at how it went
		s.copies.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.hangUp(ended)
		return context.Cause(ctx)
	}
}

func (s *session) close(files *[]*os.File) {
	for _, f := range *files {
		_ = f.Close()
	}
	*files = nil
}

// hangUp closes the streams of the command, sends SIGHUP to what shares its
// session, and waits until ended, for as long as hangUpPatience.
func (s *session) hangUp(ended <-chan struct{}) {
	s.close(&s.ours)
	deadline := time.After(hangUpPatience)
	told := false
	for {
		told = told || signalExec(s.pidFile, syscall.SIGHUP)
		select {
		case <-ended:
			return
		case <-deadline:
			_ = s.cmd.Process.Kill()
			<-ended
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pipes connects the streams of a command without a terminal.
func (s *session) pipes(_ context.Context, streams agent.Streams) error {
	if streams.In != nil {
		theirs, ours, err := os.Pipe()
		if err != nil {
			return err
		}
		s.own(ours, theirs)
		s.cmd.Stdin = theirs
		go func() { // until the client ends it, or it is closed at the end
			_, _ = io.Copy(ours, streams.In)
			_ = ours.Close()
		}()
	}
	for _, out := range []struct {
		to   io.Writer
		into *io.Writer
	}{{streams.Out, &s.cmd.Stdout}, {streams.Err, &s.cmd.Stderr}} {
		if out.to == nil {
			continue
		}
		ours, theirs, err := os.Pipe()
		if err != nil {
			return err
		}
		s.own(ours, theirs)
		*out.into = theirs
		s.copies.Go(func() {
			_, _ = io.Copy(out.to, ours)
			_ = ours.Close() // a client that takes no more breaks the pipe
		})
	}
	return nil
}

// endOfInput is what a terminal takes as the end of its input, ^D.
var endOfInput = []byte{4}

// terminal gives the OCI runtime a terminal of ours, which it passes on to the
// one that it makes in the container, its size too.
func (s *session) terminal(ctx context.Context, streams agent.Streams) error {
	ours, theirs, err := pty.Open()
	if err != nil {
		return fmt.Errorf("make a terminal: %w", err)
	}
	s.own(ours, theirs)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = theirs, theirs, theirs
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if streams.In != nil {
		go func() {
			if _, err := io.Copy(ours, streams.In); err == nil {
				_, _ = ours.Write(endOfInput)
			}
		}()
	}
	go eachSize(ctx, streams.Resize, func(size agent.TerminalSize) {
		_ = pty.Setsize(ours, &pty.Winsize{Rows: size.Height, Cols: size.Width})
	})
	out := streams.Out
	if out == nil {
		out = io.Discard
	}
	s.copies.Go(func() {
		_, _ = io.Copy(out, ours) // ends with EIO, when nobody has the other end any more
		_, _ = io.Copy(io.Discard, ours)
	})
	return nil
}

// eachSize hands on the sizes of a client's terminal until there are no more or ctx ends.
func eachSize(ctx context.Context, sizes <-chan agent.TerminalSize, apply func(agent.TerminalSize)) {
	for {
		select {
		case size, more := <-sizes:
			if !more {
				return
			}
			apply(size)
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) own(ours, theirs *os.File) {
	s.ours, s.theirs = append(s.ours, ours), append(s.theirs, theirs)
}

// result is the exit code of the command, or of one that could not be started.
func (s *session) result() (int, error) {
	if exists(s.pidFile) {
		return s.cmd.ProcessState.ExitCode(), nil
	}
	data, _ := os.ReadFile(s.logFile)
	message := lastError(data)
	switch {
	case strings.Contains(message, "executable file not found") || strings.Contains(message, "no such file or directory"):
		return exitNotFound, nil
	case strings.Contains(message, "permission denied") || strings.Contains(message, "exec format error") || strings.Contains(message, "is a directory"):
		return exitCannotExecute, nil
	case message == "":
		message = s.cmd.ProcessState.String()
	}
	return 0, fmt.Errorf("exec: %s", message)
}

// lastError is the last error in the JSON log of an OCI runtime, "" if there is none.
func lastError(log []byte) string {
	last := ""
	lines := bufio.NewScanner(bytes.NewReader(log))
	for lines.Scan() {
		var line struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Level == "error" {
			last = line.Msg
		}
	}
	return last
}
