package agent

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Each pod has users of its own, keeps them over a restart of the agent, and gives them
// back with its directory.
func TestUserRanges(t *testing.T) {
	dir := t.TempDir()
	r := &userRanges{dir: dir}
	taken := make([]UserRange, 20)
	var all sync.WaitGroup
	for i := range taken {
		all.Go(func() {
			var err error
			if taken[i], err = r.take("pod-" + string(rune('a'+i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	seen := map[uint32]bool{}
	for _, users := range taken {
		if users.Size != 65536 || users.First%65536 != 0 || users.First == 0 || seen[users.First] {
			t.Errorf("%+v, after %v", users, seen)
		}
		seen[users.First] = true
	}
	r = &userRanges{dir: dir}
	for i, users := range taken {
		if again, err := r.take("pod-" + string(rune('a'+i))); err != nil || again != users {
			t.Errorf("after a restart %+v, was %+v: %v", again, users, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "pod-c")); err != nil {
		t.Fatal(err)
	}
	if users, err := r.take("new"); err != nil || users != taken[2] {
		t.Errorf("a new pod has %+v, not those that are free: %v", users, err)
	}
	// Users that cannot be read are nobody else's.
	if err := os.WriteFile(filepath.Join(dir, "pod-d", "users"), []byte("77\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.take("another"); err == nil || !strings.Contains(err.Error(), "77 begins no range") {
		t.Error(err)
	}
}

func FuzzParseUsers(f *testing.F) {
	for _, seed := range []string{"65536\n", "0", "4294901760", "x", "1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		users, err := parseUsers(content)
		if err == nil && (users.First == 0 || uint64(users.First)+uint64(users.Size) > 1<<32) {
			t.Errorf("%q is %+v", content, users)
		}
	})
}
