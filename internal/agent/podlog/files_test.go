package podlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rotate is what Rotate and its writer do.
func rotate(t interface{ Fatal(...any) }, path string) {
	if err := Rotate(path); err != nil {
		t.Fatal(err)
	}
	if rotating, err := Rotating(path); err != nil || !rotating {
		t.Fatal("it is not being rotated: ", err)
	}
	if err := errors.Join(os.WriteFile(path+".tmp", nil, 0o600), os.Rename(path+".tmp", path)); err != nil {
		t.Fatal(err)
	}
	if rotating, err := Rotating(path); err != nil || rotating {
		t.Fatal("it is being rotated: ", err)
	}
}

func add(t interface{ Fatal(...any) }, path, text string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// However lines are cut up and rotated, a reader gets the last of them.
func TestTailOfFiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "podlog-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "0.log")
		add(t, path, "")
		var lines []string
		for i := range rapid.IntRange(0, 20).Draw(t, "lines") {
			text := ""
			pieces := rapid.IntRange(1, 3).Draw(t, "pieces")
			for p := range pieces {
				if rapid.IntRange(0, 3).Draw(t, "rotate") == 0 {
					rotate(t, path)
				}
				tag := "P"
				if p == pieces-1 {
					tag = "F"
				}
				piece := fmt.Sprintf("%d.%d", i, p)
				add(t, path, "2026-01-01T00:00:00Z stdout "+tag+" "+piece+"\n")
				text += piece
			}
			lines = append(lines, text+"\n")
		}
		n := rapid.IntRange(0, 25).Draw(t, "tail")
		for _, options := range []Options{{}, {HasTail: true, Tail: int64(n)}} {
			want := lines
			if options.HasTail {
				want = lines[max(0, len(lines)-n):]
			}
			var got bytes.Buffer
			if err := Copy(context.Background(), &got, path, options, nil); err != nil || got.String() != strings.Join(want, "") {
				t.Fatalf("%+v: %q, %v; want %q", options, got.String(), err, want)
			}
		}
	})
}

func TestFollowRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	record := func(n int) string { return fmt.Sprintf("2026-01-01T00:00:00Z stdout F %d\n", n) }
	add(t, path, record(0))
	ended, out, result := make(chan struct{}), make(lines, 1000), make(chan error, 1)
	go func() { result <- Copy(context.Background(), out, path, Options{Follow: true}, ended) }()
	const last = 300
	for n := 1; n <= last; n++ {
		if n%7 == 0 || n%8 == 0 { // one after the other, too
			rotate(t, path)
		}
		add(t, path, record(n))
		if n%50 == 0 {
			if err := Prune(path, 100, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(ended)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	close(out)
	n := 0
	for line := range out {
		if line != fmt.Sprintf("%d\n", n) {
			t.Fatalf("line %q instead of %d", line, n)
		}
		n++
	}
	if n != last+1 {
		t.Errorf("%d lines", n)
	}
}

// Files that go while a log is followed are never those after one that is there:
// no line comes twice.
func TestFollowPruned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	add(t, path, "2026-01-01T00:00:00Z stdout F 0\n")
	ended, out, result := make(chan struct{}), make(lines), make(chan error, 1)
	go func() { result <- Copy(context.Background(), out, path, Options{Follow: true}, ended) }()
	go func() {
		defer close(ended)
		for n := 1; n <= 2000; n++ {
			if n%3 == 0 {
				rotate(t, path)
				if n%30 == 0 {
					if err := Prune(path, 2, 1<<30); err != nil {
						t.Error(err)
					}
				}
			}
			add(t, path, fmt.Sprintf("2026-01-01T00:00:00Z stdout F %d\n", n))
		}
	}()
	last := -1
	for {
		select {
		case line := <-out:
			n := 0
			if _, err := fmt.Sscanf(line, "%d", &n); err != nil || n <= last {
				t.Fatalf("after line %d comes %q", last, line)
			}
			last = n
			continue
		case err := <-result:
			if err != nil || last != 2000 {
				t.Errorf("ended after line %d: %v", last, err)
			}
		}
		return
	}
}

// A log that is deleted ends who follows it.
func TestFollowDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	add(t, path, "2026-01-01T00:00:00Z stdout F one\n")
	out, result := make(lines, 10), make(chan error, 1)
	go func() { result <- Copy(context.Background(), out, path, Options{Follow: true}, nil) }()
	<-out
	rotate(t, path)
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it follows on")
	}
}

func TestPrune(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	numbers := func() []uint64 {
		list, err := rotated(path)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for range 6 {
		add(t, path, strings.Repeat("x", 100))
		rotate(t, path)
	}
	add(t, path+".7x", "")
	add(t, path+".07", "")
	if err := Prune(path, 5, 1000); err != nil || !slices.Equal(numbers(), []uint64{3, 4, 5, 6}) {
		t.Errorf("%v, %v", numbers(), err)
	}
	if err := Prune(path, 5, 250); err != nil || !slices.Equal(numbers(), []uint64{5, 6}) {
		t.Errorf("%v, %v", numbers(), err)
	}
	if err := Prune(path, 5, 10); err != nil || !slices.Equal(numbers(), []uint64{6}) { // which may be being read
		t.Errorf("%v, %v", numbers(), err)
	}
	rotate(t, path)
	if !slices.Equal(numbers(), []uint64{6, 7}) {
		t.Errorf("%v", numbers())
	}
	if err := Remove(path); err != nil || len(numbers()) > 0 {
		t.Errorf("%v, %v", numbers(), err)
	}
	if err := errors.Join(Remove(path), Remove(filepath.Join(path, "no", "0.log"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzParseRotated(f *testing.F) {
	for _, name := range []string{"0.log", "0.log.1", "0.log.01", "0.log.tmp", "0.log.9223372036854775808", "1.log.1", "0.log.-1", "0.log.+1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseRotated("0.log", name); ok && rotatedPath("0.log", n) != name {
			t.Errorf("%q is number %d, whose name is %q", name, n, rotatedPath("0.log", n))
		}
	})
}
