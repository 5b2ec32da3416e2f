package pki

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"testing"
	"time"
)

// A request comes from who has nothing but a token: whatever it says, only its key is taken.
func FuzzSignNode(f *testing.F) {
	authority, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	request, _, err := NewRequest("node")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, request []byte) {
		certificate, err := authority.SignNode(request, "node", "uid", netip.MustParseAddr("192.0.2.7"), time.Hour)
		if err == nil && len(certificate) == 0 {
			t.Fatal("neither a certificate nor an error")
		}
		if err != nil {
			return
		}
		block, _ := pem.Decode(certificate)
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil || parsed.Subject.CommonName != "system:node:node" || parsed.IsCA || len(parsed.DNSNames) > 0 {
			t.Errorf("signed %v, %v", parsed.Subject, err)
		}
	})
}

func TestRenewAt(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	certificate := &x509.Certificate{NotBefore: start.Add(-backdate), NotAfter: start.Add(3 * time.Minute)}
	if at := RenewAt(certificate); !at.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("renewed at %s", at)
	}
}
