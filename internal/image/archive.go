package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// archiveKind is the format of an image archive.
type archiveKind string

const (
	dockerArchive archiveKind = "docker save" // with manifest.json
	ociArchive    archiveKind = "OCI"         // an OCI image layout (image-layout.md)
)

// errNotArchive is what everything that is no image archive is refused with.
var errNotArchive = errors.New("not an image archive")

// inspect reads a tar archive to its end, tells what kind of image archive it is
// and whether all files that a docker save archive names are there, and otherwise
// what it is instead.
func inspect(r io.ReadSeeker) (archiveKind, error) {
	start := make([]byte, 512)
	n, err := io.ReadFull(r, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	if n == 0 {
		return "", fmt.Errorf("%w: it is empty", errNotArchive)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	names := map[string]bool{}
	var manifest []byte
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return archiveOf(names, manifest)
		case errors.Is(err, io.ErrUnexpectedEOF) && len(names) > 0:
			return "", fmt.Errorf("%w: it is truncated, after %d files", errNotArchive, len(names))
		case err != nil && len(names) == 0:
			return "", fmt.Errorf("%w: it holds %s", errNotArchive, contentType(start[:n]))
		case err != nil:
			return "", fmt.Errorf("%w: it is damaged, after %d files: %w", errNotArchive, len(names), err)
		}
		name := path.Clean(header.Name)
		names[name] = true
		if name == "manifest.json" {
			if manifest, err = io.ReadAll(io.LimitReader(archive, 16<<20)); err != nil {
				return "", fmt.Errorf("%w: it is truncated in manifest.json: %w", errNotArchive, err)
			}
		}
	}
}

// archiveOf decides by the names of an archive's files.
func archiveOf(names map[string]bool, manifest []byte) (archiveKind, error) {
	switch {
	case names["manifest.json"]:
		return dockerArchive, checkManifest(names, manifest)
	case names["index.json"]:
		return ociArchive, nil
	case len(names) == 0:
		return "", fmt.Errorf("%w: it is a tar archive without files", errNotArchive)
	}
	var some []string
	for name := range names {
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(some, top) {
			some = append(some, top)
		}
	}
	slices.Sort(some)
	if len(some) > 6 {
		some = append(some[:6], "…")
	}
	return "", fmt.Errorf("%w: it is a tar archive without manifest.json or index.json (it has %s): make one with docker save, not docker export", errNotArchive, strings.Join(some, ", "))
}

// checkManifest looks whether a docker save archive is whole.
func checkManifest(names map[string]bool, data []byte) error {
	var items []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(data, &items); err != nil {
		return fmt.Errorf("%w: its manifest.json: %w", errNotArchive, err)
	}
	if len(items) == 0 {
		return fmt.Errorf("%w: its manifest.json names no image", errNotArchive)
	}
	for _, item := range items {
		for _, name := range append(item.Layers, item.Config) {
			if !names[path.Clean(name)] {
				return fmt.Errorf("%w: it is truncated: %s is missing", errNotArchive, name)
			}
		}
	}
	return nil
}

// contentType says what data looks like, for a person.
func contentType(start []byte) string {
	switch text := string(start); {
	case strings.HasPrefix(text, "\x7fELF"):
		return "an ELF program"
	case strings.HasPrefix(strings.TrimSpace(text), "{"), strings.HasPrefix(strings.TrimSpace(text), "["):
		return "JSON"
	}
	kind, _, _ := strings.Cut(http.DetectContentType(start), ";")
	if kind == "application/octet-stream" {
		return "data of an unknown format"
	}
	return kind
}

// layoutFile is what an OCI image layout consists of.
var layoutFile = regexp.MustCompile(`^(oci-layout|index\.json|blobs/[a-z0-9]+/[a-f0-9]{32,128})$`)

// unpackLayout extracts an OCI image layout from a tar archive.
func unpackLayout(r io.Reader, dir string) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(header.Name)
		if header.Typeflag != tar.TypeReg || !layoutFile.MatchString(name) {
			continue
		}
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := writeFile(target, archive); err != nil {
			return err
		}
	}
}

func writeFile(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
