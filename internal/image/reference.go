package image

import (
	"errors"
	"fmt"
	"regexp"

	"go.podman.io/image/v5/docker/reference"
)

// imageID is the ID of an image or the start of one.
var imageID = regexp.MustCompile(`^(sha256:)?([0-9a-f]{4,64})$`)

// errReference is what a text is refused with that can name no image.
var errReference = errors.New("image reference")

// target is what a user's reference may mean.
type target struct {
	named reference.Named // nil when it can only be an ID; with a tag or a digest
	id    string          // hexadecimal, from its start; "" when it can only be a name
}

// parseReference reads a reference as Docker does: "httpd:2.2.31" is
// docker.io/library/httpd:2.2.31, a name without tag and digest has the tag
// latest, of a tag and a digest the digest counts, and what consists of
// hexadecimal digits may be the start of an ID.
func parseReference(s string) (target, error) {
	var t target
	id := imageID.FindStringSubmatch(s)
	if id != nil {
		t.id = id[2]
		if id[1] != "" || len(t.id) == 64 {
			return t, nil
		}
	}
	named, err := reference.ParseDockerRef(s)
	switch {
	case err == nil:
		t.named = named
	case id == nil:
		return target{}, fmt.Errorf("%w %q: %w", errReference, s, err)
	}
	return t, nil
}
