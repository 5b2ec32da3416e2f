package image

import (
	"strings"
	"time"

	"go.podman.io/image/v5/types"

	"windlass.dev/windlass/internal/agent"
)

// progressEvery is how often a pull tells how far a layer is.
const progressEvery = 250 * time.Millisecond

// meter adds up what the library tells of each blob of an image.
type meter struct {
	tell  func(agent.PullProgress)
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
	m.tell(m.at)
}

// isLayer tells layers by their media types; Docker's say "diff".
func isLayer(mediaType string) bool {
	return strings.Contains(mediaType, ".layer.") || strings.Contains(mediaType, ".diff.")
}

// measured calls copy with a channel whose events it adds up for tell.
func measured(tell func(agent.PullProgress), copy func(chan types.ProgressProperties) error) error {
	m := &meter{tell: tell, blobs: map[string]blobProgress{}}
	tell(m.at)
	events, read := make(chan types.ProgressProperties), make(chan struct{})
	go func() {
		defer close(read)
		for event := range events {
			m.take(event)
		}
	}()
	err := copy(events)
	close(events)
	<-read
	return err
}
