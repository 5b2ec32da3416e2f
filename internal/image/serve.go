package image

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// message is one line of an answer that is not a list: an image that was stored,
// or why nothing was.
type message struct {
	Image string `json:"image,omitempty"` // its name, or its ID when it has none
	ID    string `json:"id,omitempty"`
	Error string `json:"error,omitempty"`
}

// Handler serves the store:
//
//	POST   /images/load       the body is an archive; the answer one message for each image
//	POST   /images/pull?ref=  the answer is one message
//	GET    /images            the answer is a list of agent.Image
//	DELETE /images?ref=       the answer is empty
//
// Answers are lines of JSON. An error is one message, with a status of 400 when
// the input is at fault, 404 when the image is not here, 409 when it is in use,
// 507 when the data directory is full, and 500 else.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /images/load", func(w http.ResponseWriter, r *http.Request) {
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
	})
	mux.HandleFunc("POST /images/pull", func(w http.ResponseWriter, r *http.Request) {
		img, err := s.Pull(r.Context(), r.URL.Query().Get("ref"))
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, message{Image: r.URL.Query().Get("ref"), ID: img.ID})
	})
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		list, err := s.List(r.Context())
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, list)
	})
	mux.HandleFunc("DELETE /images", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Remove(r.Context(), r.URL.Query().Get("ref")); err != nil {
			refuse(w, err)
		}
	})
	return mux
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
	case errors.Is(err, errNotArchive):
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(message{Error: err.Error()})
}
