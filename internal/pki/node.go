package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/asn1"
	"k8s.io/apimachinery/pkg/types"
)

// GroupNodes is the group of all nodes' agents.
const GroupNodes = "system:nodes"

// userNode begins the name of a node's user.
const userNode = "system:node:"

// NodeUser returns the user that the agent of a node is.
func NodeUser(node string) string { return userNode + node }

// NodeOfUser returns the node whose agent a user is; false for other users.
func NodeOfUser(user string) (string, bool) {
	node, ok := strings.CutPrefix(user, userNode)
	return node, ok && node != ""
}

// Hash returns the SHA-256 of the authority's certificate, in hexadecimal: by it
// a machine that joins knows the authority before it trusts it.
func (a *Authority) Hash() string { return hashOf(a.cert) }

// HashPEM returns what Hash returns for the certificate of an authority in PEM.
func HashPEM(certificate []byte) (string, error) {
	block, _ := pem.Decode(certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("no certificate in PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("the authority's certificate: %w", err)
	}
	return hashOf(parsed), nil
}

func hashOf(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// NewRequest makes a key and a request, both in PEM, that SignNode answers.
func NewRequest(node string) (request, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the node's key: %w", err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: NodeUser(node), Organization: []string{GroupNodes}}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, private)
	if err != nil {
		return nil, nil, fmt.Errorf("make the node's certificate request: %w", err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the node's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), nil
}

// SignNode signs the key of a request, in PEM, for the agent of a node, for so
// long from now. The certificate bears the UID of the node as its user's, if that is not empty. The certificate is its client's towards the API server, which
// knows it as NodeUser, and its server's at address. Nothing but the key is taken
// from the request. It fails for a request that is damaged or whose key signed
// something else.
func (a *Authority) SignNode(request []byte, node string, uid types.UID, address netip.Addr, life time.Duration) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("no certificate request in PEM")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: NodeUser(node), Organization: []string{GroupNodes}},
		NotBefore:             a.now().Add(-backdate),
		NotAfter:              a.now().Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{address.AsSlice()},
	}
	if uid != "" {
		template.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.X509UID(), Value: string(uid)}}
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, parsed.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of node %s: %w", node, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// RenewAt returns when the bearer of a certificate of SignNode should have the
// next one: when a third of its life is left.
func RenewAt(certificate *x509.Certificate) time.Time {
	life := certificate.NotAfter.Sub(certificate.NotBefore) - backdate
	return certificate.NotAfter.Add(-life / 3)
}

// ReplaceFile writes content to path so that readers see the old or the new
// file, whole, and so that it survives a power cut.
func ReplaceFile(path string, content []byte, mode os.FileMode) error {
	return replaceFile(path, content, mode)
}
