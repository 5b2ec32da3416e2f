package image

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// machineDir is where a machine's configuration of registries is, for all
// programs that know the format (containers-registries.conf(5)).
const machineDir = "/etc/containers"

// configuration says where to read how registries are spoken to.
type configuration struct {
	dataDir  string   // what is here goes before
	machine  string   // what is here
	tempDir  string   // for the library; "" is where the system has such files
	insecure []string // registries, "host" or "host:port", beside those on this machine
}

func (c Config) configuration(tempDir string) (configuration, error) {
	dataDir, err := filepath.Abs(c.DataDir)
	machine := c.MachineDir
	if machine == "" {
		machine = machineDir
	}
	return configuration{dataDir: dataDir, machine: machine, tempDir: tempDir, insecure: c.InsecureRegistries}, err
}

// base tells the image library where to look. Each of registries.conf (with
// registries.conf.d), registries.d and certs.d is the data directory's if it has
// one, else the machine's; auth.json is the data directory's.
func (c configuration) base() (*types.SystemContext, error) {
	registries, err := c.either("registries.conf")
	if err != nil {
		return nil, err
	}
	dropIns := registries + ".d"
	if _, err := os.Stat(registries); errors.Is(err, os.ErrNotExist) {
		registries = os.DevNull
	}
	certificates, err := c.either("certs.d")
	if err != nil {
		return nil, err
	}
	signatures, err := c.either("registries.d")
	if err != nil {
		return nil, err
	}
	return &types.SystemContext{
		SystemRegistriesConfPath:    registries,
		SystemRegistriesConfDirPath: dropIns,
		RegistriesDirPath:           signatures,
		DockerPerHostCertDirPath:    certificates,
		AuthFilePath:                filepath.Join(c.dataDir, "auth.json"),
		BlobInfoCacheDir:            filepath.Join(c.dataDir, "images", "cache"),
		BigFilesTemporaryDir:        c.tempDir,
		DockerRegistryUserAgent:     "windlass",
	}, nil
}

// either is the path of a file in the data directory if it, or its drop-ins, are
// there, else in the machine's.
func (c configuration) either(name string) (string, error) {
	own := filepath.Join(c.dataDir, name)
	for _, path := range []string{own, own + ".d"} {
		if _, err := os.Stat(path); err == nil {
			return own, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return filepath.Join(c.machine, name), nil
}

// system tells the image library how to speak to the registry of a name, by the
// configuration as it is now.
func (c configuration) system(named reference.Named) (*types.SystemContext, error) {
	system, err := c.base()
	if err != nil {
		return nil, err
	}
	sysregistriesv2.InvalidateCache() // an administrator may have edited it
	configured, err := sysregistriesv2.FindRegistry(system, named.Name())
	if err != nil {
		return nil, fmt.Errorf("configuration of registries: %w", err)
	}
	domain := reference.Domain(named)
	_, err = os.Stat(filepath.Join(system.DockerPerHostCertDirPath, domain))
	if trusts := err == nil; configured == nil && !trusts && insecure(domain, c.insecure) {
		system.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return system, nil
}

// insecure tells whether a registry ("host" or "host:port") of which no
// configuration speaks may be spoken to without TLS, or with a certificate that
// nobody vouches for: those on this machine, and those that the administrator names.
func insecure(registry string, allowed []string) bool {
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && addr.IsLoopback() || host == "localhost" {
		return true
	}
	return slices.Contains(allowed, registry) || slices.Contains(allowed, host)
}
