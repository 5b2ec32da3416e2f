package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour

	// renewBefore is how long before its end a certificate is made anew.
	renewBefore = leafLife / 3

	// backdate allows for clocks that are behind.
	backdate = 5 * time.Minute
)

// Groups and users that certificates carry, as Kubernetes names them.
const (
	GroupMasters = "system:masters" // may do everything
	UserAdmin    = "kubernetes-admin"
	UserServer   = "system:apiserver" // the API server as the agents' client
)

// Authority signs certificates and keeps them in its directory.
type Authority struct {
	dir  string
	now  func() time.Time
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// Open loads the authority kept in dir, as ca.crt and ca.key, or makes it when
// neither file exists. A directory that has only one of them, or two that do not
// belong together, is an error: to make another authority would lock out all who
// trust the old one.
func Open(dir string) (*Authority, error) { return openAt(dir, time.Now) }

func openAt(dir string, now func() time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of certificates: %w", err)
	}
	a := &Authority{dir: dir, now: now}
	pair, err := a.read("ca")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if pair, err = a.create(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	parsed, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	a.cert, a.pem = parsed.Leaf, pair.Cert
	a.key = parsed.PrivateKey.(crypto.Signer)
	if a.now().After(a.cert.NotAfter) {
		return nil, fmt.Errorf("certificate authority in %s ended on %s", dir, a.cert.NotAfter.Format(time.DateOnly))
	}
	return a, nil
}

// PEM returns the authority's certificate, which is what clients trust.
func (a *Authority) PEM() []byte { return a.pem }

// Pool returns a pool with the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// create makes the authority's own key and certificate.
func (a *Authority) create() (Pair, error) {
	for _, name := range []string{"ca.crt", "ca.key"} {
		if _, err := os.Stat(filepath.Join(a.dir, name)); err == nil {
			return Pair{}, fmt.Errorf("%s has %s but not the other half of the certificate authority", a.dir, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "windlass-ca@" + a.now().UTC().Format("20060102150405")},
		NotBefore:             a.now().Add(-backdate),
		NotAfter:              a.now().Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	pair, err := sign(template, template, key, key)
	if err != nil {
		return Pair{}, err
	}
	return pair, a.write("ca", pair)
}

// obtain returns the certificate called name, from its files when it is as
// wanted, else signed now.
func (a *Authority) obtain(name string, wanted *x509.Certificate) (Pair, error) {
	if pair, err := a.read(name); err == nil && a.good(pair, wanted) {
		return pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make the key of %s: %w", name, err)
	}
	wanted.NotBefore = a.now().Add(-backdate)
	wanted.NotAfter = a.now().Add(leafLife)
	if wanted.NotAfter.After(a.cert.NotAfter) {
		wanted.NotAfter = a.cert.NotAfter
	}
	wanted.KeyUsage = x509.KeyUsageDigitalSignature
	wanted.BasicConstraintsValid = true
	pair, err := sign(wanted, a.cert, key, a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("sign %s: %w", name, err)
	}
	return pair, a.write(name, pair)
}

// good says whether a stored certificate can serve as the wanted one.
func (a *Authority) good(pair Pair, wanted *x509.Certificate) bool {
	parsed, err := pair.TLS()
	if err != nil {
		return false
	}
	have := parsed.Leaf
	return have.CheckSignatureFrom(a.cert) == nil &&
		a.now().Add(renewBefore).Before(have.NotAfter) && a.now().After(have.NotBefore) &&
		have.Subject.CommonName == wanted.Subject.CommonName &&
		slices.Equal(have.Subject.Organization, wanted.Subject.Organization) &&
		slices.Equal(have.ExtKeyUsage, wanted.ExtKeyUsage) &&
		slices.Equal(have.DNSNames, wanted.DNSNames) &&
		slices.EqualFunc(have.IPAddresses, wanted.IPAddresses, func(x, y net.IP) bool { return x.Equal(y) })
}

func sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) (Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Pair{}, fmt.Errorf("draw a serial number: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, fmt.Errorf("create the certificate: %w", err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode the key: %w", err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
	}, nil
}
