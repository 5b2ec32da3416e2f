package dns

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// dnsService is the Service by which pods ask their node.
var dnsService = types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}

// managedBy marks what this package writes.
const managedBy = "dns.windlass.dev"

// publishAgain is the wait after a write that failed, and startAgain the one for
// the API to make its namespaces.
const (
	publishAgain = time.Second
	startAgain   = 20 * time.Millisecond
)

// publisher keeps the Service kube-dns there, and in it this node as an endpoint.
type publisher struct {
	client client.Client
	log    *slog.Logger
	wake   chan struct{}

	endpointOnly bool // the Service is made by another node

	service *corev1.Service            // as it is made
	slice   *discoveryv1.EndpointSlice // as it should be, but for the owner
}

func newPublisher(config Config, udp, tcp int32) *publisher {
	return &publisher{
		client:       config.Client,
		log:          config.Log,
		wake:         make(chan struct{}, 1),
		endpointOnly: config.EndpointOnly,
		service:      serviceFor(config.ClusterIP.String()),
		slice:        sliceFor(config.NodeName, config.Address.String(), udp, tcp),
	}
}

// serviceFor returns the Service kube-dns with an address. Its labels are those
// that it has in other clusters and that tools look for.
func serviceFor(clusterIP string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: dnsService.Namespace, Name: dnsService.Name, Labels: map[string]string{
			"k8s-app":                       "kube-dns",
			"kubernetes.io/name":            "DNS",
			"kubernetes.io/cluster-service": "true",
			"app.kubernetes.io/managed-by":  managedBy,
		}},
		Spec: corev1.ServiceSpec{
			ClusterIP:             clusterIP,
			InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyLocal),
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: port, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: port, Protocol: corev1.ProtocolTCP},
			},
		},
	}
}

// sliceFor returns the slice in which a node is an endpoint of kube-dns.
func sliceFor(node, address string, udp, tcp int32) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: dnsService.Namespace, Name: dnsService.Name + "-" + node, Labels: map[string]string{
			discoveryv1.LabelServiceName: dnsService.Name,
			discoveryv1.LabelManagedBy:   managedBy,
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{address},
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
		}},
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr.To("dns"), Port: &udp, Protocol: ptr.To(corev1.ProtocolUDP)},
			{Name: ptr.To("dns-tcp"), Port: &tcp, Protocol: ptr.To(corev1.ProtocolTCP)},
		},
	}
}

// told wakes the publisher when an object is one that it looks after.
func (p *publisher) told(object client.Object) {
	if object.GetNamespace() != dnsService.Namespace || object.GetName() != p.service.Name && object.GetName() != p.slice.Name {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	for {
		var again <-chan time.Time
		switch err := p.publish(ctx); {
		case err == nil || ctx.Err() != nil:
		case apierrors.IsNotFound(err):
			again = time.After(startAgain)
		default:
			p.log.Error("kube-dns not published; will try again", "error", err, "after", publishAgain)
			again = time.After(publishAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-again:
		}
	}
}

// publish makes what is missing. A Service kube-dns of somebody else is left
// alone: pods ask that one then.
func (p *publisher) publish(ctx context.Context) error {
	var service corev1.Service
	err := p.client.Get(ctx, dnsService, &service)
	if apierrors.IsNotFound(err) && p.endpointOnly {
		return nil // until the cache tells of it
	}
	if apierrors.IsNotFound(err) {
		return p.create(ctx, p.service.DeepCopy())
	}
	if err != nil {
		return fmt.Errorf("read Service %s: %w", dnsService, err)
	}
	if service.Labels["app.kubernetes.io/managed-by"] != managedBy || service.Spec.Selector != nil {
		p.log.Info("the Service kube-dns is somebody else's and left alone: pods ask its endpoints")
		return nil
	}
	want := p.slice.DeepCopy()
	want.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: service.Name, UID: service.UID}}
	var slice discoveryv1.EndpointSlice
	err = p.client.Get(ctx, client.ObjectKeyFromObject(want), &slice)
	if apierrors.IsNotFound(err) {
		return p.create(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("read EndpointSlice %s: %w", want.Name, err)
	}
	if equality.Semantic.DeepEqual(slice.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(slice.Ports, want.Ports) &&
		equality.Semantic.DeepEqual(slice.Labels, want.Labels) && equality.Semantic.DeepEqual(slice.OwnerReferences, want.OwnerReferences) {
		return nil
	}
	want.ResourceVersion = slice.ResourceVersion
	if err := p.client.Update(ctx, want); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("update EndpointSlice %s: %w", want.Name, err)
	}
	return nil // after a conflict the cache tells of the other's write
}

// create makes an object that the cache does not have. If it is there all the
// same, the cache will tell.
func (p *publisher) create(ctx context.Context, object client.Object) error {
	err := p.client.Create(ctx, object)
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	if apierrors.IsInvalid(err) && object.GetName() == dnsService.Name {
		return fmt.Errorf("create Service %s with address %s, which pods ask: %w (if another Service has the address, delete that one)",
			dnsService, p.service.Spec.ClusterIP, err)
	}
	return fmt.Errorf("create %s %s/%s: %w", fmt.Sprintf("%T", object), object.GetNamespace(), object.GetName(), err)
}
