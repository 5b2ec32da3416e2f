package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// stream is a kubectl that is connected to a container.
type stream struct {
	command string
	ended   chan error

	mu   sync.Mutex
	said bytes.Buffer
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(p)
}

func (s *stream) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// openStreams connects to a pod that says something all the time, in each way that
// there is, and returns once all are connected. The command that it runs in there
// has the words given in its command line.
func openStreams(t *testing.T, c *harness.Cluster, pod, words string) []*stream {
	t.Helper()
	var streams []*stream
	for _, args := range [][]string{
		{"logs", "-f", "--tail=1", pod},
		{"exec", pod, "--", "sh", "-c", "echo here; exec " + words},
		{"attach", pod},
		{"port-forward", "pod/" + pod, ":80"},
	} {
		s := &stream{command: strings.Join(args, " "), ended: make(chan error, 1)}
		command := append(append([]string{}, c.Wrap...), append([]string{c.Kubectl}, args...)...)
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
		cmd.Stdout, cmd.Stderr = s, s
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		go func() { s.ended <- cmd.Wait() }()
		streams = append(streams, s)
	}
	for _, s := range streams {
		eventually(t, time.Minute, func() string {
			if s.text() == "" {
				return fmt.Sprintf("kubectl %s says nothing", s.command)
			}
			return ""
		})
	}
	return streams
}

// allEnd waits until the streams' clients have ended by themselves, those of a
// server that was killed with an error.
func allEnd(t *testing.T, streams []*stream, killed bool) {
	t.Helper()
	for _, s := range streams {
		select {
		case err := <-s.ended:
			if killed && err == nil {
				t.Errorf("kubectl %s ended as if all were well: %q", s.command, s.text())
			}
		case <-time.After(time.Minute):
			t.Errorf("kubectl %s has not ended: %q", s.command, s.text())
		}
	}
}
