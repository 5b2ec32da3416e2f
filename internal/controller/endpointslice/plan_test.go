package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

func newService(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "svc", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeClusterIP,
			ClusterIP:  "10.43.0.9",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Selector:   map[string]string{"app": "web"},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func newPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName:   "n1",
			Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}},
		},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			PodIP:      "10.42.0.7",
			PodIPs:     []corev1.PodIP{{IP: "10.42.0.7"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func notReady(p *corev1.Pod)    { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func terminating(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
func onPort(n int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = n }
}

// apply does acts to slices as the API would, for the next plan.
func apply(existing []*discoveryv1.EndpointSlice, acts []act, next *int) []*discoveryv1.EndpointSlice {
	out := slices.Clone(existing)
	for _, a := range acts {
		i := slices.IndexFunc(out, func(s *discoveryv1.EndpointSlice) bool { return s.Name == a.Slice.Name })
		s := a.Slice.DeepCopy()
		switch a.Verb {
		case create:
			*next++
			s.Name = fmt.Sprintf("%s%03d", s.GenerateName, *next)
			s.UID = types.UID(s.Name)
			out = append(out, s)
		case update:
			out[i] = s
		case remove:
			out = slices.Delete(out, i, i+1)
		}
	}
	return out
}

// show prints slices on a line each.
func show(all []*discoveryv1.EndpointSlice) string {
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s %s [%s]", s.Name, s.AddressType, portsKey(s.Ports))
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			fmt.Fprintf(&b, " %s=%s(%s)", e.TargetRef.Name, strings.Join(e.Addresses, "+"), state(e))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name    string
		service *corev1.Service
		before  []*corev1.Pod // pods that existing slices were made from; nil for no slices
		pods    []*corev1.Pod
		acts    string
		slices  string
	}{{
		name:    "the first ready pod",
		service: newService(),
		pods:    []*corev1.Pod{newPod("a")},
		acts:    "create: 1 endpoints have no slice\n",
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n",
	}, {
		name:    "no pods leaves a placeholder",
		service: newService(),
		acts:    "create: the Service has no endpoints\n",
		slices:  "web-001 IPv4 []\n",
	}, {
		name:    "the placeholder is filled, not replaced",
		service: newService(),
		before:  []*corev1.Pod{},
		pods:    []*corev1.Pod{newPod("a")},
		acts:    "update: 1 endpoints have no slice, and one is free: no pod serves its ports\n",
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n",
	}, {
		name:    "a pod becomes ready",
		service: newService(),
		before:  []*corev1.Pod{newPod("a", notReady)},
		pods:    []*corev1.Pod{newPod("a")},
		acts:    "update: pod a was not ready, is ready\n",
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n",
	}, {
		name:    "a ready pod is deleted: it serves, but is not ready",
		service: newService(),
		before:  []*corev1.Pod{newPod("a"), newPod("b")},
		pods:    []*corev1.Pod{newPod("a", terminating), newPod("b")},
		acts:    "update: pod a was ready, is terminating, serving\n",
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(terminating, serving) b=10.42.0.7(ready)\n",
	}, {
		name:    "a pod that was never ready is deleted",
		service: newService(),
		before:  []*corev1.Pod{newPod("a", notReady)},
		pods:    []*corev1.Pod{newPod("a", notReady, terminating)},
		acts:    "update: pod a was not ready, is terminating\n",
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(terminating)\n",
	}, {
		name:    "pods that have ended or have no address are no endpoints",
		service: newService(),
		before:  []*corev1.Pod{newPod("a"), newPod("b")},
		pods: []*corev1.Pod{newPod("a"), newPod("b", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
			newPod("c", func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil })},
		acts:   "update: pod b is gone\n",
		slices: "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n",
	}, {
		name:    "a named port with two numbers makes two slices",
		service: newService(),
		before:  []*corev1.Pod{newPod("a")},
		pods:    []*corev1.Pod{newPod("a"), newPod("b", onPort(9090))},
		acts:    "create: 1 endpoints have no slice\n",
		slices: "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n" +
			"web-002 IPv4 [http/TCP/9090/] b=10.42.0.7(ready)\n",
	}, {
		name:    "publishNotReadyAddresses",
		service: newService(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }),
		pods:    []*corev1.Pod{newPod("a", notReady)},
		acts:    "create: 1 endpoints have no slice\n",
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n",
	}, {
		name:    "headless without ports",
		service: newService(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil }),
		before:  []*corev1.Pod{},
		pods:    []*corev1.Pod{newPod("a")},
		acts:    "update: pod a is new (ready)\n",
		slices:  "web-001 IPv4 [] a=10.42.0.7(ready)\n",
	}, {
		name:    "the last pod goes",
		service: newService(),
		before:  []*corev1.Pod{newPod("a")},
		acts:    "update: the Service has no endpoints, and one is free: no pod serves its ports\n",
		slices:  "web-001 IPv4 []\n",
	}, {
		name:    "ExternalName has no slices",
		service: newService(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }),
		before:  []*corev1.Pod{newPod("a")},
		acts:    "delete: the Service has no IPv4 address\n",
	}, {
		name:    "nothing to do",
		service: newService(),
		before:  []*corev1.Pod{newPod("a")},
		pods:    []*corev1.Pod{newPod("a")},
		slices:  "web-001 IPv4 [http/TCP/8080/] a=10.42.0.7(ready)\n",
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var existing []*discoveryv1.EndpointSlice
			next := 0
			if test.before != nil {
				as := test.service.DeepCopy()
				as.Spec.Type = corev1.ServiceTypeClusterIP
				existing = apply(nil, plan(as, test.before, nil, nil), &next)
			}
			acts := plan(test.service, test.pods, nil, existing)
			var got strings.Builder
			for _, a := range acts {
				fmt.Fprintf(&got, "%s: %s\n", a.Verb, a.Why)
			}
			if got.String() != test.acts {
				t.Errorf("acts:\n%swant:\n%s", got.String(), test.acts)
			}
			if s := show(apply(existing, acts, &next)); s != test.slices {
				t.Errorf("slices:\n%swant:\n%s", s, test.slices)
			}
		})
	}
}

func TestSliceMetadata(t *testing.T) {
	service := newService(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	zones := map[string]string{"n1": "z1"}
	slice := plan(service, []*corev1.Pod{newPod("a")}, zones, nil)[0].Slice
	want := map[string]string{
		"team":                                   "a",
		"kubernetes.io/service-name":             "web",
		"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
		"service.kubernetes.io/headless":         "",
	}
	if fmt.Sprint(slice.Labels) != fmt.Sprint(want) {
		t.Errorf("labels %v, want %v", slice.Labels, want)
	}
	if owner := metav1.GetControllerOf(slice); owner == nil || owner.UID != "svc" || owner.Kind != "Service" {
		t.Errorf("owner %v, want the Service", owner)
	}
	e := slice.Endpoints[0]
	if e.TargetRef.UID != "uid-a" || *e.NodeName != "n1" || *e.Zone != "z1" {
		t.Errorf("endpoint %v does not name its pod, node and zone", e)
	}
}

func TestSliceOfEarlierService(t *testing.T) {
	next := 0
	existing := apply(nil, plan(newService(), []*corev1.Pod{newPod("a")}, nil, nil), &next)
	again := newService(func(s *corev1.Service) { s.UID = "svc2" })
	after := apply(existing, plan(again, []*corev1.Pod{newPod("a")}, nil, existing), &next)
	if len(after) != 1 || after[0].Name == existing[0].Name {
		t.Errorf("slices %s: want one new slice, the earlier Service's deleted", show(after))
	}
}

// Whatever happens to pods and labels, one plan is enough: every pod with an
// address is in exactly one slice, no slice is over its size or empty beside
// others, and a second plan finds nothing to do.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var existing []*discoveryv1.EndpointSlice
		next := 0
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			service := newService(func(s *corev1.Service) {
				s.Labels["round"] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "label")
			})
			var pods []*corev1.Pod
			for i := range rapid.IntRange(0, 250).Draw(t, "pods") {
				if !rapid.Bool().Draw(t, "there") {
					continue
				}
				p := newPod(fmt.Sprintf("p%d", i), onPort(rapid.Int32Range(1, 2).Draw(t, "port")))
				if rapid.Bool().Draw(t, "terminating") {
					terminating(p)
				}
				pods = append(pods, p)
			}
			existing = apply(existing, plan(service, pods, nil, existing), &next)
			if again := plan(service, pods, nil, existing); len(again) != 0 {
				t.Fatalf("the second plan still wants to %s: %s", again[0].Verb, again[0].Why)
			}
			seen := map[types.UID]bool{}
			for _, s := range existing {
				if len(s.Endpoints) > maxEndpoints || len(s.Endpoints) == 0 && len(existing) > 1 {
					t.Fatalf("slice %s has %d endpoints", s.Name, len(s.Endpoints))
				}
				for _, e := range s.Endpoints {
					if seen[e.TargetRef.UID] {
						t.Fatalf("pod %s is in two slices", e.TargetRef.Name)
					}
					seen[e.TargetRef.UID] = true
				}
			}
			if len(seen) != len(pods) {
				t.Fatalf("%d endpoints for %d pods", len(seen), len(pods))
			}
		}
	})
}
