// Package probe asks a container how it is: by HTTP, TCP, gRPC or a command, as
// Kubernetes documents its probes.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Exec runs a command in the container and returns its exit code and output.
type Exec func(ctx context.Context, command []string) (exitCode int, output []byte, err error)

// Target is the container that is asked.
type Target struct {
	ID      string // of the container
	Address string // the pod's IP, or the node's for a pod in the node's network
	Ports   []corev1.ContainerPort
	Exec    Exec
}

// Unknown is a probe that could not be made: it tells nothing of the container.
type Unknown struct{ err error }

// Error implements error.
func (u *Unknown) Error() string { return u.err.Error() }

// Unwrap gives what stood against it.
func (u *Unknown) Unwrap() error { return u.err }

// Run does one probe and returns nil for success, else what went wrong; an Unknown
// if it could not be made. It takes at most the probe's timeout.
func Run(ctx context.Context, p *corev1.Probe, target Target) error {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		return HTTP(ctx, p.HTTPGet, target)
	case p.TCPSocket != nil:
		return tcp(ctx, p.TCPSocket, target)
	case p.GRPC != nil:
		return rpc(ctx, p.GRPC, target, timeout)
	case p.Exec != nil:
		return command(ctx, p.Exec.Command, target.Exec, timeout)
	}
	return &Unknown{errors.New("the probe has no handler")}
}

// maxBody is how much of an answer is read and how much of it is told.
const (
	maxBody = 10 << 10
	maxTold = 1 << 10
)

// Hook does the GET of a lifecycle hook and returns nil for any answer, whatever
// its status, as Kubernetes does. A server that does not speak HTTPS is asked by
// HTTP then. It takes as long as ctx lets it.
func Hook(ctx context.Context, get *corev1.HTTPGetAction, target Target) error {
	port, err := portNumber(get.Port, target.Ports)
	if err != nil {
		return err
	}
	ask := func(get *corev1.HTTPGetAction) error {
		request, err := httpRequest(ctx, get, target.Address, port, "kube-lifecycle/windlass")
		if err != nil {
			return err
		}
		response, err := httpClient().Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody))
		return err
	}
	err = ask(get)
	if errors.Is(err, http.ErrSchemeMismatch) {
		plain := get.DeepCopy()
		plain.Scheme = corev1.URISchemeHTTP
		plain.HTTPHeaders = slices.DeleteFunc(plain.HTTPHeaders, func(h corev1.HTTPHeader) bool { return strings.EqualFold(h.Name, "Authorization") })
		err = ask(plain)
	}
	return err
}

// httpClient returns a client that verifies no certificate and follows redirects
// on the same host.
func httpClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // as documented: nobody to verify against
			DisableKeepAlives:  true,
			DisableCompression: true,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if next.URL.Hostname() != via[0].URL.Hostname() || len(via) >= 10 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// HTTP does a GET and returns nil for a status from 200 to 399. A redirect to
// another host is success without being followed. Certificates are not verified.
func HTTP(ctx context.Context, get *corev1.HTTPGetAction, target Target) error {
	port, err := portNumber(get.Port, target.Ports)
	if err != nil {
		return &Unknown{err}
	}
	request, err := httpRequest(ctx, get, target.Address, port, "kube-probe/windlass")
	if err != nil {
		return &Unknown{err}
	}
	response, err := httpClient().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		return nil
	}
	told := strings.TrimSpace(string(body[:min(len(body), maxTold)]))
	if told == "" {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", response.StatusCode)
	}
	return fmt.Errorf("HTTP probe failed with statuscode: %d: %s", response.StatusCode, told)
}

func httpRequest(ctx context.Context, get *corev1.HTTPGetAction, address string, port int, agent string) (*http.Request, error) {
	host := get.Host
	if host == "" {
		host = address
	}
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(get.Path)
	if err != nil { // it is taken as it is, as Kubernetes does
		u = &url.URL{Path: get.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	for _, h := range get.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			request.Host = h.Value
		}
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", agent)
	}
	if request.Header.Get("Accept") == "" {
		request.Header.Set("Accept", "*/*")
	}
	return request, nil
}

func tcp(ctx context.Context, action *corev1.TCPSocketAction, target Target) error {
	port, err := portNumber(action.Port, target.Ports)
	if err != nil {
		return &Unknown{err}
	}
	host := action.Host
	if host == "" {
		host = target.Address
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

func rpc(ctx context.Context, action *corev1.GRPCAction, target Target, timeout time.Duration) error {
	address := net.JoinHostPort(target.Address, strconv.Itoa(int(action.Port)))
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	request := &grpc_health_v1.HealthCheckRequest{}
	if action.Service != nil {
		request.Service = *action.Service
	}
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, request)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("timeout: failed to connect service %q within %s: %w", address, timeout, err)
		}
		return fmt.Errorf("health rpc failed: %w", err)
	}
	if status := answer.GetStatus(); status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", status)
	}
	return nil
}

func command(ctx context.Context, argv []string, exec Exec, timeout time.Duration) error {
	code, output, err := exec(ctx, argv)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("command timed out: %q timed out after %s", strings.Join(argv, " "), timeout)
	case err != nil:
		return &Unknown{err}
	case code != 0:
		if told := strings.TrimSpace(string(output[:min(len(output), maxTold)])); told != "" {
			return errors.New(told)
		}
		return fmt.Errorf("command terminated with exit code %d", code)
	}
	return nil
}

func portNumber(port intstr.IntOrString, named []corev1.ContainerPort) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		for _, p := range named {
			if p.Name == port.StrVal {
				number = int(p.ContainerPort)
			}
		}
	}
	if number < 1 || number > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", port.String())
	}
	return number, nil
}
