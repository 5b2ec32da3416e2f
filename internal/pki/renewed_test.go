package pki

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// TestRenewed: a server that runs for longer than its certificates live shows good
// ones at every moment, and keeps the one that it has while it cannot write another.
func TestRenewed(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	a, err := openAt(dir, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	serving, err := a.KeepServing("server", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	client, err := a.KeepClient("client", "user", "group")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	last := serving.Pair()
	for end := now.Add(3 * leafLife); now.Before(end); now = now.Add(24 * time.Hour) {
		for _, r := range []*Renewed{serving, client} {
			if leaf := r.TLS().Leaf; now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
				t.Fatalf("at %v the certificate is good from %v to %v", now, leaf.NotBefore, leaf.NotAfter)
			}
		}
		if pair := serving.Pair(); !bytes.Equal(pair.Cert, last.Cert) {
			made, last = made+1, pair
		}
	}
	if made < 3 || made > 5 {
		t.Errorf("made anew %d times in three years", made)
	}
	now = serving.TLS().Leaf.NotAfter.Add(-time.Hour)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if pair := serving.Pair(); !bytes.Equal(pair.Cert, last.Cert) {
		t.Error("a certificate was made that could not be kept")
	}
}
