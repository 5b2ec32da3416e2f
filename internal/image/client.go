package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"windlass.dev/windlass/internal/agent"
)

// Progress is how far a pull is.
type Progress = agent.PullProgress

// Client speaks to the store of the server or agent that runs on a data
// directory of this machine.
type Client struct{ http *http.Client }

// NewClient returns a client for a data directory. It connects when it is used.
func NewClient(dataDir string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dataDir) },
	}}}
}

// Load stores the images of an archive and returns their names, or the ID of one
// without a name: see Store.Load.
func (c *Client) Load(ctx context.Context, archive io.Reader) ([]string, error) {
	var names []string
	err := c.messages(ctx, "/images/load", nil, archive, func(m message) { names = append(names, m.Image) })
	return names, err
}

// Pull fetches an image from its registry and returns its ID. progress is told
// how far it is.
func (c *Client) Pull(ctx context.Context, ref string, progress func(Progress)) (id string, err error) {
	err = c.messages(ctx, "/images/pull", url.Values{"ref": {ref}}, nil, func(m message) {
		if m.Progress != nil {
			progress(*m.Progress)
		}
		id = m.ID
	})
	return id, err
}

// List returns every image of the node.
func (c *Client) List(ctx context.Context) ([]Listed, error) {
	var list []Listed
	err := c.value(ctx, http.MethodGet, "/images", nil, &list)
	return list, err
}

// Remove takes a name off an image, and deletes it when that was the last, or
// when ref is its ID: see Store.Remove.
func (c *Client) Remove(ctx context.Context, ref string, force bool) error {
	query := url.Values{"ref": {ref}}
	if force {
		query.Set("force", "")
	}
	body, err := c.call(ctx, http.MethodDelete, "/images", query, nil)
	if err != nil {
		return err
	}
	return body.Close()
}

// Prune deletes images that nobody uses: see Store.Prune.
func (c *Client) Prune(ctx context.Context, all bool) (Pruned, error) {
	query := url.Values{}
	if all {
		query.Set("all", "")
	}
	var pruned Pruned
	err := c.value(ctx, http.MethodPost, "/images/prune", query, &pruned)
	return pruned, err
}

// value reads an answer that is one value.
func (c *Client) value(ctx context.Context, method, path string, query url.Values, into any) error {
	body, err := c.call(ctx, method, path, query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("answer of windlass: %w", err)
	}
	return nil
}

// messages reads an answer that is messages, until it ends or one is an error.
func (c *Client) messages(ctx context.Context, path string, query url.Values, content io.Reader, each func(message)) error {
	body, err := c.call(ctx, http.MethodPost, path, query, content)
	if err != nil {
		return err
	}
	defer body.Close()
	for lines := json.NewDecoder(body); ; {
		var m message
		switch err := lines.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("answer of windlass: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		}
		each(m)
	}
}

// call sends a request and returns the body of an answer that is no error. The
// caller closes it.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	where := url.URL{Scheme: "http", Host: "windlass", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, where.String(), body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its text is about a URL that the user knows nothing of
		}
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	var m message
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&m); err != nil || m.Error == "" {
		return nil, fmt.Errorf("windlass answers %s", response.Status)
	}
	return nil, errors.New(m.Error)
}
