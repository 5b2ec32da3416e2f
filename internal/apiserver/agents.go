package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/generic/registry"

	"windlass.dev/windlass/internal/pki"
)

// agents finds the agents of nodes and proves to them who asks.
type agents struct {
	nodes     *registry.Store
	transport *http.Transport // HTTP/1.1, which can be upgraded
}

func newAgents(cfg Config, nodes *registry.Store) (agents, error) {
	certificate, err := cfg.Authority.KeepClient("apiserver-agent-client", pki.UserServer, pki.GroupMasters)
	if err != nil {
		return agents{}, fmt.Errorf("client certificate for agents: %w", err)
	}
	return agents{nodes: nodes, transport: &http.Transport{
		TLSClientConfig: &tls.Config{
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate.TLS(), nil },
			RootCAs:              cfg.Authority.Pool(), MinVersion: tls.VersionTLS12,
		},
		// As Kubernetes has it for kubelets: a machine that is gone, or hangs, is told of
		// rather than waited for.
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}}, nil
}

// address returns where the agent of a node listens.
func (a agents) address(ctx context.Context, name string) (host, port string, err error) {
	found, err := a.nodes.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	node := found.(*corev1.Node)
	if node.Status.DaemonEndpoints.KubeletEndpoint.Port == 0 {
		return "", "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s serves no logs and no connections: its containers run no processes", name))
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address, strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)), nil
		}
	}
	return "", "", apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has no address", name))
}

// hostPort returns the agent's address in one.
func (a agents) hostPort(ctx context.Context, node string) (string, error) {
	host, port, err := a.address(ctx, node)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}
