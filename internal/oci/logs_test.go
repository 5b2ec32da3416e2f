package oci

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/podlog"
)

// lineChecker takes lines that are to count up from 1.
type lineChecker struct {
	t    *testing.T
	rest []byte
	last int
}

func (c *lineChecker) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	for {
		line, rest, ok := bytes.Cut(c.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var n int
		if _, err := fmt.Sscanf(string(line), "line %d ", &n); err != nil || n != c.last+1 {
			return 0, fmt.Errorf("after line %d comes %.40q", c.last, line)
		}
		c.last, c.rest = n, rest
	}
}

func logFilesOf(t *testing.T, path string) []string {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// newestRotated is the number of the newest file before the one being written.
func newestRotated(t *testing.T, path string) (newest int) {
	t.Helper()
	for _, file := range logFilesOf(t, path) {
		if n, err := strconv.Atoi(strings.TrimPrefix(file, path+".")); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// A log is rotated while it is written: who follows it gets each line once, across
// restarts of the server too, and old files go.
func TestLogRotation(t *testing.T) {
	m := newMachine(t)
	m.logs = LogLimits{Bytes: 64 << 10, Files: 4}
	stop := m.run()
	const parts, lines = 8, 8 * 2000
	// Each part is longer than a file may be, and waits for the one before to be rotated.
	spec := m.spec(`n=0; while read -r until; do while [ $n -lt $until ]; do n=$((n+1)); echo "line $n of a log that is rotated while it is written"; done; done`)
	spec.Stdin = true
	m.start(spec)
	seen := &lineChecker{t: t}
	ended, followed := make(chan struct{}), make(chan error, 1)
	go func() {
		followed <- podlog.Copy(context.Background(), seen, spec.LogPath, podlog.Options{Follow: true}, ended)
	}()
	client := m.attach(spec.ID, false)
	for part := 1; part <= parts; part++ {
		before := newestRotated(t, spec.LogPath)
		if _, err := fmt.Fprintf(client.keys, "%d\n", part*lines/parts); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a rotation", func() bool { return newestRotated(t, spec.LogPath) > before })
		if part == parts/2 {
			stop()
			m.reopen()
			m.logs = LogLimits{Bytes: 64 << 10, Files: 4}
			m.run()
		}
	}
	waitFor(t, "the last line", func() bool {
		var end bytes.Buffer
		err := podlog.Copy(context.Background(), &end, spec.LogPath, podlog.Options{HasTail: true, Tail: 1}, nil)
		return err == nil && strings.HasPrefix(end.String(), fmt.Sprintf("line %d ", lines))
	})
	close(ended)
	if err := <-followed; err != nil || seen.last != lines {
		t.Errorf("followed to line %d: %v", seen.last, err)
	}
	waitFor(t, "old files to go", func() bool { return len(logFilesOf(t, spec.LogPath)) <= 4 })
	waitFor(t, "the oldest file to go", func() bool { return !exists(spec.LogPath + ".1") })
	// What is left of the log reads as one.
	var all bytes.Buffer
	if err := podlog.Copy(context.Background(), &all, spec.LogPath, podlog.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	left := all.Bytes()
	if !bytes.HasPrefix(left, []byte("line ")) { // the rest of a line that began in the file that went
		_, left, _ = bytes.Cut(left, []byte("\n"))
	}
	first := 0
	if _, err := fmt.Sscanf(string(left), "line %d ", &first); err != nil || first == 1 {
		t.Errorf("the log begins with %.80q", all.String())
	}
	check := &lineChecker{t: t, last: first - 1}
	if _, err := check.Write(left); err != nil || check.last != lines {
		t.Errorf("the log ends with line %d: %v", check.last, err)
	}
	if err := m.Remove(context.Background(), spec.ID); err != nil {
		t.Fatal(err)
	}
	if err := podlog.Remove(spec.LogPath); err != nil || len(logFilesOf(t, spec.LogPath)) > 0 {
		t.Errorf("left: %v, %v", logFilesOf(t, spec.LogPath), err)
	}
}

// A crash between the two steps of a rotation: the next process finishes it.
func TestLogRotationCutShort(t *testing.T) {
	m := newMachine(t)
	spec := m.spec("while read -r line; do echo $line; done")
	spec.Stdin = true
	m.start(spec)
	m.run()
	client := m.attach(spec.ID, false)
	client.says("one\n", "one\n")
	waitFor(t, "the log", func() bool { return logText(t, spec.LogPath) == "one\n" })
	if err := podlog.Rotate(spec.LogPath); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "conmon's new file", func() bool {
		rotating, err := podlog.Rotating(spec.LogPath)
		return err == nil && !rotating
	})
	client.says("two\n", "two\n")
	waitFor(t, "the new file", func() bool { return logText(t, spec.LogPath) == "two\n" })
	if text := logText(t, spec.LogPath+".1"); text != "one\n" {
		t.Errorf("the old file: %q", text)
	}
}

// A flood of a container's output stays within some files' bytes.
func TestLogFlood(t *testing.T) {
	m := newMachine(t)
	m.logs = LogLimits{Bytes: 256 << 10, Files: 3}
	m.run()
	spec := m.spec("exec yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	m.start(spec)
	waitFor(t, "many rotations", func() bool {
		return exists(spec.LogPath+".12") || exists(spec.LogPath+".15") || exists(spec.LogPath+".20")
	})
	if err := m.Signal(context.Background(), spec.ID, 9); err != nil {
		t.Fatal(err)
	}
	m.exit(spec.ID)
	if files := logFilesOf(t, spec.LogPath); len(files) > 4 { // one more while it is being rotated
		t.Errorf("the files: %v", files)
	}
}

// A process that finds a rotation under way does not know whether conmon was
// asked: it waits for conmon to go on before it asks again.
func TestLogRotationTakenOver(t *testing.T) {
	dir := t.TempDir()
	r := &Runtime{dataDir: dir, logs: LogLimits{Bytes: 1 << 20, Files: 3}}
	rec := record{Container: agent.Container{ID: "c", LogPath: filepath.Join(dir, "0.log")}}
	if err := os.MkdirAll(r.containerDir("c"), 0o700); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(r.containerDir("c"), "ctl")
	if err := unix.Mkfifo(control, 0o600); err != nil {
		t.Fatal(err)
	}
	conmon, err := os.OpenFile(control, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conmon.Close()
	asked := func() bool {
		_ = conmon.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, _ := conmon.Read(make([]byte, 64))
		return n > 0
	}
	writeFile(t, rec.LogPath, "a line\n")
	if err := podlog.Rotate(rec.LogPath); err != nil {
		t.Fatal(err)
	}
	under := map[string]rotation{}
	keep := func() {
		t.Helper()
		if soon, err := r.keepLog(rec, under); !soon || err != nil {
			t.Fatalf("%v, %v", soon, err)
		}
	}
	if keep(); asked() {
		t.Error("conmon is asked at the first look")
	}
	if keep(); asked() {
		t.Error("conmon is asked at once")
	}
	under["c"] = rotation{seen: time.Now().Add(-askPatience)}
	if keep(); !asked() {
		t.Error("conmon is not asked although it has not gone on")
	}
	if keep(); asked() {
		t.Error("conmon is asked twice")
	}
}

func TestKeepLogOfThePodThatGoes(t *testing.T) {
	m := newMachine(t)
	soon, err := m.keepLog(record{Container: agent.Container{ID: "c", LogPath: filepath.Join(m.dir, "no", "0.log")}}, map[string]rotation{})
	if soon || err != nil {
		t.Errorf("%v, %v", soon, err)
	}
	if err := os.MkdirAll(filepath.Join(m.dir, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if soon, err = m.keepLog(record{Container: agent.Container{ID: "c", LogPath: filepath.Join(m.dir, "logs", "0.log")}}, map[string]rotation{}); soon || err != nil {
		t.Errorf("%v, %v", soon, err)
	}
}
