package loss

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"

	"windlass.dev/windlass/test/loss/wire"
)

// httpAsker asks by HTTP/1.1 or HTTP/2 without TLS.
type httpAsker struct {
	url       string
	keep      bool
	want      string
	transport *http.Transport
}

func newHTTP(cell Cell, address string, keep bool) *httpAsker {
	transport := &http.Transport{DisableKeepAlives: !keep && cell.Protocol == HTTP1, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(cell.Protocol == HTTP1)
	transport.Protocols.SetUnencryptedHTTP2(cell.Protocol == HTTP2)
	return &httpAsker{
		url: "http://" + address + "/", keep: keep, transport: transport,
		want: strings.Repeat(wire.Piece+"\n", wire.Pieces(cell.Stream)),
	}
}

// ask implements asker. It is a POST, which net/http never sends a second time
// once a byte of it was written: what is repeated is repeated, and counted, here.
func (h *httpAsker) ask(ctx context.Context) error {
	reused, began := false, false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { reused = false },
		GotConn:              func(info httptrace.GotConnInfo) { reused = info.Reused },
		GotFirstResponseByte: func() { began = true },
	})
	err := h.exchange(ctx)
	if !h.keep {
		h.transport.CloseIdleConnections()
	}
	if err != nil && reused && !began {
		return crossed{err}
	}
	return err
}

func (h *httpAsker) exchange(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, nil)
	if err != nil {
		return err
	}
	response, err := h.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("in the answer: %w", err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", response.StatusCode)
	case string(body) != h.want:
		return fmt.Errorf("an answer of %d bytes, want %d", len(body), len(h.want))
	}
	return nil
}

// close implements asker.
func (h *httpAsker) close() { h.transport.CloseIdleConnections() }
