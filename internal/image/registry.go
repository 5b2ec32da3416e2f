package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
)

// ErrNotInRegistry is returned by InRegistry when the registry was asked and does
// not have the image.
var ErrNotInRegistry = errors.New("not in its registry")

// InRegistry asks the registry of an image's name whether it could be pulled, as
// Store.Pull would by the configuration of registries in a node's data directory,
// which need not exist. It returns nil if so, an error that wraps ErrNotInRegistry
// if the registry has no such image, and any other error when it could not be
// asked. Nothing is stored.
func InRegistry(ctx context.Context, config Config, ref string) error {
	want, err := parseReference(ref)
	if err != nil {
		return err
	}
	if want.named == nil {
		return fmt.Errorf("image %s is an ID: only a name can be pulled", ref)
	}
	from, err := docker.NewReference(want.named)
	if err != nil {
		return err
	}
	registries, err := config.configuration("")
	if err != nil {
		return err
	}
	system, err := registries.system(want.named)
	if err != nil {
		return err
	}
	source, err := from.NewImageSource(ctx, system) // it fetches the manifest
	switch {
	case err == nil:
		return source.Close()
	case saysAbsent(err):
		return fmt.Errorf("%w: %w", ErrNotInRegistry, err)
	}
	return err
}

// saysAbsent says whether an error is the answer of a registry that has no such
// image: one of two codes, or the status 404 without a code.
func saysAbsent(err error) bool {
	var code errcode.ErrorCoder
	if errors.As(err, &code) {
		return code.ErrorCode() == v2.ErrorCodeManifestUnknown || code.ErrorCode() == v2.ErrorCodeNameUnknown
	}
	return strings.Contains(err.Error(), "StatusCode: 404") // the library's type for it is not exported
}
