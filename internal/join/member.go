package join

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"windlass.dev/windlass/internal/pki"
)

// The files in a member's directory.
const (
	fileAuthority = "ca.crt"
	fileMember    = "member.json" // with the certificate and its key: mode 0600
)

// Member is a machine that has joined a cluster, as its data directory tells. It
// is safe for concurrent use.
type Member struct {
	dir       string
	authority []byte
	pool      *x509.CertPool

	mu     sync.Mutex
	record record
	pair   tls.Certificate
}

// record is a member's file.
type record struct {
	Server      string       `json:"server"` // URL
	Node        string       `json:"node"`
	Address     netip.Addr   `json:"address"`
	Cluster     Cluster      `json:"cluster"`
	PodRange    netip.Prefix `json:"podRange,omitzero"` // of this node, once it is known
	Certificate string       `json:"certificate"`
	Key         string       `json:"key"`
}

// Open reads what a machine that joined earlier has in dir. It fails with
// fs.ErrNotExist for one that has not.
func Open(dir string) (*Member, error) {
	m := &Member{dir: dir}
	content, err := os.ReadFile(filepath.Join(dir, fileMember))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &m.record); err != nil {
		return nil, m.damaged(err)
	}
	if m.authority, err = os.ReadFile(filepath.Join(dir, fileAuthority)); err != nil {
		return nil, m.damaged(err)
	}
	if err := m.trust(); err != nil {
		return nil, m.damaged(err)
	}
	if m.pair, err = (pki.Pair{Cert: []byte(m.record.Certificate), Key: []byte(m.record.Key)}).TLS(); err != nil {
		return nil, m.damaged(err)
	}
	return m, nil
}

func (m *Member) damaged(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New(err.Error()) // only the whole may be missing
	}
	return fmt.Errorf("what is kept of this node in %s is damaged: %w (remove that directory and join anew with --token)", m.dir, err)
}

func (m *Member) trust() error {
	m.pool = x509.NewCertPool()
	if !m.pool.AppendCertsFromPEM(m.authority) {
		return errors.New("no certificate in " + fileAuthority)
	}
	return nil
}

// Node returns the name by which the machine joined.
func (m *Member) Node() string { return m.read().Node }

// Server returns the URL of the API server.
func (m *Member) Server() string { return m.read().Server }

// Address returns the node's address, which its certificate is for.
func (m *Member) Address() netip.Addr { return m.read().Address }

// Cluster returns what the cluster has told of itself.
func (m *Member) Cluster() Cluster { return m.read().Cluster }

// PodRange returns the node's own pod range, invalid as long as none is known.
func (m *Member) PodRange() netip.Prefix { return m.read().PodRange }

// Authority returns a pool with the cluster's authority alone.
func (m *Member) Authority() *x509.CertPool { return m.pool }

// Certificate returns the node's certificate of now.
func (m *Member) Certificate() *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	pair := m.pair
	return &pair
}

// Ends returns when the certificate does.
func (m *Member) Ends() time.Time { return m.Certificate().Leaf.NotAfter }

// RenewAt returns when the certificate is to be renewed: when a third of its
// life is left.
func (m *Member) RenewAt() time.Time {
	return pki.RenewAt(m.Certificate().Leaf)
}

// SetPodRange keeps the node's pod range.
func (m *Member) SetPodRange(within netip.Prefix) error {
	return m.write(func(r *record) { r.PodRange = within })
}

// SetServer keeps another URL of the API server.
func (m *Member) SetServer(url string) error { return m.write(func(r *record) { r.Server = url }) }

func (m *Member) read() record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record
}

// write changes the record, on disk first.
func (m *Member) write(change func(*record)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := m.record
	change(&changed)
	if changed == m.record {
		return nil
	}
	content, err := json.MarshalIndent(changed, "", "  ")
	if err != nil {
		return fmt.Errorf("encode what is kept of this node: %w", err)
	}
	pair, err := (pki.Pair{Cert: []byte(changed.Certificate), Key: []byte(changed.Key)}).TLS()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of this node's certificate: %w", err)
	}
	if err := pki.ReplaceFile(filepath.Join(m.dir, fileAuthority), m.authority, 0o644); err != nil {
		return err
	}
	if err := pki.ReplaceFile(filepath.Join(m.dir, fileMember), content, 0o600); err != nil {
		return err
	}
	m.record, m.pair = changed, pair
	return nil
}
