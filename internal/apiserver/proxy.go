package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	streamproxy "k8s.io/apiserver/pkg/util/proxy"
)

// podProxy, serviceProxy and nodeProxy are the proxy subresources: a request below
// their path is sent on to a pod, to a pod behind a Service, or to a node's agent.
type (
	podProxy struct {
		pods      *registry.Store
		transport http.RoundTripper
	}
	serviceProxy struct {
		services, slices, pods *registry.Store
		transport              http.RoundTripper
	}
	nodeProxy struct {
		agents    agents
		transport http.RoundTripper // to other ports than the agent's
	}
)

var (
	_ rest.Connecter = podProxy{}
	_ rest.Connecter = serviceProxy{}
	_ rest.Connecter = nodeProxy{}
)

// proxyMethods are those that are sent on.
var proxyMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// newProxyTransport returns what reaches pods. As in Kubernetes, nothing vouches
// for their certificates.
func newProxyTransport(cfg Config) *http.Transport {
	return &http.Transport{
		DialContext:        cfg.DialPod,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // a pod's certificate is its own
		IdleConnTimeout:    30 * time.Second,
		DisableCompression: true, // what passes is the client's and the pod's
	}
}

// errNotAllowed refuses destinations that belong to the API server's own machine.
var errNotAllowed = apierrors.NewBadRequest("address not allowed")

// proxyTo returns the handler of one request, which goes to path at location. It
// rewrites links and redirects so that they lead through the proxy again.
func proxyTo(location *url.URL, path string, transport http.RoundTripper, responder rest.Responder) http.Handler {
	location.Path = utilnet.JoinPreservingTrailingSlash(location.Path, path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		location.RawQuery = r.URL.RawQuery // which the library keeps of all requests but upgrades
		proxy.NewUpgradeAwareHandler(location, transport, true, false, proxy.NewErrorResponder(responder)).ServeHTTP(w, r)
	})
}

// New implements rest.Storage.
func (podProxy) New() runtime.Object { return &corev1.PodProxyOptions{} }

// Destroy implements rest.Storage.
func (podProxy) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (podProxy) ConnectMethods() []string { return proxyMethods }

// NewConnectOptions implements rest.Connecter.
func (podProxy) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.PodProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (p podProxy) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	wanted, ok := options.(*corev1.PodProxyOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	found, err := p.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod := found.(*corev1.Pod)
	if !proxyable(pod.Status.PodIP) {
		return nil, errNotAllowed
	}
	if port == "" {
		port = firstPort(pod)
	}
	location := &url.URL{Scheme: scheme, Host: hostOf(pod.Status.PodIP, port)}
	return proxyTo(location, wanted.Path, p.transport, responder), nil
}

// proxyable says whether requests may be sent on to an address: it is not of
// this machine alone, of a link, or of many.
func proxyable(text string) bool {
	address, err := netip.ParseAddr(text)
	return err == nil && address.Unmap().IsGlobalUnicast()
}

// firstPort returns the first port that a pod declares, "" if it declares none.
func firstPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if len(c.Ports) > 0 {
			return strconv.Itoa(int(c.Ports[0].ContainerPort))
		}
	}
	return ""
}

// hostOf writes an address and a port, which may be "", as a URL has them.
func hostOf(address, port string) string {
	host := net.JoinHostPort(address, port)
	if port == "" {
		return host[:len(host)-1]
	}
	return host
}

// New implements rest.Storage.
func (serviceProxy) New() runtime.Object { return &corev1.ServiceProxyOptions{} }

// Destroy implements rest.Storage.
func (serviceProxy) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (serviceProxy) ConnectMethods() []string { return proxyMethods }

// NewConnectOptions implements rest.Connecter.
func (serviceProxy) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.ServiceProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (p serviceProxy) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	wanted, ok := options.(*corev1.ServiceProxyOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	host, err := p.endpoint(ctx, name, port)
	if err != nil {
		return nil, err
	}
	return proxyTo(&url.URL{Scheme: scheme, Host: host}, wanted.Path, p.transport, responder), nil
}

// endpoint returns a ready endpoint of a Service's port, by its name or number,
// chosen at random.
func (p serviceProxy) endpoint(ctx context.Context, name, port string) (string, error) {
	found, err := p.services.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	service := found.(*corev1.Service)
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		at := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return int64(p.Port) == number })
		if at < 0 {
			return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, name))
		}
		port = service.Spec.Ports[at].Name
	}
	listed, err := p.slices.List(ctx, &internalversion.ListOptions{
		LabelSelector: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: name}),
	})
	if err != nil {
		return "", err
	}
	var all []*discoveryv1.EndpointSlice
	list := listed.(*discoveryv1.EndpointSliceList)
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	family := corev1.IPFamilyUnknown
	if len(service.Spec.IPFamilies) > 0 {
		family = service.Spec.IPFamilies[0]
	}
	return streamproxy.RandomEndpoint(name, all, port, family, func(e *discoveryv1.Endpoint) bool {
		return p.checkEndpoint(ctx, service.Namespace, e) == nil
	})
}

// checkEndpoint refuses an endpoint that is not a pod's: who may write slices
// could reach anything from the API server's place in the network.
func (p serviceProxy) checkEndpoint(ctx context.Context, namespace string, e *discoveryv1.Endpoint) error {
	if e.TargetRef == nil || e.TargetRef.Namespace != namespace || len(e.Addresses) == 0 {
		return errors.New("the endpoint is not of a pod in the namespace")
	}
	if !proxyable(e.Addresses[0]) {
		return errNotAllowed
	}
	found, err := p.pods.Get(ctx, e.TargetRef.Name, &metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, ip := range found.(*corev1.Pod).Status.PodIPs {
		if ip.IP == e.Addresses[0] {
			return nil
		}
	}
	return errors.New("the endpoint's address is not its pod's")
}

// New implements rest.Storage.
func (nodeProxy) New() runtime.Object { return &corev1.NodeProxyOptions{} }

// Destroy implements rest.Storage.
func (nodeProxy) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (nodeProxy) ConnectMethods() []string { return proxyMethods }

// NewConnectOptions implements rest.Connecter.
func (nodeProxy) NewConnectOptions() (runtime.Object, bool, string) {
	return &corev1.NodeProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter. Without a port, or with the agent's, the
// request goes to the agent with the API server's certificate.
func (p nodeProxy) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	wanted, ok := options.(*corev1.NodeProxyOptions)
	if !ok {
		return nil, fmt.Errorf("invalid options object: %#v", options)
	}
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	host, own, err := p.agents.address(ctx, name)
	if err != nil {
		return nil, err
	}
	if port == "" || port == own {
		return proxyTo(&url.URL{Scheme: "https", Host: net.JoinHostPort(host, own)}, wanted.Path, p.agents.transport, responder), nil
	}
	if !proxyable(host) {
		return nil, errNotAllowed
	}
	return proxyTo(&url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}, wanted.Path, p.transport, responder), nil
}
