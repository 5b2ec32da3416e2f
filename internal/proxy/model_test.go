package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// modelChange is one event as the watches deliver them.
type modelChange struct {
	text    string
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
	pod     *corev1.Pod
	deleted bool
}

func (c modelChange) to(m *Model) {
	switch {
	case c.pod != nil && c.deleted:
		m.DeletePod(c.pod.Namespace, c.pod.Name)
	case c.pod != nil:
		m.SetPod(c.pod)
	case c.service != nil && c.deleted:
		m.DeleteService(c.service.Namespace, c.service.Name)
	case c.service != nil:
		m.SetService(c.service)
	case c.deleted:
		m.DeleteSlice(c.slice)
	default:
		m.SetSlice(c.slice)
	}
}

// drawChange draws a change among few names, addresses and ports, so that
// Services clash and slices wander.
func drawChange(t testing.TB, r *rapid.T) modelChange {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(r, label) }
	names := []string{"a", "b", "c", "x/a"}
	deleted := rapid.IntRange(0, 3).Draw(r, "delete") == 0
	if rapid.Bool().Draw(r, "service") {
		line := fmt.Sprintf("service %s ip=10.43.0.%s port=http:80:%s age=%s", pick("name", names...),
			pick("address", "1", "2", "3"), pick("node port", "30001", "30002"), pick("age", "1", "2"))
		for _, more := range []string{"type=NodePort", "type=LoadBalancer lb=192.168.1.2", "external=192.168.1.2", "affinity=60",
			"internal=Local", "outside=Local", "port=dns:53/udp", "external=10.43.0.1"} {
			if rapid.IntRange(0, 2).Draw(r, more) == 0 {
				line += " " + more
			}
		}
		return modelChange{text: line, deleted: deleted, service: parseState(t, line).Services[0]}
	}
	if rapid.IntRange(0, 3).Draw(r, "pod") == 0 {
		line := fmt.Sprintf("pod %s ip=%s port=%s:80%s age=%s", pick("name", names...), pick("pod address", "", "10.42.0.5", "10.42.0.6"),
			pick("host port", "30001", "80", "53"), pick("where", "", "/udp", "@192.168.1.2"), pick("age", "1", "2"))
		return modelChange{text: line, deleted: deleted, pod: parseState(t, line).Pods[0]}
	}
	line := fmt.Sprintf("slice %s/%s port=http:8080 port=dns:53/udp version=%d", pick("name", names...), pick("slice", "s1", "s2"),
		rapid.IntRange(1, 99).Draw(r, "version"))
	for i := range rapid.IntRange(0, 4).Draw(r, "endpoints") {
		line += fmt.Sprintf("\n10.42.0.%d@%s %s", i+5, pick("node", "here", "there"), pick("condition", "", "unready", "terminating"))
	}
	return modelChange{text: line, deleted: deleted, slice: parseState(t, line).EndpointSlices[0]}
}

// TestModelIsCompile: whatever the order of changes, a Model says what Compile
// says of the objects that are left.
func TestModelIsCompile(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		model := NewModel(testNode)
		services, endpointSlices := map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}
		pods := map[string]*corev1.Pod{}
		for range rapid.IntRange(1, 20).Draw(r, "changes") {
			change := drawChange(t, r)
			change.to(model)
			record(change, services, endpointSlices, pods)
			if rapid.Bool().Draw(r, "compile now") {
				state := State{Node: testNode}
				for _, name := range slices.Sorted(maps.Keys(services)) {
					state.Services = append(state.Services, services[name])
				}
				for _, s := range endpointSlices {
					state.EndpointSlices = append(state.EndpointSlices, s)
				}
				for _, pod := range pods {
					state.Pods = append(state.Pods, pod)
				}
				if got, want := model.Compile().String(), Compile(state).String(); got != want {
					r.Fatalf("the model says\n%s\nCompile says\n%s", got, want)
				}
				if got, want := model.Terminating(), terminatingVersion(state); got != want {
					r.Fatalf("Terminating is %d, want %d", got, want)
				}
			}
		}
	})
}

func record(c modelChange, services map[string]*corev1.Service, endpointSlices map[string]*discoveryv1.EndpointSlice, pods map[string]*corev1.Pod) {
	switch {
	case c.pod != nil && c.deleted:
		delete(pods, c.pod.Namespace+"/"+c.pod.Name)
	case c.pod != nil:
		pods[c.pod.Namespace+"/"+c.pod.Name] = c.pod
	case c.service != nil && c.deleted:
		delete(services, c.service.Namespace+"/"+c.service.Name)
	case c.service != nil:
		services[c.service.Namespace+"/"+c.service.Name] = c.service
	case c.deleted:
		delete(endpointSlices, c.slice.Namespace+"/"+c.slice.Name)
	default:
		endpointSlices[c.slice.Namespace+"/"+c.slice.Name] = c.slice
	}
}

func terminatingVersion(state State) (highest uint64) {
	for _, s := range state.EndpointSlices {
		if hasTerminating(s) {
			highest = max(highest, version(s))
		}
	}
	return highest
}

// TestPartsStay: a change of one Service leaves the parts of all others as they are.
func TestPartsStay(t *testing.T) {
	state := manyServices(50)
	model := NewModel(testNode)
	for _, s := range state.Services {
		model.SetService(s)
	}
	for _, s := range state.EndpointSlices {
		model.SetSlice(s)
	}
	before := model.Compile()
	model.SetSlice(manyEndpoints("s0007", 7, 9))
	after := model.Compile()
	for i, part := range after.Parts {
		if changed := part != before.Parts[i]; changed != strings.HasSuffix(part.Name, "s0007") {
			t.Errorf("part %q: changed is %v", part.Name, changed)
		}
	}
}

// TestEveryNameFits: the kernel takes names of up to 127 bytes, and two ports
// never share one.
func TestEveryNameFits(t *testing.T) {
	long := strings.Repeat("n", 63)
	ruleset := Compile(parseState(t, fmt.Sprintf(`
		service %[1]s/%[1]s ip=10.43.0.10 affinity=60 port=%[2]sa:80 port=%[2]sb:81
		slice %[1]s/%[1]s/s port=%[2]sa:80 port=%[2]sb:81
		10.42.0.5`, long, long[:62])))
	names := map[string]bool{}
	for _, part := range ruleset.Parts {
		for _, chain := range part.Chains {
			names["chain "+chain.Name] = true
		}
		for _, s := range part.Sets {
			names["set "+s.Name] = true
		}
	}
	for name := range names {
		if len(strings.Fields(name)[1]) > 127 {
			t.Errorf("%s is %d bytes", name, len(name))
		}
	}
	base := Compile(State{Node: testNode}).Parts[0]
	if got, want := len(names), len(base.Chains)+len(base.Sets)+6; got != want {
		t.Errorf("%d different names, want %d", got, want)
	}
	accepted(t, ruleset.String())
}
