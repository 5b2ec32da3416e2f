package oci

import (
	"context"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	m := newMachine(t)
	m.run()
	busy := m.spec("while :; do :; done")
	m.start(busy)
	idle := m.spec("exec sleep 1000")
	m.start(idle)
	ended := m.spec("true")
	m.start(ended)
	m.exit(ended.ID)
	cpu := map[string]time.Duration{}
	waitFor(t, "CPU time", func() bool {
		u, err := m.Usage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(u.Containers) != 2 || u.Node.Memory <= 0 || u.Node.CPU <= 0 {
			t.Fatalf("%+v", u)
		}
		for _, c := range u.Containers {
			cpu[c.ID] = c.Used.CPU
			if c.Used.Memory <= 0 || c.PodUID != "uid-"+c.ID || c.Name != "main" || c.StartedAt.IsZero() {
				t.Fatalf("%+v", c)
			}
		}
		return cpu[busy.ID] > 100*time.Millisecond
	})
	if cpu[idle.ID] >= cpu[busy.ID] {
		t.Errorf("%v", cpu)
	}
}

func TestParseUsage(t *testing.T) {
	if got := parseBusy([]byte("cpu  100 20 30 4000 500 6 7 8 50 9\ncpu0 1 1 1 1\n")); got != 1710*time.Millisecond {
		t.Errorf("busy for %s", got)
	}
	if got := parseWorkingSet([]byte("MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 5 kB\nInactive:  400 kB\nInactive(file):  200 kB\n")); got != 500<<10 {
		t.Errorf("a working set of %d", got)
	}
	const stat = "cache 5\ninactive_file 7\ntotal_inactive_file 8\n"
	if a, b, c := field([]byte(stat), "inactive_file"), field([]byte(stat), "total_inactive_file"), field([]byte(stat), "none"); a != 7 || b != 8 || c != 0 {
		t.Error(a, b, c)
	}
	for _, bad := range []string{"", "cpu", "intr 1 2 3 4 5", "cpu x y z 1 2"} {
		if got := parseBusy([]byte(bad)); got != 0 {
			t.Errorf("%q: busy for %s", bad, got)
		}
	}
}

func FuzzParseUsage(f *testing.F) {
	f.Add([]byte("cpu  100 20 30 4000 500 6 7 8 50 9\n"))
	f.Add([]byte("MemTotal: 1000 kB\nMemFree: 300 kB\nInactive(file): 7 kB"))
	f.Add([]byte("inactive_file 9223372036854775807\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if parseBusy(data) < 0 || parseWorkingSet(data) < 0 || number(data) < 0 || field(data, "inactive_file") < 0 {
			t.Errorf("%q reads as a negative number", data)
		}
	})
}
