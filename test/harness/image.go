package harness

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image says what to pack: one file as the only thing in its file system, or
// several, and how to start it.
type Image struct {
	Ref        string            // as `docker save` would name it: httpd:2.2.31
	Files      map[string]string // path in the image to path on this machine
	Entrypoint []string
	Env        []string
}

// WebApp describes the example web server under a name of the caller's, as a
// version of the caller's. binary is its executable (see BuildWebApp).
func WebApp(ref, version, binary string, env ...string) Image {
	return Image{
		Ref:        ref,
		Files:      map[string]string{"/webapp": binary},
		Entrypoint: []string{"/webapp"},
		Env:        append([]string{"VERSION=" + version}, env...),
	}
}

// Busybox describes an image of Debian's static busybox with a shell.
func Busybox(ref string) Image {
	return Image{
		Ref:        ref,
		Files:      map[string]string{"/bin/busybox": "/bin/busybox", "/bin/sh": "/bin/busybox"},
		Entrypoint: []string{"/bin/sh"},
		Env:        []string{"PATH=/bin"},
	}
}

// BuildWebApp compiles the example web server into dir and returns its path.
// root is the project's root directory.
func BuildWebApp(root, dir string) (string, error) { return Build(root, dir, "./examples/webapp") }

// Build compiles a program of the project into dir and returns its path. root is
// the project's root directory.
func Build(root, dir, program string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(program))
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, program)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", program, err, output)
	}
	return binary, nil
}

// SaveImages writes the images to path as `docker save` does. Equal files are
// equal layers.
func SaveImages(path string, images ...Image) error {
	packed := map[name.Tag]v1.Image{}
	for _, image := range images {
		tag, err := name.NewTag(image.Ref)
		if err != nil {
			return fmt.Errorf("image name %q: %w", image.Ref, err)
		}
		if packed[tag], err = image.pack(); err != nil {
			return fmt.Errorf("pack %s: %w", image.Ref, err)
		}
	}
	if err := tarball.MultiWriteToFile(path, packed); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Pack returns the image as the registry library's value.
func (i Image) Pack() (v1.Image, error) { return i.pack() }

func (i Image) pack() (v1.Image, error) {
	content, err := i.layer()
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Entrypoint = i.Entrypoint
	config.Config.Env = i.Env
	return mutate.ConfigFile(image, config)
}

// layers keeps what has been packed: the same files make the same bytes.
var layers sync.Map

func (i Image) layer() ([]byte, error) {
	key := fmt.Sprint(i.Files) // maps print in the order of their keys
	if content, ok := layers.Load(key); ok {
		return content.([]byte), nil
	}
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, dir := range []string{"bin", "etc", "tmp"} {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	for target, source := range i.Files {
		content, err := os.ReadFile(source)
		if err != nil {
			return nil, err
		}
		header := &tar.Header{Name: target[1:], Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(0, 0)}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	layers.Store(key, buffer.Bytes())
	return buffer.Bytes(), nil
}
