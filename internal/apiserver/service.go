package apiserver

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// services allocates addresses and node ports. What is allocated is what stored
// services have: the pools are filled from the store at the start, and this
// process is the only one that writes services.
type services struct {
	addresses addresses
	ports     ports
}

// newServices returns the main resource of services with allocation; stored is
// what the store holds of them. The faults are what is wrong with what they hold.
func newServices(cfg Config, r resource, stored *corev1.ServiceList) (serviceStore, []serviceFault, error) {
	var a services
	var err error
	if a.addresses, err = newAddresses(cfg.ServiceRange); err != nil {
		return serviceStore{}, nil, err
	}
	if a.ports, err = newPorts(cfg.NodePorts); err != nil {
		return serviceStore{}, nil, err
	}
	var faults []serviceFault
	for i := range stored.Items {
		faults = append(faults, a.recall(&stored.Items[i])...)
	}
	if err := a.keepFirst(stored); err != nil {
		return serviceStore{}, nil, err
	}
	r.Store.BeginCreate = a.beginCreate
	r.Store.BeginUpdate = a.beginUpdate
	r.Store.AfterDelete = a.afterDelete
	return serviceStore{r, a}, faults, nil
}

// keepFirst checks that the first address is the Service kubernetes' or free for it.
func (a services) keepFirst(stored *corev1.ServiceList) error {
	first := a.addresses.at(0).String()
	for _, s := range stored.Items {
		if s.Spec.ClusterIP == first && (s.Namespace != metav1.NamespaceDefault || s.Name != kubernetesService) {
			return fmt.Errorf("service %s/%s has the address %s, which is that of the service %s", s.Namespace, s.Name, first, kubernetesService)
		}
	}
	return nil
}

// holding is what one service has of the pools.
type holding struct{ addresses, ports []uint32 }

func (a services) heldBy(s *corev1.Service) (h holding) {
	if needsClusterIP(s) && !headless(s) {
		for _, ip := range s.Spec.ClusterIPs {
			if n, err := a.addresses.number(ip); err == nil {
				h.addresses = append(h.addresses, n)
			}
		}
	}
	if mayHaveNodePort(s) {
		for _, p := range s.Spec.Ports {
			if n, err := a.ports.number(p.NodePort); err == nil && !slices.Contains(h.ports, n) {
				h.ports = append(h.ports, n)
			}
		}
	}
	if needsHealthPort(s) {
		if n, err := a.ports.number(s.Spec.HealthCheckNodePort); err == nil {
			h.ports = append(h.ports, n)
		}
	}
	return h
}

// beginCreate implements registry.BeginCreateFunc.
func (a services) beginCreate(ctx context.Context, obj runtime.Object, options *metav1.CreateOptions) (registry.FinishFunc, error) {
	s := obj.(*corev1.Service)
	alignClusterIPs(s, nil)
	completeFamilies(s)
	return a.allocate(ctx, s, nil, dryrun.IsDryRun(options.DryRun))
}

// beginUpdate implements registry.BeginUpdateFunc.
func (a services) beginUpdate(ctx context.Context, obj, before runtime.Object, options *metav1.UpdateOptions) (registry.FinishFunc, error) {
	s, old := obj.(*corev1.Service), before.(*corev1.Service)
	carryAllocated(s, old)
	alignClusterIPs(s, old)
	completeFamilies(s)
	return a.allocate(ctx, s, old, dryrun.IsDryRun(options.DryRun))
}

// afterDelete implements registry.AfterDeleteFunc.
func (a services) afterDelete(obj runtime.Object, options *metav1.DeleteOptions) {
	if dryrun.IsDryRun(options.DryRun) {
		return
	}
	a.release(a.heldBy(obj.(*corev1.Service)))
}

func (a services) release(h holding) {
	for _, n := range h.addresses {
		a.addresses.put(n)
	}
	for _, n := range h.ports {
		a.ports.put(n)
	}
}

// allocate gives s what it needs and old does not have. The function returned
// gives back, after a failure, what was taken, and after a success what old had
// and s no longer has; in an update that is left to serviceStore.
func (a services) allocate(ctx context.Context, s, old *corev1.Service, dry bool) (registry.FinishFunc, error) {
	last := a.withdraw(ctx)
	had := holding{}
	if old != nil {
		had = a.heldBy(old)
	}
	taking := &taking{services: a, had: had}
	if faults, err := taking.all(s); err != nil || len(faults) > 0 {
		a.release(taking.taken)
		if err == nil {
			err = apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, faults)
		}
		return nil, err
	}
	has := a.heldBy(s)
	return func(_ context.Context, success bool) {
		switch {
		case !success || dry:
			a.release(taking.taken)
		case last != nil:
			*last = attempt{made: true, taken: taking.taken, spare: had.without(has)}
		default:
			a.release(had.without(has))
		}
	}, nil
}

func (h holding) without(other holding) holding {
	rest := func(all, gone []uint32) []uint32 {
		return slices.DeleteFunc(slices.Clone(all), func(n uint32) bool { return slices.Contains(gone, n) })
	}
	return holding{rest(h.addresses, other.addresses), rest(h.ports, other.ports)}
}

// taking is one allocation in progress.
type taking struct {
	services
	had   holding
	taken holding
}

var serviceSpec = field.NewPath("spec")

func (t *taking) all(s *corev1.Service) (field.ErrorList, error) {
	if needsClusterIP(s) {
		if faults := checkFamilies(s); len(faults) > 0 {
			return faults, nil
		}
		if faults, err := t.clusterIPs(s); err != nil || len(faults) > 0 {
			return faults, err
		}
	}
	faults, err := t.nodePorts(s)
	if err != nil || len(faults) > 0 {
		return faults, err
	}
	return t.healthPort(s)
}

// checkFamilies refuses what a cluster with IPv4 alone cannot give.
func checkFamilies(s *corev1.Service) (faults field.ErrorList) {
	if headless(s) && len(s.Spec.Selector) == 0 {
		return nil
	}
	if policy := s.Spec.IPFamilyPolicy; policy != nil && *policy == corev1.IPFamilyPolicyRequireDualStack {
		faults = append(faults, field.Invalid(serviceSpec.Child("ipFamilyPolicy"), policy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range s.Spec.IPFamilies {
		if family == corev1.IPv6Protocol {
			faults = append(faults, field.Invalid(serviceSpec.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	return faults
}

func (t *taking) clusterIPs(s *corev1.Service) (field.ErrorList, error) {
	if headless(s) || len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone {
		return nil, nil
	}
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) == 0 {
		n, err := t.addresses.next()
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
		}
		t.taken.addresses = append(t.taken.addresses, n)
		s.Spec.ClusterIP = t.addresses.at(n).String()
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		return nil, nil
	}
	var faults field.ErrorList
	for i, ip := range s.Spec.ClusterIPs {
		n, err := t.addresses.number(ip)
		if err == nil && !slices.Contains(t.had.addresses, n) {
			if !t.addresses.take(n) {
				err = errAddressTaken
			} else {
				t.taken.addresses = append(t.taken.addresses, n)
			}
		}
		if err != nil {
			faults = append(faults, field.Invalid(serviceSpec.Child("clusterIPs").Index(i), ip, fmt.Sprintf("failed to allocate IP %s: %v", ip, err)))
		}
	}
	return faults, nil
}

// nodePorts gives every port a node port. Ports of one number that differ in the
// protocol share theirs.
func (t *taking) nodePorts(s *corev1.Service) (field.ErrorList, error) {
	if !mayHaveNodePort(s) {
		return nil, nil
	}
	var faults field.ErrorList
	of := map[int32]int32{} // by port
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort == 0 {
			continue
		}
		n, err := t.ports.number(p.NodePort)
		shared := err == nil && (slices.Contains(t.taken.ports, n) || slices.Contains(t.had.ports, n))
		if err == nil && !shared {
			if t.ports.take(n) {
				t.taken.ports = append(t.taken.ports, n)
			} else {
				err = errPortTaken
			}
		}
		if err != nil {
			faults = append(faults, field.Invalid(serviceSpec.Child("ports").Index(i).Child("nodePort"), p.NodePort, err.Error()))
			continue
		}
		of[p.Port] = p.NodePort
	}
	if len(faults) > 0 || !needsNodePort(s) {
		return faults, nil
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		switch shared := of[p.Port]; {
		case p.NodePort != 0:
		case shared != 0:
			p.NodePort = shared
		default:
			n, err := t.ports.next()
			if err != nil {
				return nil, apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
			}
			t.taken.ports = append(t.taken.ports, n)
			p.NodePort = t.ports.at(n)
			of[p.Port] = p.NodePort
		}
	}
	return nil, nil
}

func (t *taking) healthPort(s *corev1.Service) (field.ErrorList, error) {
	if !needsHealthPort(s) {
		return nil, nil
	}
	wanted := s.Spec.HealthCheckNodePort
	if wanted == 0 {
		n, err := t.ports.next()
		if err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort: %w", err))
		}
		t.taken.ports = append(t.taken.ports, n)
		s.Spec.HealthCheckNodePort = t.ports.at(n)
		return nil, nil
	}
	n, err := t.ports.number(wanted)
	if err == nil && !slices.Contains(t.had.ports, n) {
		if t.ports.take(n) {
			t.taken.ports = append(t.taken.ports, n)
		} else {
			err = errPortTaken
		}
	}
	if err != nil {
		return field.ErrorList{field.Invalid(serviceSpec.Child("healthCheckNodePort"), wanted, err.Error())}, nil
	}
	return nil, nil
}
