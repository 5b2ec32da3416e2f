package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// message is one line of an answer that is not a list: an image that was stored,
// how far a pull is, or why nothing was stored.
type message struct {
	Image    string              `json:"image,omitempty"` // its name, or its ID when it has none
	ID       string              `json:"id,omitempty"`
	Progress *agent.PullProgress `json:"progress,omitempty"`
	Error    string              `json:"error,omitempty"`
}

// Listed is an image as it is listed.
type Listed struct {
	ID      string    `json:"id"`    // "sha256:…"
	Names   []string  `json:"names"` // "docker.io/library/httpd:2.2.31"
	Digest  string    `json:"digest,omitempty"`
	Size    int64     `json:"size"` // bytes on disk, layers shared with other images included
	Created time.Time `json:"created,omitzero"`
	UsedBy  []string  `json:"usedBy,omitempty"` // "pod default/web"
}

// Pruned is what Prune has deleted.
type Pruned struct {
	Images []string `json:"images"` // IDs
	Bytes  int64    `json:"bytes"`  // that are free now, those of layers of no image included
}

// Handler serves the store:
//
//	POST   /images/load          the body is an archive; the answer one message for each image
//	POST   /images/pull?ref=     the answer is messages: progress, and then the image or an error
//	GET    /images               the answer is a list of Listed
//	DELETE /images?ref=&force=   the answer is empty
//	POST   /images/prune?all=    the answer is Pruned
//
// Answers are lines of JSON. An error before the first of them is one message,
// with a status of 400 when the input is at fault, 404 when the image is not
// here, 409 when it is in use, 507 when the data directory is full, and 500 else.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /images/load", s.serveLoad)
	mux.HandleFunc("POST /images/pull", s.servePull)
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		list, err := s.listed(r.Context())
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, list)
	})
	mux.HandleFunc("DELETE /images", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if err := s.Remove(r.Context(), query.Get("ref"), query.Has("force")); err != nil {
			refuse(w, err)
		}
	})
	mux.HandleFunc("POST /images/prune", func(w http.ResponseWriter, r *http.Request) {
		pruned, err := s.Prune(r.Context(), r.URL.Query().Has("all"))
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, pruned)
	})
	return mux
}

func (s *Store) serveLoad(w http.ResponseWriter, r *http.Request) {
	names, err := s.Load(r.Context(), r.Body)
	if err != nil {
		// A client that is still sending would not read the answer.
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, err)
		return
	}
	for _, name := range names {
		answer(w, message{Image: name})
	}
}

func (s *Store) servePull(w http.ResponseWriter, r *http.Request) {
	ref := r.URL.Query().Get("ref")
	latest, ended := make(chan agent.PullProgress, 1), make(chan struct{})
	var img *agent.Image
	var err error
	go func() {
		defer close(ended)
		img, err = s.Pull(r.Context(), ref, agent.PullOptions{Progress: func(at agent.PullProgress) {
			select {
			case <-latest: // nobody has read it, and it is old now
			default:
			}
			latest <- at
		}})
	}()
	for told := false; ; {
		select {
		case at := <-latest:
			told = true
			answer(w, message{Progress: &at})
			_ = http.NewResponseController(w).Flush() // as for answer
		case <-ended:
			switch {
			case err == nil:
				answer(w, message{Image: ref, ID: img.ID})
			case told:
				answer(w, message{Error: err.Error()})
			default:
				refuse(w, err)
			}
			return
		}
	}
}

// listed lists the images with who uses them.
func (s *Store) listed(ctx context.Context) ([]Listed, error) {
	images, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	used, err := s.users(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Listed, 0, len(images))
	for _, img := range images {
		list = append(list, Listed{ID: img.ID, Names: img.Names, Digest: img.Digest, Size: img.Size, Created: img.Created, UsedBy: used[img.ID]})
	}
	return list, nil
}

// answer writes a line. That the client has gone is the client's affair.
func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, agent.ErrImageNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrInUse):
		status = http.StatusConflict
	case errors.Is(err, unix.ENOSPC):
		status = http.StatusInsufficientStorage
	case errors.Is(err, errNotArchive), errors.Is(err, errReference):
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(message{Error: err.Error()})
}
