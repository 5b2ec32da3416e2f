package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"windlass.dev/windlass/internal/agent"
	"windlass.dev/windlass/internal/agent/keyring"
)

// parallelPulls is how many pulls run at the same time: enough that one slow
// registry holds nobody up, few enough that layers get their share of the disk.
const parallelPulls = 4

// retryPauses are the pauses before a pull is tried again by itself, when it
// broke off or the registry was in trouble. What has come in is not fetched again.
var retryPauses = []time.Duration{200 * time.Millisecond, time.Second}

// Pull fetches the image of a name from its registry. At most one pull of a name
// by the same credentials runs at a time; others wait for it and share its
// result, and it is given up when all of them have. The error has the registry's
// reason.
func (s *Store) Pull(ctx context.Context, ref string, options agent.PullOptions) (*agent.Image, error) {
	want, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	if want.named == nil {
		return nil, fmt.Errorf("image %s is an ID: only a name can be pulled", ref)
	}
	key, err := flightKey(want.named, options.Credentials)
	if err != nil {
		return nil, err
	}
	return s.pulls.do(ctx, key, options.Progress, func(ctx context.Context, tell func(agent.PullProgress)) (*agent.Image, error) {
		img, err := s.pull(ctx, want.named, options.Credentials, tell)
		if err != nil {
			return nil, fmt.Errorf("pull %s: %w", want.named, err)
		}
		return img, nil
	})
}

// flightKey is the same for pulls that may share a result: whoever has other
// credentials must not get what these open.
func flightKey(named reference.Named, credentials []keyring.Credential) (string, error) {
	data, err := json.Marshal(credentials)
	return fmt.Sprintf("%s %x", named, sha256.Sum256(data)), err
}

// pull fetches an image when its turn has come.
func (s *Store) pull(ctx context.Context, named reference.Named, credentials []keyring.Credential, tell func(agent.PullProgress)) (*agent.Image, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	begin := time.Now()
	if err := checkSpace(s.dataDir, reserve); err != nil {
		return nil, err
	}
	system, err := s.config.system(named)
	if err != nil {
		return nil, err
	}
	if err := s.fetchAs(ctx, named, system, credentials, tell); err != nil {
		return nil, err
	}
	s.log.Info("Pulled image", "image", named.String(), "took", time.Since(begin))
	img, err := s.Find(ctx, named.String())
	if err == nil {
		err = s.usage.arrived(img.ID)
	}
	return img, errors.Join(err, s.keepRecords())
}

// fetchAs fetches an image as the first of the credentials that the registry
// accepts; after them, or without any, as what the node has for it, or as nobody.
func (s *Store) fetchAs(ctx context.Context, named reference.Named, system *types.SystemContext, credentials []keyring.Credential, tell func(agent.PullProgress)) error {
	identities := make([]*types.DockerAuthConfig, 0, len(credentials)+1)
	for _, c := range credentials {
		identities = append(identities, &types.DockerAuthConfig{Username: c.Username, Password: c.Password})
	}
	own, err := config.GetCredentialsForRef(system, named)
	if err != nil {
		return fmt.Errorf("the node's auth.json: %w", err)
	}
	if len(credentials) == 0 || own != (types.DockerAuthConfig{}) {
		identities = append(identities, nil) // the library looks in auth.json itself
	}
	var refusals []error
	for _, identity := range identities {
		system.DockerAuthConfig = identity
		err := s.fetch(ctx, named, system, tell)
		if err == nil {
			return nil
		}
		refusals = append(refusals, err)
		if !refused(err) {
			break
		}
	}
	return utilerrors.NewAggregate(refusals)
}

// fetch fetches an image, and tries again what may pass.
func (s *Store) fetch(ctx context.Context, named reference.Named, system *types.SystemContext, tell func(agent.PullProgress)) error {
	from, err := docker.NewReference(named)
	if err != nil {
		return err
	}
	to, err := istorage.Transport.NewStoreReference(s.storage, named, "")
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		s.writing.RLock()
		err = measured(ctx, s.patience, tell, func(ctx context.Context, events chan types.ProgressProperties) error {
			return s.copy(ctx, from, to, system, events)
		})
		s.writing.RUnlock()
		if err == nil || ctx.Err() != nil || attempt == len(retryPauses) || !passing(err) {
			return err
		}
		s.log.Info("Pulling an image again", "image", named.String(), "after", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPauses[attempt]):
		}
	}
}

// refused: the registry has answered that it does not let this user, or that
// there is no such image, which some say to who may not know.
func refused(err error) bool {
	var unauthorized docker.ErrUnauthorizedForCredentials
	var status docker.UnexpectedHTTPStatusError
	var code errcode.ErrorCoder
	switch {
	case errors.As(err, &unauthorized), saysAbsent(err):
		return true
	case errors.As(err, &code):
		return code.ErrorCode() == errcode.ErrorCodeUnauthorized || code.ErrorCode() == errcode.ErrorCodeDenied
	case errors.As(err, &status):
		return status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
	}
	return false
}

// passing: the same may well succeed in a moment. That nobody listens is not
// that: who pulls for a pod waits and tries again.
func passing(err error) bool {
	var status docker.UnexpectedHTTPStatusError
	var network net.Error
	switch {
	case errors.As(err, &status):
		return status.StatusCode >= http.StatusInternalServerError
	case errors.Is(err, storage.ErrLayerUnknown): // deleted with another image while it was counted on
		return true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	}
	return errors.As(err, &network) && network.Timeout()
}
