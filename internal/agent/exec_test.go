package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"windlass.dev/windlass/internal/agent"
)

// conversing is a runtime whose commands and containers answer in this process.
type conversing struct {
	agent.Runtime
	begun, hungUp chan string // commands that wait
}

// ExecStream implements agent.Streamer.
func (c conversing) ExecStream(ctx context.Context, id string, command []string, s agent.Streams) (int, error) {
	switch command[0] {
	case "wait":
		c.begun <- id
		<-ctx.Done()
		c.hungUp <- id
		return 0, ctx.Err()
	case "fail":
		return 0, errors.New("it cannot be started")
	case "size":
		size := <-s.Resize
		_, err := fmt.Fprintf(s.Out, "%dx%d tty=%v", size.Width, size.Height, s.TTY)
		return 0, err
	}
	if s.Err != nil {
		_, _ = fmt.Fprintf(s.Err, "%q", command)
	}
	if s.In != nil {
		_, _ = io.Copy(s.Out, s.In)
	}
	return 7, nil
}

// Attach implements agent.Streamer.
func (c conversing) Attach(_ context.Context, _ string, s agent.Streams) error {
	_, err := fmt.Fprintf(s.Out, "in=%v tty=%v", s.In != nil, s.TTY)
	return err
}

func streamTo(ctx context.Context, t *testing.T, address string, options remotecommand.StreamOptions) error {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, target)
	if err != nil {
		t.Fatal(err)
	}
	return executor.StreamWithContext(ctx, options)
}

type fixedSize struct {
	sizes chan remotecommand.TerminalSize
}

// Next implements remotecommand.TerminalSizeQueue.
func (f fixedSize) Next() *remotecommand.TerminalSize {
	size, more := <-f.sizes
	if !more {
		return nil
	}
	return &size
}

func testExec(t *testing.T, h *harness) {
	runtime := conversing{h.node.Runtime(), make(chan string, 1), make(chan string, 1)}
	h.runtime = runtime
	h.start()
	pod := h.untilReady(h.pod("web", nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(h.agent.Handler(ctx))
	defer server.Close()
	in := server.URL + "/exec/default/" + pod.Name + "/web?"

	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	var out, errOut bytes.Buffer
	err := streamTo(ctx, t, in+"input=1&output=1&error=1&command=cat&command=a+b", remotecommand.StreamOptions{Stdin: bytes.NewReader(big), Stdout: &out, Stderr: &errOut})
	var exit exec.CodeExitError
	if !errors.As(err, &exit) || exit.Code != 7 {
		t.Errorf("ended with %v", err)
	}
	if !bytes.Equal(out.Bytes(), big) || errOut.String() != `["cat" "a b"]` {
		t.Errorf("of %d bytes %d came back, and %q", len(big), out.Len(), errOut.String())
	}
	sizes := make(chan remotecommand.TerminalSize, 1)
	sizes <- remotecommand.TerminalSize{Width: 80, Height: 25}
	out.Reset()
	err = streamTo(ctx, t, in+"output=1&tty=1&command=size", remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: fixedSize{sizes}})
	if err != nil || out.String() != "80x25 tty=true" {
		t.Errorf("ended with %v, %q", err, out.String())
	}
	close(sizes)
	if err := streamTo(ctx, t, in+"output=1&command=fail", remotecommand.StreamOptions{Stdout: &out}); err == nil || !strings.Contains(err.Error(), "error executing command in container: it cannot be started") {
		t.Errorf("ended with %v", err)
	}

	// The end of the client is that of the command, and so is the end of the agent.
	for _, end := range []string{"client", "agent"} {
		own, leave := context.WithCancel(ctx)
		defer leave()
		ended := make(chan error, 1)
		go func() {
			ended <- streamTo(own, t, in+"output=1&command=wait", remotecommand.StreamOptions{Stdout: io.Discard})
		}()
		h.hear("the command", runtime.begun)
		if end == "client" {
			leave()
		} else {
			server.Config.Handler = h.agent.Handler(ctx)
			cancel()
		}
		h.hear("the end of the command", runtime.hungUp)
		<-ended
	}
	ctx = t.Context()
	server.Config.Handler = h.agent.Handler(ctx)

	out.Reset()
	if err := streamTo(ctx, t, server.URL+"/attach/default/"+pod.Name+"/web?input=1&output=1", remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out}); err != nil || out.String() != "in=false tty=false" {
		t.Errorf("attached: %v, %q", err, out.String())
	}

	for query, want := range map[string]string{
		"/exec/default/" + pod.Name + "/web?output=1":             "you must specify at least one command for the container",
		"/exec/default/" + pod.Name + "/web?command=true":         "you must specify at least 1 of stdin, stdout, stderr",
		"/exec/default/" + pod.Name + "/no?output=1&command=true": `container not found ("no")`,
		"/exec/default/nobody/web?output=1&command=true":          `pod "nobody" not found`,
		"/attach/default/" + pod.Name + "/no?output=1":            `container not found ("no")`,
		"/attach/default/" + pod.Name + "/web":                    "you must specify at least 1 of stdin, stdout, stderr",
	} {
		if err := streamTo(ctx, t, server.URL+query, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", query, err, want)
		}
	}
}

func (h *harness) hear(what string, from <-chan string) {
	h.t.Helper()
	select {
	case <-from:
	case <-time.After(patience):
		h.t.Fatal("waited in vain for ", what)
	}
}
