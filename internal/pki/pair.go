package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// Pair is a certificate and its key, both in PEM.
type Pair struct{ Cert, Key []byte }

// TLS returns the pair as crypto/tls wants it, with its Leaf parsed. It fails
// when the halves are damaged or do not belong together.
func (p Pair) TLS() (tls.Certificate, error) {
	cert, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate and key: %w", err)
	}
	return cert, nil
}

// Serving returns the serving certificate called name for the given hosts, each
// a DNS name or an IP address, in any order, twice or not. A certificate on disk
// for exactly these hosts is used until a third of its year is left.
func (a *Authority) Serving(name string, hosts ...string) (Pair, error) {
	names, addresses := split(hosts)
	return a.obtain(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names,
		IPAddresses: addresses,
	})
}

// Client returns the client certificate called name, by which the API server
// and the agents know its bearer as user, a member of groups.
func (a *Authority) Client(name, user string, groups ...string) (Pair, error) {
	return a.obtain(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// ServerHosts returns the names and addresses under which the API server is
// reached from this machine, from pods and from other nodes, for Serving: those
// of loopback, of the Service kubernetes in the cluster's domain, the machine's
// own name, and the given addresses. Invalid addresses are left out.
func ServerHosts(addresses ...netip.Addr) []string {
	hosts := []string{
		"localhost", "127.0.0.1", "::1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	for _, address := range addresses {
		if address.IsValid() && !address.IsUnspecified() {
			hosts = append(hosts, address.Unmap().String())
		}
	}
	return hosts
}

// split sorts hosts into DNS names and addresses, each in order and once.
func split(hosts []string) (names []string, addresses []net.IP) {
	hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			addresses = append(addresses, ip)
		} else if host != "" {
			names = append(names, host)
		}
	}
	return names, addresses
}

func (a *Authority) read(name string) (Pair, error) {
	cert, err := os.ReadFile(filepath.Join(a.dir, name+".crt"))
	if err != nil {
		return Pair{}, err
	}
	key, err := os.ReadFile(filepath.Join(a.dir, name+".key"))
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: cert, Key: key}, nil
}

// write stores the key first: a crash between the two leaves a pair that does
// not fit, which is made anew.
func (a *Authority) write(name string, pair Pair) error {
	if err := replaceFile(filepath.Join(a.dir, name+".key"), pair.Key, 0o600); err != nil {
		return err
	}
	return replaceFile(filepath.Join(a.dir, name+".crt"), pair.Cert, 0o644)
}

// replaceFile writes content to path so that readers see the old or the new
// file, whole, and so that it survives a power cut.
func replaceFile(path string, content []byte, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err = file.Chmod(mode); err == nil {
		if _, err = file.Write(content); err == nil {
			err = file.Sync()
		}
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
