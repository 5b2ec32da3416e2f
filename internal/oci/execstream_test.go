package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"windlass.dev/windlass/internal/agent"
)

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func (m *machine) execStream(id string, in io.Reader, command ...string) (code int, out, errOut string) {
	m.t.Helper()
	var stdout, stderr lockedBuffer
	code, err := m.ExecStream(context.Background(), id, command, agent.Streams{In: in, Out: &stdout, Err: &stderr})
	if err != nil {
		m.t.Fatalf("%q: %v", command, err)
	}
	return code, stdout.String(), stderr.String()
}

func TestExecStream(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec("exec sleep 600")
	m.start(spec)

	code, out, errOut := m.execStream(spec.ID, nil, "sh", "-c", "echo $COLOR; echo bad >&2; exit 7")
	if code != 7 || out != "blue\n" || errOut != "bad\n" {
		t.Errorf("exit code %d, %q, %q", code, out, errOut)
	}
	// Nothing is lost or mixed up, in either direction.
	big := strings.Repeat("0123456789abcde\n", 256<<10)
	if code, out, _ = m.execStream(spec.ID, strings.NewReader(big), "cat"); code != 0 || out != big {
		t.Errorf("exit code %d, of %d bytes came %d", code, len(big), len(out))
	}
	// Without a client's input there is none, and a client may leave its input open.
	if code, out, _ = m.execStream(spec.ID, nil, "cat"); code != 0 || out != "" {
		t.Errorf("exit code %d, %q", code, out)
	}
	open, _ := io.Pipe()
	if code, out, _ = m.execStream(spec.ID, open, "sh", "-c", "tty; echo done"); code != 0 || !strings.HasSuffix(out, "done\n") {
		t.Errorf("exit code %d, %q", code, out)
	}
	// A client may drop what it does not want.
	if code, err := m.ExecStream(context.Background(), spec.ID, []string{"sh", "-c", "echo out; echo err >&2"}, agent.Streams{}); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}

	for command, want := range map[string]struct {
		code int
		text string
	}{
		"nosuch":      {exitNotFound, `exec: "nosuch": executable file not found in $PATH`},
		"/bin/nosuch": {exitNotFound, "no such file or directory"},
		"/etc/passwd": {exitCannotExecute, "permission denied"},
	} {
		if code, _, errOut := m.execStream(spec.ID, nil, command); code != want.code || !strings.Contains(errOut, want.text) {
			t.Errorf("%s: exit code %d, %q", command, code, errOut)
		}
	}
	if _, err := m.ExecStream(context.Background(), "nobody", []string{"true"}, agent.Streams{}); err == nil || !strings.Contains(err.Error(), "container nobody does not exist") {
		t.Errorf("a container that is absent: %v", err)
	}
	if err := m.Signal(context.Background(), spec.ID, 9); err != nil {
		t.Fatal(err)
	}
	m.exit(spec.ID)
	if _, err := m.ExecStream(context.Background(), spec.ID, []string{"true"}, agent.Streams{}); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("a container that has ended: %v", err)
	}
	m.noSessions()
}

func (m *machine) noSessions() {
	m.t.Helper()
	left, err := filepath.Glob(filepath.Join(m.dir, "run", "exec-*"))
	if err != nil || len(left) > 0 {
		m.t.Errorf("left: %v, %v", left, err)
	}
}

func TestExecTerminal(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec("exec sleep 600")
	spec.TTY = true // of the container, which its commands need not have
	m.start(spec)
	if _, out, _ := m.execStream(spec.ID, nil, "sh", "-c", "test -t 1 && echo terminal || echo none"); out != "none\n" {
		t.Errorf("without a terminal: %q", out)
	}

	keys, typed := io.Pipe()
	sizes := make(chan agent.TerminalSize)
	defer close(sizes)
	var screen lockedBuffer
	type end struct {
		code int
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		code, err := m.ExecStream(context.Background(), spec.ID, []string{"sh", "-c", `echo "$TERM"; while read -r line; do echo "got $line"; busybox stty size; done; exit 5`},
			agent.Streams{In: keys, Out: &screen, TTY: true, Resize: sizes})
		ended <- end{code, err}
	}()
	waitFor(t, "the command", func() bool { return strings.Contains(screen.String(), "xterm\r\n") })
	sizes <- agent.TerminalSize{Width: 101, Height: 42}
	if _, err := typed.Write([]byte("hello\r")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the answer", func() bool { return strings.Contains(screen.String(), "hello\r\ngot hello\r\n") })
	waitFor(t, "the size of the terminal", func() bool {
		_, _ = typed.Write([]byte("\r"))
		return strings.Contains(screen.String(), "42 101\r\n")
	})
	_ = typed.Close()
	if e := <-ended; e.code != 5 || e.err != nil {
		t.Errorf("exit code %d, %v", e.code, e.err)
	}

	var refusal lockedBuffer
	code, err := m.ExecStream(context.Background(), spec.ID, []string{"nosuch"}, agent.Streams{Out: &refusal, TTY: true})
	if code != exitNotFound || err != nil || !strings.Contains(refusal.String(), "executable file not found") {
		t.Errorf("exit code %d, %v, %q", code, err, refusal.String())
	}
	m.noSessions()
}

// A client that has gone takes its command with it.
func TestExecHangUp(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec("exec sleep 600")
	m.start(spec)
	for name, tty := range map[string]bool{"pipes": false, "terminal": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			in, _ := io.Pipe()
			var out lockedBuffer
			ended := make(chan error, 1)
			go func() {
				_, err := m.ExecStream(ctx, spec.ID, []string{"sh", "-c", "echo begun; sleep 601; echo never"}, agent.Streams{In: in, Out: &out, TTY: tty})
				ended <- err
			}()
			waitFor(t, "the command", func() bool { return strings.Contains(out.String(), "begun") })
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the end: %v", err)
			}
			waitFor(t, "the end of the command", func() bool { return !strings.Contains(commandLines(t, m, spec), "601") })
			m.noSessions()
		})
	}
	// What ignores the hang-up holds nothing up.
	ctx, cancel := context.WithCancel(context.Background())
	var out lockedBuffer
	ended := make(chan error, 1)
	go func() {
		_, err := m.ExecStream(ctx, spec.ID, []string{"sh", "-c", "trap '' HUP; echo begun; exec sleep 602"}, agent.Streams{Out: &out})
		ended <- err
	}()
	waitFor(t, "the command", func() bool { return strings.Contains(out.String(), "begun") })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the end: %v", err)
	}
	if err := m.Remove(context.Background(), spec.ID); err != nil {
		t.Fatal(err)
	}
	m.nothingLeft(spec.ID)
}

// attached is a client attached to a container.
type attached struct {
	t        *testing.T
	keys     *io.PipeWriter
	sizes    chan agent.TerminalSize
	out, err lockedBuffer
	ended    chan error
	leave    context.CancelFunc
}

func (m *machine) attach(id string, tty bool) *attached {
	ctx, leave := context.WithCancel(context.Background())
	keys, typed := io.Pipe()
	a := &attached{t: m.t, keys: typed, sizes: make(chan agent.TerminalSize), ended: make(chan error, 1), leave: leave}
	m.t.Cleanup(leave)
	go func() {
		a.ended <- m.Attach(ctx, id, agent.Streams{In: keys, Out: &a.out, Err: &a.err, TTY: tty, Resize: a.sizes})
	}()
	return a
}

func (a *attached) says(line, answer string) {
	a.t.Helper()
	if _, err := a.keys.Write([]byte(line)); err != nil {
		a.t.Fatal(err)
	}
	waitFor(a.t, answer, func() bool { return strings.Contains(a.out.String(), answer) })
}

func (a *attached) sized(want string) {
	a.t.Helper()
	waitFor(a.t, "the size of the terminal", func() bool {
		_, _ = a.keys.Write([]byte("\r"))
		return strings.Contains(a.out.String(), want)
	})
}

func (a *attached) end() {
	a.t.Helper()
	if err := <-a.ended; err != nil {
		a.t.Error(err)
	}
}

const echoing = `while read -r line; do echo "got $line"; echo "heard $line" >&2; done; echo "no more"; exit 4`

func TestAttach(t *testing.T) {
	m := newMachine(t)
	stop := m.run()
	spec := m.spec(echoing)
	spec.Stdin = true
	m.start(spec)
	first := m.attach(spec.ID, false)
	first.says("one\n", "got one\n")
	waitFor(t, "standard error", func() bool { return first.err.String() == "heard one\n" })
	if err := first.keys.Close(); err != nil { // which the container does not see
		t.Fatal(err)
	}
	first.leave()
	first.end()

	// The container's stdin is conmon's to hold: a later process attaches as well.
	stop()
	if err := os.Mkdir(filepath.Join(m.dir, "run", "exec-left"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.reopen()
	m.noSessions()
	m.run()
	second := m.attach(spec.ID, false)
	second.says("two\n", "got two\n")
	if got := second.out.String(); strings.Contains(got, "one") {
		t.Errorf("an attached client gets what was written before: %q", got)
	}
	long := strings.Repeat("x", 100_000)
	second.says(long+"\n", "got "+long+"\n")
	if err := m.Signal(context.Background(), spec.ID, 9); err != nil {
		t.Fatal(err)
	}
	second.end()
	m.exit(spec.ID)
	if err := m.Attach(context.Background(), spec.ID, agent.Streams{}); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("attaching to a container that has ended: %v", err)
	}
}

func TestAttachOnce(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec(echoing)
	spec.Stdin, spec.StdinOnce = true, true
	m.start(spec)
	client := m.attach(spec.ID, false)
	client.says("one\n", "got one\n")
	_ = client.keys.Close()
	client.end()
	if c := m.exit(spec.ID); c.ExitCode != 4 {
		t.Errorf("exit code %d", c.ExitCode)
	}
	if got := client.out.String(); got != "got one\nno more\n" {
		t.Errorf("got %q", got)
	}
	if text := logText(t, spec.LogPath); !strings.Contains(text, "got one\n") || !strings.Contains(text, "no more\n") {
		t.Errorf("the log: %q", text)
	}
}

func TestAttachTerminal(t *testing.T) {
	m := newMachine(t)
	m.run()
	spec := m.spec(`while read -r line; do echo "got $line"; busybox stty size; done; echo "no more"; exit 4`)
	spec.Stdin, spec.TTY = true, true
	m.start(spec)
	client := m.attach(spec.ID, true)
	client.says("one\r", "one\r\ngot one\r\n")
	client.sizes <- agent.TerminalSize{Width: 101, Height: 42}
	client.sized("42 101\r\n")
	client.sizes <- agent.TerminalSize{Width: 5000, Height: 43} // as large as conmon takes
	client.sized("43 1000\r\n")
	client.says("\x04", "no more\r\n")
	client.end()
	if c := m.exit(spec.ID); c.ExitCode != 4 {
		t.Errorf("exit code %d", c.ExitCode)
	}
}

func TestLastError(t *testing.T) {
	log := `{"level":"warning","msg":"hm"}
{"level":"error","msg":"exec failed: \"x\"","time":"now"}
not json
`
	if got := lastError([]byte(log)); got != `exec failed: "x"` {
		t.Errorf("got %q", got)
	}
}

func FuzzLastError(f *testing.F) {
	f.Add([]byte(`{"level":"error","msg":"exec failed"}`))
	f.Add([]byte("{\n\"level\":1}"))
	f.Fuzz(func(t *testing.T, log []byte) { lastError(log) })
}

func FuzzParsePacket(f *testing.F) {
	f.Add([]byte("\x02hello"))
	f.Add([]byte("\x03"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packet []byte) {
		stream, text, err := parsePacket(packet)
		if err == nil && (stream != packetStdout && stream != packetStderr || len(text) != len(packet)-1) {
			t.Errorf("%q is stream %d, %q", packet, stream, text)
		}
	})
}

func TestTellConmonThatIsGone(t *testing.T) {
	dir := t.TempDir()
	if err := tellConmon(dir, "2 0 0\n"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A container may share the processes of another.
func TestProcessesOfAnother(t *testing.T) {
	m := newMachine(t)
	m.run()
	first := m.spec("exec sleep 611")
	m.start(first)
	second := m.spec("busybox ps; kill -9 1; exec sleep 612") // which it may not
	second.PodUID = first.PodUID
	second.PIDOf = first.ID
	m.start(second)
	waitFor(t, "the processes", func() bool { return strings.Contains(logText(t, second.LogPath), "sleep 611") })
	if _, out, _ := m.execStream(second.ID, nil, "busybox", "ps"); !strings.Contains(out, "sleep 611") || !strings.Contains(out, "sleep 612") {
		t.Errorf("a command sees %q", out)
	}
	lost := m.spec("true")
	lost.PodUID, lost.PIDOf = first.PodUID, "nobody"
	if _, err := m.Start(context.Background(), lost); err == nil || !strings.Contains(err.Error(), "container nobody does not exist") {
		t.Errorf("the processes of nobody: %v", err)
	}
	// The first ends with its processes, of which the second's are some.
	if err := m.Signal(context.Background(), first.ID, 9); err != nil {
		t.Fatal(err)
	}
	m.exit(second.ID)
	if err := m.Remove(context.Background(), second.ID); err != nil {
		t.Fatal(err)
	}
}
