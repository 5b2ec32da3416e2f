package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"

	"windlass.dev/windlass/internal/hijack"
)

// As a kubelet has them by default.
const (
	streamIdleTimeout     = 4 * time.Hour
	streamCreationTimeout = 30 * time.Second
)

// forwardPorts connects the streams of a request, over SPDY or WebSocket, to ports
// of a pod, until the client ends it or ctx does.
func (a *Agent) forwardPorts(ctx context.Context, w http.ResponseWriter, r *http.Request) *refusal {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	worker, refused := a.workerOf(r.Context(), r.PathValue("namespace"), r.PathValue("pod"))
	if refused != nil {
		return refused
	}
	pod, _, err := worker.records(r.Context())
	if err != nil {
		return refuse(http.StatusNotFound, "pod %q: %v", r.PathValue("pod"), err)
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	to := forwarder{ctx: own, dial: func(ctx context.Context, port uint16) (net.Conn, error) {
		if pod.Spec.HostNetwork {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		}
		return a.cfg.Network.Dial(ctx, string(pod.UID), port)
	}}
	portforward.ServePortForward(hijack.Writer{ResponseWriter: w, Context: own, Lost: cancel}, r, to, pod.Namespace+"/"+pod.Name, string(pod.UID), options,
		streamIdleTimeout, streamCreationTimeout, portforward.SupportedProtocols)
	return nil
}

// forwarder implements portforward.PortForwarder for one request.
type forwarder struct {
	ctx  context.Context // of the request
	dial func(ctx context.Context, port uint16) (net.Conn, error)
}

// PortForward implements portforward.PortForwarder. It returns when the pod has
// closed its side of the connection. How a connection ends is its client's to see:
// only one that cannot be made is an error, which ends the client's forwarding.
func (f forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := f.dial(f.ctx, uint16(port))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(f.ctx, func() { _ = conn.Close() })()
	go func() {
		_, refused := io.Copy(conn, stream)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		if refused != nil {
			// What nobody reads would hold up the other streams of the connection.
			_, _ = io.Copy(io.Discard, stream)
		}
	}()
	_, _ = io.Copy(stream, conn)
	return nil
}
