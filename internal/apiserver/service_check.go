package apiserver

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// serviceFault is an address or a port that a stored Service should not have, in
// the words of Kubernetes' repair. It is told, not mended: clients use it.
type serviceFault struct {
	service         corev1.ObjectReference
	reason, message string
}

// recall takes from the pools what a stored service holds, and says what of it
// another one holds too, or none may.
func (a services) recall(s *corev1.Service) []serviceFault {
	var faults []serviceFault
	tell := func(reason, format string, args ...any) {
		faults = append(faults, serviceFault{
			service: corev1.ObjectReference{
				APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
			},
			reason: reason, message: fmt.Sprintf(format, args...),
		})
	}
	if needsClusterIP(s) && !headless(s) {
		for _, ip := range s.Spec.ClusterIPs {
			if _, err := a.addresses.number(ip); err != nil {
				tell("ClusterIPOutOfRange", "Cluster IP [IPv4]: %s is not within any configured Service CIDR; please recreate service", ip)
			}
		}
	}
	for _, port := range nodePortsOf(s) {
		if _, err := a.ports.number(port); err != nil {
			tell("PortOutOfRange", "Port %d is not within the port range %d-%d; please recreate service", port, a.ports.valid.First, a.ports.valid.Last)
		}
	}
	held := a.heldBy(s)
	for _, n := range held.addresses {
		if !a.addresses.hold(n) {
			tell("ClusterIPAlreadyAllocated", "Cluster IP [IPv4]:%s was assigned to multiple services; please recreate service", a.addresses.at(n))
		}
	}
	for _, n := range held.ports {
		if !a.ports.hold(n) {
			tell("PortAlreadyAllocated", "Port %d was assigned to multiple services; please recreate service", a.ports.at(n))
		}
	}
	return faults
}

// nodePortsOf returns the node ports that a service has, each once.
func nodePortsOf(s *corev1.Service) []int32 {
	var ports []int32
	add := func(port int32) {
		if port != 0 && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if mayHaveNodePort(s) {
		for _, p := range s.Spec.Ports {
			add(p.NodePort)
		}
	}
	if needsHealthPort(s) {
		add(s.Spec.HealthCheckNodePort)
	}
	return ports
}

// tellFaults writes an Event for each fault. The same fault has one Event,
// however often the server starts.
func tellFaults(ctx context.Context, client kubernetes.Interface, faults []serviceFault) {
	for _, f := range faults {
		log := klog.FromContext(ctx).WithValues("namespace", f.service.Namespace, "service", f.service.Name)
		log.Info("A service has what it should not", "reason", f.reason, "message", f.message)
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(f.message))
		now := metav1.Now()
		_, err := client.CoreV1().Events(f.service.Namespace).Create(ctx, &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%08x", f.service.Name, hash.Sum32())},
			InvolvedObject: f.service,
			Type:           corev1.EventTypeWarning, Reason: f.reason, Message: f.message,
			Source: corev1.EventSource{Component: "windlass-apiserver"}, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			log.Error(err, "Telling of a service's fault")
		}
	}
}
