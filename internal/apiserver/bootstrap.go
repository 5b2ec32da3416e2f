package apiserver

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// systemNamespaces exist from the start in every cluster.
var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// kubernetesService is the Service by which pods find the API.
const kubernetesService = "kubernetes"

const bootstrapTimeout = 30 * time.Second

// bootstrap makes what every cluster has: the system namespaces, and the Service
// kubernetes with its endpoint, which is this server. It tells of faults.
func bootstrap(ctx context.Context, config *rest.Config, cfg Config, faults []serviceFault) error {
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	config = rest.CopyConfig(config)
	config.WarningHandlerWithContext = rest.NoWarnings{} // of the deprecated Endpoints
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("bootstrap client: %w", err)
	}
	for _, name := range systemNamespaces {
		if err := ensureNamespace(ctx, client, name); err != nil {
			return fmt.Errorf("make the namespace %s: %w", name, err)
		}
	}
	if err := ensureService(ctx, client, cfg); err != nil {
		return fmt.Errorf("make the service %s: %w", kubernetesService, err)
	}
	if err := ensureEndpoint(ctx, client, cfg); err != nil {
		return fmt.Errorf("publish the endpoint of the service %s: %w", kubernetesService, err)
	}
	if err := ensurePriorities(ctx, client); err != nil {
		return err
	}
	if err := ensureRoles(client); err != nil {
		return err
	}
	tellFaults(ctx, client, faults)
	return nil
}

func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func ensureService(ctx context.Context, client kubernetes.Interface, cfg Config) error {
	services := client.CoreV1().Services(metav1.NamespaceDefault)
	port := corev1.ServicePort{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt(cfg.port())}
	first := cfg.ServiceRange.Addr().Next().String()
	existing, err := services.Get(ctx, kubernetesService, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		single := corev1.IPFamilyPolicySingleStack
		_, err = services.Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Name:   kubernetesService,
				Labels: map[string]string{"component": "apiserver", "provider": kubernetesService},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: first, IPFamilyPolicy: &single,
				SessionAffinity: corev1.ServiceAffinityNone, Ports: []corev1.ServicePort{port},
			},
		}, metav1.CreateOptions{})
		return err
	case err != nil:
		return err
	case existing.Spec.ClusterIP == first && len(existing.Spec.Ports) == 1 && existing.Spec.Ports[0] == port:
		return nil
	}
	existing.Spec.Ports = []corev1.ServicePort{port}
	_, err = services.Update(ctx, existing, metav1.UpdateOptions{})
	return err
}

// ensureEndpoint publishes this server as the one endpoint. Kubernetes does not
// allow loopback addresses as endpoints, so a server that has only those has none.
func ensureEndpoint(ctx context.Context, client kubernetes.Interface, cfg Config) error {
	if cfg.AdvertiseAddress.IsLoopback() {
		return nil
	}
	address, name, portNumber := cfg.AdvertiseAddress.Unmap().String(), "https", int32(cfg.port())
	protocol, ready := corev1.ProtocolTCP, true
	addressType := discoveryv1.AddressTypeIPv4
	if cfg.AdvertiseAddress.Unmap().Is6() {
		addressType = discoveryv1.AddressTypeIPv6
	}
	wanted := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: kubernetesService, Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesService}},
		AddressType: addressType,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &portNumber}},
	}
	slices := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	existing, err := slices.Get(ctx, kubernetesService, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = slices.Create(ctx, wanted, metav1.CreateOptions{})
	case err == nil && existing.AddressType != addressType:
		if err = slices.Delete(ctx, kubernetesService, metav1.DeleteOptions{}); err == nil {
			_, err = slices.Create(ctx, wanted, metav1.CreateOptions{})
		}
	case err == nil:
		existing.Endpoints, existing.Ports, existing.Labels = wanted.Endpoints, wanted.Ports, wanted.Labels
		_, err = slices.Update(ctx, existing, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Endpoints(metav1.NamespaceDefault).Update(ctx, &corev1.Endpoints{ // clients of old read it
		ObjectMeta: metav1.ObjectMeta{Name: kubernetesService, Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: address}},
			Ports:     []corev1.EndpointPort{{Name: name, Port: portNumber, Protocol: protocol}},
		}},
	}, metav1.UpdateOptions{})
	return err
}
