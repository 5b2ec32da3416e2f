package server

import (
	"os"
	"strings"
	"testing"
)

func TestProgramPages(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-04e00000 r-xp 00000000 08:01 1234 /usr/bin/windlass\n": true,
		"04e00000-09000000 r--p 04a00000 08:01 1234 /usr/bin/windlass\n": true,
		"09000000-09400000 rw-p 08c00000 08:01 1234 /usr/bin/windlass\n": false,
		"00400000-04e00000 r-xp 00000000 08:01 1234 /usr/bin/other\n":    false,
		"04e00000-00400000 r-xp 00000000 08:01 1234 /usr/bin/windlass\n": false,
		"c000000000-c000400000 rw-p 00000000 00:00 0\n":                  false,
		"": false,
	} {
		if _, _, ok := programPages(line, "/usr/bin/windlass"); ok != want {
			t.Errorf("%q: %v, want %v", line, ok, want)
		}
	}
}

func FuzzProgramPages(f *testing.F) {
	f.Add("00400000-04e00000 r-xp 00000000 08:01 1234 /usr/bin/windlass\n")
	f.Fuzz(func(t *testing.T, line string) {
		if start, end, ok := programPages(line, "/usr/bin/windlass"); ok && (start >= end || !strings.Contains(line, "/usr/bin/windlass")) {
			t.Errorf("%q: %x to %x", line, start, end)
		}
	})
}

// The program runs on without its pages.
func TestShedProgram(t *testing.T) {
	if err := shedProgram(); err != nil {
		t.Fatal(err)
	}
	own, err := os.Readlink("/proc/self/exe")
	if err != nil || own == "" {
		t.Error(own, err)
	}
}
