package pki

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSigningKeyIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := open(t, dir, time.Now()).SigningKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := open(t, dir, time.Now()).SigningKey()
	if err != nil || !first.Equal(again) {
		t.Errorf("another key, %v", err)
	}
	path := filepath.Join(dir, signingKey)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, content := range []string{"", "?", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, dir, time.Now()).SigningKey(); err == nil {
			t.Errorf("no error for %q", content)
		}
	}
}
