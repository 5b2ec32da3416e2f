package podlog

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseLine(t *testing.T) {
	line, err := ParseLine([]byte("2016-10-06T00:17:09.669794202Z stderr P log content \n"))
	want := time.Date(2016, 10, 6, 0, 17, 9, 669794202, time.UTC)
	if err != nil || !line.Time.Equal(want) || line.Stream != "stderr" || !line.Partial || string(line.Text) != "log content " {
		t.Errorf("%+v, %v", line, err)
	}
	if line, err := ParseLine([]byte("2016-10-06T00:17:09.6+02:00 stdout F:more")); err != nil || line.Partial || len(line.Text) != 0 {
		t.Errorf("empty text: %+v, %v", line, err)
	}
	for _, bad := range []string{"", "\n", "x", "2016-10-06T00:17:09Z", "2016-10-06T00:17:09Z stdin F x", "2016-10-06T00:17:09Z stdout X x", "yesterday stdout F x", "2016-10-06T00:17:09Z stdout"} {
		if line, err := ParseLine([]byte(bad)); err == nil {
			t.Errorf("ParseLine(%q) = %+v, want an error", bad, line)
		}
	}
}

// FuzzParseLine: what is read is in the text, and a whole file of anything can
// be copied, from any line on.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout F content\n"), int64(1))
	f.Add([]byte("2016-10-06T00:17:09Z stderr P \n2016-10-06T00:17:09Z stderr F x\nrubbish"), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, tail int64) {
		if line, err := ParseLine(data); err == nil && !bytes.Contains(data, line.Text) {
			t.Errorf("text %q is not in %q", line.Text, data)
		}
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var all, some bytes.Buffer
		if err := Copy(context.Background(), &all, path, Options{}, nil); err != nil {
			t.Fatal(err)
		}
		if err := Copy(context.Background(), &some, path, Options{HasTail: true, Tail: tail}, nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(all.Bytes(), some.Bytes()) {
			t.Errorf("the last %d lines of %q are %q, not the end of %q", tail, data, some.Bytes(), all.Bytes())
		}
	})
}

// The last lines are the last lines, however long the file, in whatever pieces
// its lines were written.
func TestTail(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var file, want strings.Builder
		var lines []string
		for i := range rapid.IntRange(0, 60).Draw(t, "lines") {
			text := ""
			pieces := rapid.IntRange(1, 3).Draw(t, "pieces")
			for p := range pieces {
				tag := "P"
				if p == pieces-1 {
					tag = "F"
				}
				piece := fmt.Sprintf("%d.%d%s", i, p, strings.Repeat("x", rapid.SampledFrom([]int{0, 10, 5000}).Draw(t, "length")))
				fmt.Fprintf(&file, "2026-01-01T00:00:00Z stdout %s %s\n", tag, piece)
				text += piece
			}
			lines = append(lines, text)
		}
		n := rapid.IntRange(0, 70).Draw(t, "tail")
		for _, line := range lines[max(0, len(lines)-n):] {
			want.WriteString(line + "\n")
		}
		path := filepath.Join(dir, "log")
		if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := Copy(context.Background(), &got, path, Options{HasTail: true, Tail: int64(n)}, nil); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Fatalf("the last %d lines: %d bytes, want %d", n, got.Len(), want.Len())
		}
	})
}

func TestCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := "2026-01-01T00:00:00.25Z stdout F one\nnot a record\n2026-01-01T00:00:01Z stderr P tw\n2026-01-01T00:00:01Z stderr F o\n2026-01-01T00:00:02Z stdout F not whole"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		options Options
		want    string
	}{
		{"all", Options{}, "one\ntwo\n"},
		{"timestamps", Options{Timestamps: true}, "2026-01-01T00:00:00.25Z one\n2026-01-01T00:00:01Z two\n"},
		{"since", Options{Since: time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)}, "two\n"},
		{"none", Options{HasTail: true}, ""},
		{"limit", Options{HasLimit: true, Limit: 6}, "one\ntw"},
		{"limit at an end", Options{HasLimit: true, Limit: 4}, "one\n"},
	} {
		var got bytes.Buffer
		if err := Copy(context.Background(), &got, path, test.options, nil); err != nil || got.String() != test.want {
			t.Errorf("%s: %q, %v, want %q", test.name, got.String(), err, test.want)
		}
	}
	if err := Copy(context.Background(), &bytes.Buffer{}, path+"x", Options{}, nil); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// lines is a writer that hands on what it is given.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ended, out, result := make(chan struct{}), make(lines, 10), make(chan error)
	go func() { result <- Copy(context.Background(), out, path, Options{Follow: true}, ended) }()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-out:
			if got != want {
				t.Fatalf("followed %q, want %q", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing followed, want %q", want)
		}
	}
	fmt.Fprint(f, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z std")
	next("one\n")
	fmt.Fprint(f, "out F two\n")
	next("two\n")
	fmt.Fprint(f, "2026-01-01T00:00:00Z stdout F last\n")
	close(ended)
	next("last\n")
	if err := <-result; err != nil {
		t.Error(err)
	}
}
