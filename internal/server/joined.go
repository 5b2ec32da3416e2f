package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"windlass.dev/windlass/internal/join"
)

const (
	// joinFirst and joinMost are the waits after a first and after many failures
	// to reach the API server.
	joinFirst = time.Second
	joinMost  = 15 * time.Second

	// renewCheck bounds the wait between two looks at the certificate: clocks jump.
	renewCheck = time.Minute
)

// link is a joined machine's way to the API server. Its connections prove who
// the machine is by the certificate of the moment at which they are made.
type link struct {
	member    *join.Member
	dialer    *connrotation.Dialer
	transport *http.Transport
	address   netip.Addr // of this machine, that its certificate should be for
}

func newLink(member *join.Member, address netip.Addr) *link {
	dialer := connrotation.NewDialer((&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 10 * time.Second}).DialContext)
	return &link{member: member, dialer: dialer, address: address, transport: &http.Transport{
		DialContext: dialer.DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion:           tls.VersionTLS12,
			RootCAs:              member.Authority(),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return member.Certificate(), nil },
		},
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		// A server that is gone without a word is noticed by its silence.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}}
}

// config is the client configuration for the API.
func (l *link) config() *rest.Config {
	return &rest.Config{Host: l.member.Server(), Transport: l.transport, QPS: -1, UserAgent: "windlass-agent"}
}

// keepCertificate renews the certificate before it ends, until ctx does.
func (l *link) keepCertificate(ctx context.Context, log *slog.Logger) error {
	wait := joinFirst
	for {
		due := time.Until(l.member.RenewAt())
		if l.member.Address() != l.address {
			due = 0
		}
		pause := max(min(due, renewCheck), 0)
		if due <= 0 {
			err := l.member.Renew(ctx, &http.Client{Transport: l.transport}, l.address)
			switch {
			case err == nil:
				log.Info("this node's certificate is renewed", "ends", l.member.Ends().UTC().Format(time.RFC3339))
				l.dialer.CloseAll() // the next connections bear the new one
				wait, pause = joinFirst, joinFirst
			case ctx.Err() == nil:
				log.Warn("this node's certificate could not be renewed; will try again", "ends", l.member.Ends().UTC().Format(time.RFC3339), "error", err, "after", wait)
				pause, wait = wait, min(2*wait, joinMost)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// watchServer tells the log when the API server stops answering and when it
// answers again, until ctx ends. The node goes on meanwhile as it is. It fails
// with join.ErrRevoked when the server says that the machine's Node was deleted.
func (l *link) watchServer(ctx context.Context, log *slog.Logger) error {
	const every = 10 * time.Second
	client := &http.Client{Transport: l.transport, Timeout: every}
	var since time.Time
	for wait := joinFirst; ; {
		err := l.ping(ctx, client)
		pause := every
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, join.ErrRevoked):
			return err
		case err != nil && since.IsZero():
			since = time.Now()
			log.Warn("the API server does not answer: this node's containers and Services go on as they are; will try again", "server", l.member.Server(), "error", err)
			fallthrough
		case err != nil:
			pause, wait = wait, min(2*wait, joinMost)
		case !since.IsZero():
			log.Info("the API server answers again", "server", l.member.Server(), "after", time.Since(since).Round(time.Second).String())
			since, wait = time.Time{}, joinFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// ping asks the API server whether it takes this node for who it is. It fails with
// join.ErrRevoked when that says that it is no node any more.
func (l *link) ping(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.member.Server()+"/api/v1/nodes/"+url.PathEscape(l.member.Node()), nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusNotFound:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		if err := l.member.Renew(ctx, client, l.address); errors.Is(err, join.ErrRevoked) {
			return err
		}
		return fmt.Errorf("status %d: the cluster does not know this node's certificate, which ends at %s; if it has ended, or the cluster is another, remove %s and join anew with --token",
			response.StatusCode, l.member.Ends().UTC().Format(time.RFC3339), memberDir(""))
	}
	return fmt.Errorf("status %d", response.StatusCode)
}

// memberDir is where a machine keeps that it has joined.
func memberDir(dataDir string) string { return filepath.Join(dataDir, "node") }

// enter returns the membership that the data directory tells of, or else joins
// with the token: again and again while the server cannot be reached, until ctx
// ends.
func enter(ctx context.Context, o AgentOptions) (*join.Member, error) {
	dir := memberDir(o.DataDir)
	member, err := join.Open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return enterAnew(ctx, o, dir)
	case err != nil:
		return nil, err
	case member.Node() != o.NodeName:
		return nil, fmt.Errorf("this machine has joined as node %s: start it with --node-name %s, or, to join as %s, run `windlass reset`, remove %s and give --token",
			member.Node(), member.Node(), o.NodeName, dir)
	case time.Now().After(member.Ends()):
		ended := "this node's certificate ended at " + member.Ends().UTC().Format(time.RFC3339)
		o.Log.Warn(ended + ": joining anew")
		if o.Server == "" {
			o.Server = member.Server()
		}
		within := member.PodRange()
		if member, err = enterAnew(ctx, o, dir); err != nil {
			return nil, fmt.Errorf("%s, so that this machine has to join anew: %w", ended, err)
		}
		return member, member.SetPodRange(within)
	case o.Token != "" && deleted(ctx, member):
		o.Log.Warn("node " + o.NodeName + " was deleted: joining anew")
		if o.Server == "" {
			o.Server = member.Server()
		}
		return enterAnew(ctx, o, dir)
	}
	if o.Server == "" {
		return member, nil
	}
	server, err := join.ParseServer(o.Server)
	if err != nil {
		return nil, err
	}
	return member, member.SetServer(server)
}

// deleted says whether the API server answers and says that the machine's Node was
// deleted.
func deleted(ctx context.Context, member *join.Member) bool {
	const patience = 5 * time.Second
	l := newLink(member, member.Address())
	defer l.transport.CloseIdleConnections()
	return errors.Is(l.ping(ctx, &http.Client{Transport: l.transport, Timeout: patience}), join.ErrRevoked)
}

func enterAnew(ctx context.Context, o AgentOptions, dir string) (*join.Member, error) {
	if o.Server == "" {
		return nil, fmt.Errorf("this machine has not joined a cluster yet (nothing is in %s): give --server and --token", dir)
	}
	server, err := join.ParseServer(o.Server)
	if err != nil {
		return nil, err
	}
	token, err := join.ParseToken(o.Token)
	if err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	for wait := joinFirst; ; wait = min(2*wait, joinMost) {
		member, err := tryEnter(ctx, o, dir, server, token)
		if err == nil || ctx.Err() != nil || errors.Is(err, join.ErrRefused) {
			return member, err
		}
		o.Log.Warn("this machine could not join yet; will try again", "server", server, "error", err, "after", wait)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func tryEnter(ctx context.Context, o AgentOptions, dir, server string, token join.Token) (*join.Member, error) {
	address := o.NodeIP
	if !address.IsValid() {
		var err error
		if address, err = addressTowards(server); err != nil {
			return nil, err
		}
	}
	return join.Enter(ctx, dir, server, token, o.NodeName, address)
}

// addressTowards returns this machine's address on the way to a server.
func addressTowards(server string) (netip.Addr, error) {
	at, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, err
	}
	conn, err := net.Dial("udp", at.Host) // sends nothing
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find this machine's address towards %s: %w", server, err)
	}
	defer conn.Close()
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok && !local.AddrPort().Addr().IsLoopback() {
		return local.AddrPort().Addr().Unmap(), nil
	}
	address, err := nodeAddress(netip.Addr{})
	if err == nil && !address.IsValid() {
		err = errors.New("this machine has no address that other machines reach: give it one, or name it with --node-ip")
	}
	return address, err
}
