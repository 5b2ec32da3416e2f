package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAddresses: whatever comes and goes, and however often the records are
// read again, no two pods have one address, none has the bridge's or the
// broadcast address, and a pod keeps its own.
func TestAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "addresses")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		within := netip.MustParsePrefix("10.42.0.0/29") // room for five pods
		a, err := loadAddresses(dir, within)
		if err != nil {
			t.Fatal(err)
		}
		model := map[string]netip.Addr{}
		pod := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"})
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				name := pod.Draw(t, "pod")
				ip, err := a.take(name)
				known, had := model[name]
				switch {
				case err != nil && len(model) < 5:
					t.Fatalf("%d pods: %v", len(model), err)
				case err == nil && had && ip != known:
					t.Fatalf("pod %s had %s and now has %s", name, known, ip)
				case err == nil && !had && len(model) == 5:
					t.Fatalf("a sixth address: %s", ip)
				case err == nil:
					model[name] = ip
				}
			},
			"release": func(t *rapid.T) {
				name := pod.Draw(t, "pod")
				if err := a.release(name); err != nil {
					t.Fatal(err)
				}
				delete(model, name)
			},
			"restart": func(t *rapid.T) {
				if a, err = loadAddresses(dir, within); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				owner := map[netip.Addr]string{}
				for name, ip := range a.all() {
					if other, twice := owner[ip]; twice {
						t.Fatalf("%s is both %s's and %s's", ip, name, other)
					}
					owner[ip] = name
					if ip == a.gateway || !within.Contains(ip) || !within.Contains(ip.Next()) {
						t.Fatalf("pod %s has %s", name, ip)
					}
				}
				if fmt.Sprint(a.all()) != fmt.Sprint(model) {
					t.Fatalf("%v, want %v", a.all(), model)
				}
			},
		})
	})
}

// TestAddressIsNotReusedAtOnce: a freed address waits for its turn.
func TestAddressIsNotReusedAtOnce(t *testing.T) {
	a, err := loadAddresses(t.TempDir(), netip.MustParsePrefix("10.42.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := a.take("a")
	if err := a.release("a"); err != nil {
		t.Fatal(err)
	}
	if second, _ := a.take("b"); second == first {
		t.Errorf("%s was given out again at once", first)
	}
}

func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pod-a"), []byte("not an address"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadAddresses(dir, netip.MustParsePrefix("10.42.0.0/24"))
	if err == nil || !strings.Contains(err.Error(), "pod-a") {
		t.Errorf("%v, want an error that names the record", err)
	}
}

// TestEmptyRecord: what a power failure leaves does not keep the server from starting.
func TestEmptyRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pod-a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := loadAddresses(dir, netip.MustParsePrefix("10.42.0.0/24"))
	if err != nil || len(a.all()) > 0 {
		t.Errorf("%v, %v", a.all(), err)
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add([]byte("10.42.0.7\n"))
	f.Add([]byte("fe80::1%eth0"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if ip, err := parseAddress(content); err == nil && !ip.Is4() {
			t.Errorf("%q was read as %s", content, ip)
		}
	})
}
