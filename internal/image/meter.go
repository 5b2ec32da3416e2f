package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.podman.io/image/v5/types"

	"windlass.dev/windlass/internal/agent"
)

const (
	// progressEvery is how often a pull tells how far it is.
	progressEvery = 250 * time.Millisecond

	// eachRead is how often the library tells how far a layer is: each time that it
	// has read some of it, so that it is known when the last byte has come in.
	eachRead = time.Nanosecond
)

// errSilent is why a pull is given up whose registry does not go on.
var errSilent = errors.New("the registry has sent nothing")

// patience is how long a pull may be without a byte: while some of it is to come
// over the network, and while all that was begun is there, for it may be unpacked.
type patience struct{ network, unpacking time.Duration }

var pullPatience = patience{network: time.Minute, unpacking: 15 * time.Minute}

// meter adds up what the library tells of each blob of an image.
type meter struct {
	tell  func(agent.PullProgress)
	told  time.Time
	at    agent.PullProgress
	blobs map[string]blobProgress // by digest
}

type blobProgress struct{ size, done int64 }

// take takes in an event. The configuration of an image, and all else that is no
// layer, counts with its bytes only.
func (m *meter) take(event types.ProgressProperties) {
	key := event.Artifact.Digest.String()
	blob, known := m.blobs[key]
	before := blob
	blob.size = max(event.Artifact.Size, 0)
	layer := isLayer(event.Artifact.MediaType)
	if !known && layer {
		m.at.Layers++
	}
	switch event.Event {
	case types.ProgressEventRead:
		blob.done = int64(event.Offset)
	case types.ProgressEventDone:
		blob.done = max(blob.size, int64(event.Offset))
		blob.size = blob.done
	case types.ProgressEventSkipped: // it is here: nothing of it comes over the network
		blob = blobProgress{}
	}
	if layer && (event.Event == types.ProgressEventDone || event.Event == types.ProgressEventSkipped) {
		m.at.LayersDone++
	}
	m.blobs[key] = blob
	m.at.Bytes += blob.size - before.size
	m.at.BytesDone += blob.done - before.done
	if now := time.Now(); event.Event != types.ProgressEventRead || now.Sub(m.told) >= progressEvery {
		m.told = now
		m.tell(m.at)
	}
}

// limit is how long the next event may take.
func (m *meter) limit(p patience) time.Duration {
	for _, blob := range m.blobs {
		if blob.done < blob.size {
			return p.network
		}
	}
	if len(m.blobs) == 0 {
		return p.network
	}
	return p.unpacking
}

// isLayer tells layers by their media types; Docker's say "diff".
func isLayer(mediaType string) bool {
	return strings.Contains(mediaType, ".layer.") || strings.Contains(mediaType, ".diff.")
}

// measured calls copy with a channel whose events it adds up for tell, and ends
// its context when they stay away for too long.
func measured(ctx context.Context, p patience, tell func(agent.PullProgress), copy func(context.Context, chan types.ProgressProperties) error) error {
	m := &meter{tell: tell, blobs: map[string]blobProgress{}}
	tell(m.at)
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	events, read := make(chan types.ProgressProperties), make(chan struct{})
	go func() {
		defer close(read)
		timer := time.NewTimer(m.limit(p))
		defer timer.Stop()
		for {
			select {
			case event, more := <-events:
				if !more {
					return
				}
				m.take(event)
				timer.Reset(m.limit(p))
			case <-timer.C:
				giveUp(fmt.Errorf("%w for %s", errSilent, m.limit(p)))
			}
		}
	}()
	err := copy(ctx, events)
	close(events)
	<-read
	if silent := context.Cause(ctx); err != nil && errors.Is(silent, errSilent) {
		return silent
	}
	return err
}
