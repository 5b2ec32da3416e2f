package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/podlog"
)

// How much of a container's last words is told, in bytes and lines, as Kubernetes
// documents it.
const (
	messageLimit     = 4096
	podMessagesLimit = 12 << 10 // of all containers of a pod together
	fallbackLimit    = 2048     // from the log
	fallbackLines    = 80
)

// messageFile is where one attempt of a container writes its last words.
func (a *Agent) messageFile(pod *corev1.Pod, container string, attempt int) string {
	return filepath.Join(a.podDir(pod.UID), "containers", container, strconv.Itoa(attempt))
}

// messageMount makes the file and says where a container finds it. Every user may
// write to it.
func (a *Agent) messageMount(pod *corev1.Pod, c *corev1.Container, attempt int) ([]Mount, error) {
	if c.TerminationMessagePath == "" {
		return nil, nil
	}
	path := a.messageFile(pod, c.Name, attempt)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o666), f.Close()); err != nil {
		return nil, err
	}
	destination := c.TerminationMessagePath
	if !filepath.IsAbs(destination) {
		destination = "/" + destination
	}
	return []Mount{{Source: path, Destination: filepath.Clean(destination)}}, nil
}

// lastWords returns what a container that has ended has left to say: its
// termination message, or the end of its log where its policy asks for that.
func (a *Agent) lastWords(pod *corev1.Pod, ended Container) string {
	c := containerSpecOf(pod, ended.Name)
	if a.cfg.NoFiles || c.TerminationMessagePath == "" || ended.StartError != "" {
		return ""
	}
	said, err := readStart(a.messageFile(pod, ended.Name, ended.Attempt), messageLimit)
	if err == nil && said == "" && ended.ExitCode != 0 && c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		var end tail
		err = podlog.Copy(context.Background(), &end, ended.LogPath, podlog.Options{Tail: fallbackLines, HasTail: true}, nil)
		said = string(end.last)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		a.cfg.Log.Warn("Reading a container's termination message", "pod", pod.Namespace+"/"+pod.Name, "container", ended.Name, "err", err)
	}
	return strings.ToValidUTF8(said, "\uFFFD")
}

// readStart reads a regular file up to a limit in bytes. What a container has put
// in its place may be a pipe, which nobody is to wait for.
func readStart(path string, limit int64) (string, error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit))
	return string(text), err
}

// tail is a writer that keeps the last bytes written to it.
type tail struct{ last []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if more := len(t.last) - fallbackLimit; more > 0 {
		t.last = append(t.last[:0], t.last[more:]...)
	}
	return len(p), nil
}

// shortenMessages cuts the messages of a pod's containers to what a pod may tell:
// an equal share for each.
func shortenMessages(lists ...[]corev1.ContainerStatus) {
	count := 0
	for _, list := range lists {
		count += len(list)
	}
	share := podMessagesLimit / max(count, 1)
	shorten := func(ended *corev1.ContainerStateTerminated) {
		if ended != nil && len(ended.Message) > share {
			ended.Message = strings.ToValidUTF8(ended.Message[:share], "")
		}
	}
	for _, list := range lists {
		for i := range list {
			shorten(list[i].State.Terminated)
			shorten(list[i].LastTerminationState.Terminated)
		}
	}
}
