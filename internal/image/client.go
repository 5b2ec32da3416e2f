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
	body, err := c.call(ctx, http.MethodPost, "/images/load", "", archive)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var names []string
	for lines := json.NewDecoder(body); ; {
		var m message
		switch err := lines.Decode(&m); {
		case errors.Is(err, io.EOF):
			return names, nil
		case err != nil:
			return nil, fmt.Errorf("answer of windlass: %w", err)
		}
		names = append(names, m.Image)
	}
}

// Pull fetches an image from its registry and returns its ID.
func (c *Client) Pull(ctx context.Context, ref string) (id string, err error) {
	body, err := c.call(ctx, http.MethodPost, "/images/pull", ref, nil)
	if err != nil {
		return "", err
	}
	defer body.Close()
	var m message
	if err := json.NewDecoder(body).Decode(&m); err != nil {
		return "", fmt.Errorf("answer of windlass: %w", err)
	}
	return m.ID, nil
}

// List returns every image of the node.
func (c *Client) List(ctx context.Context) ([]agent.Image, error) {
	body, err := c.call(ctx, http.MethodGet, "/images", "", nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var list []agent.Image
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return nil, fmt.Errorf("answer of windlass: %w", err)
	}
	return list, nil
}

// Remove takes a name off an image, and deletes it when that was the last, or
// when ref is its ID.
func (c *Client) Remove(ctx context.Context, ref string) error {
	body, err := c.call(ctx, http.MethodDelete, "/images", ref, nil)
	if err != nil {
		return err
	}
	return body.Close()
}

// call sends a request and returns the body of an answer that is no error. The
// caller closes it.
func (c *Client) call(ctx context.Context, method, path, ref string, body io.Reader) (io.ReadCloser, error) {
	where := url.URL{Scheme: "http", Host: "windlass", Path: path}
	if ref != "" {
		where.RawQuery = url.Values{"ref": {ref}}.Encode()
	}
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
