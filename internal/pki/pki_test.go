package pki

import (
	"bytes"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func open(t *testing.T, dir string, now time.Time) *Authority {
	t.Helper()
	a, err := openAt(dir, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func pair(t *testing.T) func(Pair, error) Pair {
	return func(p Pair, err error) Pair {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

func TestServingIsKeptUntilItMustChange(t *testing.T) {
	start := time.Now()
	for _, test := range []struct {
		name  string
		after time.Duration
		hosts []string
		kept  bool
	}{
		{"at once", 0, []string{"localhost", "10.43.0.1"}, true},
		{"in another order and twice", time.Hour, []string{"10.43.0.1", "localhost", "localhost"}, true},
		{"with one more address", 0, []string{"localhost", "10.43.0.1", "192.0.2.7"}, false},
		{"with one fewer", 0, []string{"localhost"}, false},
		{"well before its end", leafLife - renewBefore - time.Hour, []string{"localhost", "10.43.0.1"}, true},
		{"near its end", leafLife - renewBefore + time.Hour, []string{"localhost", "10.43.0.1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			first := pair(t)(open(t, dir, start).Serving("server", "localhost", "10.43.0.1"))
			again := open(t, dir, start.Add(test.after))
			second := pair(t)(again.Serving("server", test.hosts...))
			if kept := bytes.Equal(first.Cert, second.Cert); kept != test.kept {
				t.Fatalf("certificate kept: %v, want %v", kept, test.kept)
			}
			cert, err := second.TLS()
			if err != nil {
				t.Fatal(err)
			}
			for _, host := range test.hosts {
				_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: again.Pool(), CurrentTime: start.Add(test.after)})
				if err != nil {
					t.Errorf("%s: %v", host, err)
				}
			}
		})
	}
}

func TestClientNamesUserAndGroups(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, time.Now())
	admin := pair(t)(a.Client("admin", UserAdmin, GroupMasters))
	cert, err := admin.TLS()
	if err != nil {
		t.Fatal(err)
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf.Subject.CommonName != UserAdmin || cert.Leaf.Subject.Organization[0] != GroupMasters {
		t.Fatalf("subject is %v", cert.Leaf.Subject)
	}
	if again := pair(t)(open(t, dir, time.Now()).Client("admin", UserAdmin, GroupMasters)); !bytes.Equal(admin.Cert, again.Cert) {
		t.Error("reopening made another certificate")
	}
	if other := pair(t)(a.Client("admin", UserAdmin)); bytes.Equal(admin.Cert, other.Cert) {
		t.Error("other groups kept the certificate")
	}
	for _, name := range []string{"ca.key", "admin.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestOpenRefusesHalfAnAuthority(t *testing.T) {
	for _, half := range []string{"ca.crt", "ca.key"} {
		dir := t.TempDir()
		open(t, dir, time.Now())
		if err := os.Remove(filepath.Join(dir, half)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("Open without %s succeeded", half)
		}
	}
	dir := t.TempDir()
	open(t, dir, time.Now())
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("?"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("Open with a damaged ca.crt succeeded")
	}
}

func TestKubeconfig(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, time.Now())
	path := filepath.Join(dir, "kubeconfig")
	admin := pair(t)(a.Client("admin", UserAdmin, GroupMasters))
	for range 2 {
		if err := a.WriteKubeconfig(path, "https://127.0.0.1:6443", UserAdmin, admin); err != nil {
			t.Fatal(err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://127.0.0.1:6443" || !bytes.Equal(config.CertData, admin.Cert) || !bytes.Equal(config.CAData, a.PEM()) {
		t.Fatalf("kubeconfig reads as %+v", config)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestServerHosts(t *testing.T) {
	hosts := ServerHosts(netip.MustParseAddr("192.0.2.1"), netip.Addr{}, netip.IPv4Unspecified())
	for _, host := range []string{"localhost", "127.0.0.1", "kubernetes.default.svc", "192.0.2.1"} {
		if !slices.Contains(hosts, host) {
			t.Errorf("%s is missing from %v", host, hosts)
		}
	}
	if slices.Contains(hosts, "0.0.0.0") {
		t.Error("the unspecified address is among the hosts")
	}
}
