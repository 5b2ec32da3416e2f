package oci

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"windlass.dev/windlass/internal/agent"
)

// createLimit bounds the creation of one container, when the caller does not.
const createLimit = 2 * time.Minute

// conmonArgs are the arguments of the conmon that is to create and hold a container.
func (r *Runtime) conmonArgs(spec *agent.ContainerSpec, dir string) []string {
	args := []string{
		"--api-version", "1",
		"--cid", spec.ID,
		"--cuuid", spec.ID,
		"--name", spec.Name,
		"--runtime", r.runtimePath,
		"--runtime-arg", "--root=" + r.stateDir(),
		"--bundle", dir,
		"--persist-dir", dir,
		"--container-pidfile", filepath.Join(dir, "pid"),
		"--conmon-pidfile", filepath.Join(dir, "conmon.pid"),
		"--exit-dir", r.exitDir(),
		"--log-path", "k8s-file:" + spec.LogPath,
		"--log-level", "error",
		"--no-sync-log", // an fsync at the end would delay the news of it
		"--full-attach", // the attach socket's path may be longer than a socket address
	}
	if spec.TTY {
		args = append(args, "--terminal")
	}
	if spec.Stdin {
		args = append(args, "--stdin")
		if !spec.StdinOnce {
			args = append(args, "--leave-stdin-open")
		}
	}
	return args
}

// runConmon starts conmon, which leaves us for a session of its own and has the
// OCI runtime create the container, and returns the pid of the container's
// process. The error is the OCI runtime's when that refused.
func (r *Runtime) runConmon(ctx context.Context, spec *agent.ContainerSpec, dir string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, createLimit)
	defer cancel()
	answer, answerWriter, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("conmon: %w", err)
	}
	defer answer.Close()
	complaints, err := os.OpenFile(filepath.Join(dir, "conmon.err"), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		answerWriter.Close()
		return 0, fmt.Errorf("conmon: %w", err)
	}
	defer complaints.Close()

	cmd := exec.Command(r.conmonPath, r.conmonArgs(spec, dir)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "_OCI_SYNCPIPE=3"}
	cmd.ExtraFiles = []*os.File{answerWriter}
	cmd.Stderr = complaints
	err = r.startInGroup(cmd)
	answerWriter.Close()
	if err != nil {
		return 0, fmt.Errorf("conmon: %w", err)
	}
	// It forks, and the parent ends.
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("conmon: %w: %s", err, readSome(complaints))
	}
	stop := context.AfterFunc(ctx, func() { _ = answer.SetReadDeadline(time.Now()) })
	defer stop()
	pid, err := parseAnswer(answer)
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("create container: %w", context.Cause(ctx))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, fmt.Errorf("conmon ended without an answer: %s", readSome(complaints))
	}
	return pid, err
}

// startInGroup starts conmon, and where there is a control group for it lets it
// go on only once it is in there.
func (r *Runtime) startInGroup(cmd *exec.Cmd) error {
	if r.cgroups.conmon == "" {
		return cmd.Start()
	}
	hold, release, err := os.Pipe()
	if err != nil {
		return err
	}
	defer release.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, hold)
	cmd.Env = append(cmd.Env, "_OCI_STARTPIPE="+strconv.Itoa(2+len(cmd.ExtraFiles)))
	err = cmd.Start()
	hold.Close()
	if err != nil {
		return err
	}
	if err := r.cgroups.adoptConmon(cmd.Process.Pid); err != nil {
		r.log.Warn("Moving conmon out of our control group", "err", err)
	}
	_, err = release.Write([]byte{0})
	return err
}

// parseAnswer reads what conmon says on its sync pipe: one line of JSON with the
// pid of the container's process ("data", or "pid" before API version 1), or a
// negative number and what the OCI runtime said.
func parseAnswer(answer io.Reader) (int, error) {
	line, err := bufio.NewReader(io.LimitReader(answer, 1<<20)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("conmon's answer: %w", err)
	}
	if len(line) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	var said struct {
		Data    *int   `json:"data"`
		Pid     *int   `json:"pid"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return 0, fmt.Errorf("conmon's answer %q: %w", line, err)
	}
	pid := said.Data
	if pid == nil {
		pid = said.Pid
	}
	switch message := strings.TrimSpace(said.Message); {
	case pid != nil && *pid > 0:
		return *pid, nil
	case message != "":
		return 0, errors.New(tidyRuntimeError(message))
	default:
		return 0, fmt.Errorf("conmon's answer %q has no pid", line)
	}
}

// tidyRuntimeError reduces what an OCI runtime writes on its standard error
// (structured log lines, or plain text) to the message.
func tidyRuntimeError(text string) string {
	text = strings.TrimSpace(text)
	if i := strings.LastIndex(text, `level=error msg="`); i >= 0 {
		text = text[i+len(`level=error msg=`):]
		var message string
		if json.Unmarshal([]byte(text), &message) == nil {
			return message
		}
	}
	return text
}

// readSome reads the start of a small file from its beginning, as one line.
func readSome(f *os.File) string {
	text := make([]byte, 4096)
	n, _ := f.ReadAt(text, 0)
	if n == 0 {
		return "it said nothing"
	}
	return tidyRuntimeError(string(text[:n]))
}
