package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"

	"windlass.dev/windlass/internal/hijack"
)

// serveExec runs the command of a request in a container, connected to the
// request's streams, over SPDY or WebSocket.
func (a *Agent) serveExec(ctx context.Context, w http.ResponseWriter, r *http.Request) *refusal {
	c, _, refused := a.findRunning(r)
	if refused != nil {
		return refused
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	command := r.Form["command"]
	if len(command) == 0 {
		return refuse(http.StatusBadRequest, "you must specify at least one command for the container")
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	remotecommand.ServeExec(hijack.Writer{ResponseWriter: w, Context: own, Lost: cancel}, r.WithContext(own), streaming{a.cfg.Runtime, *options},
		c.Name, c.PodUID, c.ID, command, options, streamIdleTimeout, streamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	return nil
}

// serveAttach connects the streams of a request to the first process of a
// container. Whether it has a terminal and reads anything is the container's to say.
func (a *Agent) serveAttach(ctx context.Context, w http.ResponseWriter, r *http.Request) *refusal {
	c, spec, refused := a.findRunning(r)
	if refused != nil {
		return refused
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	options.TTY = spec.TTY
	options.Stderr = options.Stderr && !spec.TTY
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	to := streaming{a.cfg.Runtime, *options}
	to.options.Stdin = options.Stdin && spec.Stdin
	remotecommand.ServeAttach(hijack.Writer{ResponseWriter: w, Context: own, Lost: cancel}, r.WithContext(own), to,
		c.Name, c.PodUID, c.ID, options, streamIdleTimeout, streamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	return nil
}

// findRunning finds the running container that a request names, with its spec.
func (a *Agent) findRunning(r *http.Request) (Container, *corev1.Container, *refusal) {
	name := r.PathValue("container")
	w, refused := a.workerOf(r.Context(), r.PathValue("namespace"), r.PathValue("pod"))
	if refused != nil {
		return Container{}, nil, refused
	}
	pod, containers, err := w.records(r.Context())
	if err != nil {
		return Container{}, nil, refuse(http.StatusNotFound, "pod %q: %v", r.PathValue("pod"), err)
	}
	if last, _ := lastTwo(containers, name); last != nil && last.Phase == ContainerRunning {
		return *last, containerSpecOf(pod, name), nil
	}
	return Container{}, nil, refuse(http.StatusInternalServerError, "container not found (%q)", name)
}

// streaming implements remotecommand.Executor and Attacher with a Streamer. Of the
// streams those count that the options name.
type streaming struct {
	to      Streamer
	options remotecommand.Options
}

// ExecInContainer implements remotecommand.Executor.
func (s streaming) ExecInContainer(ctx context.Context, _, _, id string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan TerminalSize, _ time.Duration) error {
	defer closeAll(out, errOut)
	code, err := s.to.ExecStream(ctx, id, command, s.streams(in, out, errOut, tty, resize))
	if err != nil {
		return err
	}
	if code != 0 {
		return exec.CodeExitError{Code: code, Err: fmt.Errorf("command terminated with exit code %d", code)}
	}
	return nil
}

// AttachContainer implements remotecommand.Attacher.
func (s streaming) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan TerminalSize) error {
	defer closeAll(out, errOut)
	return s.to.Attach(ctx, id, s.streams(in, out, errOut, tty, resize))
}

func (s streaming) streams(in io.Reader, out, errOut io.Writer, tty bool, resize <-chan TerminalSize) Streams {
	streams := Streams{TTY: tty, Resize: resize}
	if s.options.Stdin {
		streams.In = in
	}
	if s.options.Stdout {
		streams.Out = out
	}
	if s.options.Stderr {
		streams.Err = errOut
	}
	return streams
}

// closeAll ends the streams to a client, so that it reads them to their ends
// before it hears how the command ended.
func closeAll(streams ...io.WriteCloser) {
	for _, stream := range streams {
		if stream != nil {
			_ = stream.Close()
		}
	}
}
