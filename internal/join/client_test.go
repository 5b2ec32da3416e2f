package join

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"windlass.dev/windlass/internal/pki"
)

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"https://192.0.2.1":       "https://192.0.2.1:6443",
		"https://server:7443/":    "https://server:7443",
		"http://192.0.2.1":        "",
		"192.0.2.1:6443":          "",
		"https://":                "",
		"https://user@192.0.2.1":  "",
		"https://192.0.2.1/path":  "",
		"https://192.0.2.1:x6443": "",
	} {
		got, err := ParseServer(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v would be tried again", text, err)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	good := Answer{Certificate: []byte("c"), Cluster: Cluster{PodRange: netip.MustParsePrefix("10.42.0.0/16"), ServiceRange: netip.MustParsePrefix("10.43.0.0/16")}}
	without := good
	without.Certificate = nil
	for _, test := range []struct {
		name   string
		status int
		answer Answer
		want   string // in the error; "" is none
		final  bool
	}{
		{"good", http.StatusOK, good, "", false},
		{"refused", http.StatusConflict, Answer{Refused: "the name is taken"}, "refuses this machine: the name is taken", true},
		{"revoked", http.StatusUnauthorized, Answer{Refused: "the node was deleted", Revoked: true}, "revoked: the node was deleted", true},
		{"not windlass", http.StatusNotFound, Answer{}, "is it a windlass server", true},
		{"busy", http.StatusServiceUnavailable, Answer{}, "answers with status 503", false},
		{"nothing", http.StatusOK, without, "lacks the certificate", false},
	} {
		content, err := json.Marshal(test.answer)
		if err != nil {
			t.Fatal(err)
		}
		_, err = readAnswer("https://server:6443", test.status, content)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if errors.Is(err, ErrRefused) != test.final {
			t.Errorf("%s: %v is final: %v", test.name, err, !test.final)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(200, []byte(`{"certificate":"Yw==","cluster":{"podRange":"10.42.0.0/16","serviceRange":"10.43.0.0/16","dns":"10.43.0.10"}}`))
	f.Add(409, []byte(`{"refused":"no"}`))
	f.Fuzz(func(t *testing.T, status int, content []byte) {
		answer, err := readAnswer("https://server:6443", status, content)
		if err == nil && (answer == nil || !answer.Cluster.PodRange.IsValid()) {
			t.Errorf("%s is read as %+v", content, answer)
		}
	})
}

func TestExplainClock(t *testing.T) {
	err := explain("https://server:6443", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "set the clock right") {
		t.Error(err)
	}
}

// The server is believed only with the authority that the token names.
func TestCheckChain(t *testing.T) {
	authority, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	chain := func(signer, shown *pki.Authority) []*x509.Certificate {
		pair, err := signer.Serving("server", "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := pair.TLS()
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(shown.PEM())
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return []*x509.Certificate{leaf.Leaf, parsed}
	}
	if _, err := checkChain(chain(authority, authority), "192.0.2.1", authority.Hash()); err != nil {
		t.Error(err)
	}
	if _, err := checkChain(chain(authority, authority), "192.0.2.2", authority.Hash()); err == nil {
		t.Error("the certificate of another host is good")
	}
	if _, err := checkChain(chain(other, other), "192.0.2.1", authority.Hash()); !errors.Is(err, ErrRefused) {
		t.Errorf("another authority: %v", err)
	}
	if _, err := checkChain(chain(other, authority), "192.0.2.1", authority.Hash()); err == nil {
		t.Error("who shows an authority that has not signed its certificate is believed")
	}
}
