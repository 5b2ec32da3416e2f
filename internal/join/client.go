package join

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"windlass.dev/windlass/internal/pki"
)

const (
	// askPatience bounds one request for a certificate.
	askPatience = 15 * time.Second

	// answerLimit bounds what is read of an answer, in bytes.
	answerLimit = 1 << 20
)

// ErrRefused is wrapped by errors that the same request will meet again: the
// token is bad, the name taken, the server not the one that the token names.
var ErrRefused = errors.New("refused")

// ErrRevoked is wrapped, beside ErrRefused, by errors of a machine whose Node was
// deleted: it is no node of the cluster any more.
var ErrRevoked = errors.New("revoked")

// refused makes an error of a reason that wraps ErrRefused.
type refused struct{ reason string }

func (r refused) Error() string        { return r.reason }
func (r refused) Is(target error) bool { return target == ErrRefused }

// Enter joins the cluster behind the URL server as node, reached at address, and
// keeps what comes of it in dir. Errors wrap ErrRefused when trying again is of
// no use.
func Enter(ctx context.Context, dir, server string, token Token, node string, address netip.Addr) (*Member, error) {
	at, err := ParseServer(server)
	if err != nil {
		return nil, err
	}
	m := &Member{dir: dir}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the token's hash is checked in its place
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			m.authority, err = checkChain(state.PeerCertificates, hostOf(at), token.AuthorityHash)
			return err
		},
	}}
	request := Request{Token: token.String(), Node: node, Address: address}
	answer, key, err := ask(ctx, &http.Client{Transport: transport}, at, request)
	if err != nil {
		return nil, err
	}
	if err := m.trust(); err != nil {
		return nil, err
	}
	return m, m.write(func(r *record) {
		*r = record{Server: at, Node: node, Address: address, Cluster: answer.Cluster, Certificate: string(answer.Certificate), Key: string(key)}
	})
}

// Renew has the certificate signed anew, with another key and for the node's
// address of now, by way of a client that bears the present one.
func (m *Member) Renew(ctx context.Context, client *http.Client, address netip.Addr) error {
	answer, key, err := ask(ctx, client, m.Server(), Request{Node: m.Node(), Address: address})
	if err != nil {
		return err
	}
	return m.write(func(r *record) {
		r.Address, r.Cluster, r.Certificate, r.Key = address, answer.Cluster, string(answer.Certificate), string(key)
	})
}

// ParseServer returns the URL of an API server in its plain form.
func ParseServer(server string) (string, error) {
	at, err := url.Parse(server)
	if err != nil || at.Scheme != "https" || at.Host == "" || at.User != nil || strings.Trim(at.Path, "/") != "" || at.RawQuery != "" {
		return "", refused{fmt.Sprintf("--server %q is not the URL of an API server: give one such as https://192.168.1.10:6443", server)}
	}
	if at.Port() == "" {
		at.Host += ":6443"
	}
	return "https://" + at.Host, nil
}

// ask sends a request with a new key and returns the answer and the key.
func ask(ctx context.Context, client *http.Client, server string, request Request) (*Answer, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	csr, key, err := pki.NewRequest(request.Node)
	if err != nil {
		return nil, nil, err
	}
	request.Certificate, request.Time = csr, time.Now()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the request to join: %w", err)
	}
	sent, err := http.NewRequestWithContext(ctx, http.MethodPost, server+Path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", server, err)
	}
	sent.Header.Set("Content-Type", "application/json")
	response, err := client.Do(sent)
	if err != nil {
		return nil, nil, explain(server, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", server, err)
	}
	answer, err := readAnswer(server, response.StatusCode, content)
	return answer, key, err
}

// readAnswer reads what a server answered.
func readAnswer(server string, status int, content []byte) (*Answer, error) {
	var answer Answer
	err := json.Unmarshal(content, &answer)
	switch {
	case err == nil && answer.Revoked:
		return nil, fmt.Errorf("%w: %w", ErrRevoked, refused{answer.Refused})
	case err == nil && answer.Refused != "":
		return nil, refused{fmt.Sprintf("%s refuses this machine: %s", server, answer.Refused)}
	case status == http.StatusNotFound:
		return nil, refused{fmt.Sprintf("%s has no %s: is it a windlass server of this version?", server, Path)}
	case status != http.StatusOK:
		return nil, fmt.Errorf("%s answers with status %d: %.200s", server, status, content)
	case err != nil:
		return nil, fmt.Errorf("the answer of %s cannot be read: %w", server, err)
	case len(answer.Certificate) == 0 || !answer.Cluster.PodRange.IsValid() || !answer.Cluster.ServiceRange.IsValid():
		return nil, fmt.Errorf("the answer of %s lacks the certificate or the cluster's ranges", server)
	}
	return &answer, nil
}

// explain says what the failure of a connection means.
func explain(server string, err error) error {
	var invalid x509.CertificateInvalidError
	var mismatch refused
	switch {
	case errors.As(err, &mismatch):
		return fmt.Errorf("%s: %w", server, mismatch)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return refused{fmt.Sprintf("the certificate of %s is not good at this machine's time, %s: set the clock right (an NTP client does) and try again (%v)",
			server, time.Now().UTC().Format(time.RFC3339), err)}
	}
	return fmt.Errorf("reach %s: %w", server, err)
}

// hostOf returns the host of a server's URL.
func hostOf(server string) string {
	at, err := url.Parse(server)
	if err != nil {
		return ""
	}
	return at.Hostname()
}

// checkChain returns the authority's certificate, in PEM, when it is the one with
// the hash and has signed the server's, the first of the chain, for its host.
func checkChain(chain []*x509.Certificate, host, hash string) ([]byte, error) {
	roots := x509.NewCertPool()
	var authority *x509.Certificate
	for _, certificate := range chain {
		sum := sha256.Sum256(certificate.Raw)
		if hex.EncodeToString(sum[:]) == hash {
			authority = certificate
			roots.AddCert(certificate)
		}
	}
	if authority == nil {
		return nil, refused{"the server's authority is not the one that the token names: the token is of another cluster, the server is not the one you think, " +
			"or somebody stands in between; nothing secret was said"}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}), nil
}
