package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// TestLastWords: a container's last words are what it wrote to its file, or where
// its policy asks for that the end of its log; never more than is documented.
func TestLastWords(t *testing.T) {
	a := &Agent{cfg: Config{DataDir: t.TempDir()}}
	pod := &corev1.Pod{}
	pod.UID = "uid"
	fallback := corev1.TerminationMessageFallbackToLogsOnError
	pod.Spec.Containers = []corev1.Container{
		{Name: "file", TerminationMessagePath: "dev/termination-log"},
		{Name: "log", TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: fallback},
		{Name: "none"},
	}
	logPath := filepath.Join(a.cfg.DataDir, "log")
	var log strings.Builder
	for i := range 100 {
		log.WriteString("2026-01-01T00:00:00.000000000Z stdout F " + strings.Repeat(string(rune('a'+i%26)), 10) + "\n")
	}
	if err := os.WriteFile(logPath, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, container, written string
		code                     int
		want                     string
		length                   int
	}{
		{name: "what was written", container: "file", written: "good-bye", want: "good-bye", length: 8},
		{name: "4096 bytes of it", container: "file", written: strings.Repeat("x", 5000), want: strings.Repeat("x", 4096), length: 4096},
		{name: "no log without the policy", container: "file", code: 1},
		{name: "valid UTF-8", container: "file", written: "a\xffb", want: "a\uFFFDb", length: 5},
		{name: "80 lines of the log", container: "log", code: 1, want: "vvvvvvvvvv\n", length: 80 * 11},
		{name: "the file before the log", container: "log", written: "boom", code: 1, want: "boom", length: 4},
		{name: "no log of a success", container: "log"},
		{name: "no path", container: "none", code: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			mounts, err := a.messageMount(pod, containerSpecOf(pod, test.container), 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(mounts) > 0 {
				if mounts[0].Destination != "/dev/termination-log" {
					t.Errorf("mounted at %s", mounts[0].Destination)
				}
				if err := os.WriteFile(mounts[0].Source, []byte(test.written), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			got := a.lastWords(pod, Container{Name: test.container, Attempt: 2, ExitCode: test.code, LogPath: logPath})
			if len(got) != test.length || !strings.HasSuffix(got, test.want) {
				t.Errorf("got %d bytes %q, want %d that end in %q", len(got), got, test.length, test.want)
			}
		})
	}
}

// TestLongLog: no more than 2 KiB of a log are told.
func TestLongLog(t *testing.T) {
	var end tail
	for range 100 {
		if _, err := end.Write([]byte(strings.Repeat("y", 100) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if len(end.last) != 2048 || end.last[2047] != '\n' {
		t.Errorf("kept %d bytes", len(end.last))
	}
}

// TestPipeForAMessage: what is no regular file is not read, as that may never end.
func TestPipeForAMessage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := readStart(path, 10); text != "" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
}

// TestShortenMessages: the containers of a pod share 12 KiB.
func TestShortenMessages(t *testing.T) {
	statuses := make([]corev1.ContainerStatus, 12)
	for i := range statuses {
		statuses[i].State.Terminated = &corev1.ContainerStateTerminated{Message: strings.Repeat("ü", 2000)}
		statuses[i].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Message: "short"}
	}
	shortenMessages(statuses[:4], statuses[4:])
	for _, status := range statuses {
		if got := len(status.State.Terminated.Message); got != 1024 || status.LastTerminationState.Terminated.Message != "short" {
			t.Errorf("%d bytes, %+v", got, status.LastTerminationState.Terminated)
		}
	}
}

// FuzzLastWords: whatever a container writes, what is told is text, and no more
// than its share.
func FuzzLastWords(f *testing.F) {
	f.Add([]byte("good-bye"), uint8(1))
	f.Add([]byte("a\xff\xc3"), uint8(12))
	f.Add([]byte(strings.Repeat("ü", 3000)), uint8(7))
	a := &Agent{cfg: Config{DataDir: f.TempDir()}}
	pod := &corev1.Pod{}
	pod.UID = "uid"
	pod.Spec.Containers = []corev1.Container{{Name: "c", TerminationMessagePath: "/m"}}
	f.Fuzz(func(t *testing.T, written []byte, containers uint8) {
		mounts, err := a.messageMount(pod, &pod.Spec.Containers[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(mounts[0].Source, written, 0o600); err != nil {
			t.Fatal(err)
		}
		statuses := make([]corev1.ContainerStatus, max(containers, 1))
		ended := &corev1.ContainerStateTerminated{Message: a.lastWords(pod, Container{Name: "c"})}
		statuses[0].State.Terminated = ended
		shortenMessages(statuses)
		if !utf8.ValidString(ended.Message) || len(ended.Message) > podMessagesLimit/len(statuses) {
			t.Errorf("%d bytes of %d: %q", len(ended.Message), len(written), ended.Message)
		}
	})
}
