package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	streamproxy "k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// portForward is the portforward subresource of pods. The agent on the pod's node
// connects to its ports; the client's streams are passed on to it. A client that
// speaks WebSocket tunnels SPDY through it, and the tunnel ends here.
type portForward struct {
	pods   *registry.Store
	agents agents
}

var _ rest.Connecter = portForward{}

// New implements rest.Storage.
func (portForward) New() runtime.Object { return &corev1.PodPortForwardOptions{} }

// Destroy implements rest.Storage.
func (portForward) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (portForward) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// NewConnectOptions implements rest.Connecter.
func (portForward) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodPortForwardOptions{}, false, ""
}

// Connect implements rest.Connecter.
func (f portForward) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	wanted, ok := options.(*corev1.PodPortForwardOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	found, err := f.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := found.(*corev1.Pod)
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	host, err := f.agents.hostPort(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	for _, port := range wanted.Ports {
		query.Add("port", fmt.Sprint(port))
	}
	stream := proxy.NewUpgradeAwareHandler(&url.URL{
		Scheme:   "https",
		Host:     host,
		Path:     fmt.Sprintf("/portForward/%s/%s", pod.Namespace, pod.Name),
		RawQuery: query.Encode(),
	}, f.agents.transport, false, true, proxy.NewErrorResponder(responder))
	tunnel := streamproxy.NewTunnelingHandler(stream)
	return streamproxy.NewTranslatingHandler(stream, tunnel, wsstream.IsWebSocketRequestWithTunnelingProtocol), nil
}
