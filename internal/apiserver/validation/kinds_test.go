package validation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestKinds runs the scripts in testdata/kinds. The command base gives a manifest, and answers
// its faults; the commands after it change some of its fields, as the lines of TestPods do:
//
//	create              the faults of the changed object
//	update, status      the faults of the changed object as the replacement of the stored one;
//	                    what comes before a line "->" changes the stored one first
//
// The answer has a fault a line, sorted, or ok.
func TestKinds(t *testing.T) {
	defaulted := defaultingScheme(t)
	datadriven.Walk(t, "testdata/kinds", func(t *testing.T, path string) {
		base := ""
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "base" {
				base = d.Input
				return sortedErrors(Create(objectFrom(t, d, defaulted, parseObject(t, d, base))))
			}
			before, after, stored := strings.Cut(d.Input, "->\n")
			if !stored {
				before, after = "", d.Input
			}
			object := parseObject(t, d, base)
			setFields(t, d, object, before)
			old := objectFrom(t, d, defaulted, object)
			setFields(t, d, object, after)
			obj := objectFrom(t, d, defaulted, object)
			switch d.Cmd {
			case "create":
				return sortedErrors(Create(obj))
			case "update":
				return sortedErrors(Update(obj, old))
			case "status":
				return sortedErrors(StatusUpdate(obj, old))
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// objectFrom decodes and defaults an object of any kind, and gives it what the API server
// gives every object.
func objectFrom(t *testing.T, d *datadriven.TestData, s *runtime.Scheme, object map[string]any) runtime.Object {
	data, err := yaml.Marshal(object)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	obj, _, err := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	s.Default(obj)
	if meta, ok := obj.(metav1.Object); ok && meta.GetResourceVersion() == "" {
		meta.SetResourceVersion("1")
	}
	return obj
}

func sortedErrors(errs field.ErrorList) string {
	lines := strings.SplitAfter(printErrors(errs), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// TestManifests holds that manifests made for Kubernetes have no faults, as a whole.
func TestManifests(t *testing.T) {
	s := defaultingScheme(t)
	decoder := serializer.NewCodecFactory(s, serializer.EnableStrict).UniversalDeserializer()
	files, err := filepath.Glob("../../../examples/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	checked := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(data), "\n---\n") {
			obj, _, err := decoder.Decode([]byte(document), nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			s.Default(obj)
			obj.(metav1.Object).SetNamespace("default")
			if service, ok := obj.(*corev1.Service); ok && service.Spec.ClusterIP != "" {
				// The Service's storage does so before it validates.
				service.Spec.ClusterIPs = []string{service.Spec.ClusterIP}
			}
			checked++
			if errs := Create(obj); len(errs) > 0 {
				t.Errorf("%s: %T: %v", file, obj, errs.ToAggregate())
			}
		}
	}
	if checked < len(files) {
		t.Errorf("only %d objects in %d files", checked, len(files))
	}
}

// TestSizes holds the limits on how much one object may hold: at the limit it may, one
// beyond it may not.
func TestSizes(t *testing.T) {
	many := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255+1))
		}
		return list
	}
	slice := func(change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, AddressType: discoveryv1.AddressTypeIPv4}
		change(s)
		return s
	}
	labels := func(n int) map[string]string {
		set := map[string]string{}
		for i := range n {
			set[fmt.Sprintf("l%d", i)] = ""
		}
		return set
	}
	tcp := corev1.ProtocolTCP
	for _, limit := range []struct {
		name  string
		most  int
		path  string
		build func(n int) runtime.Object
	}{
		{"endpoints", 1000, "endpoints", func(n int) runtime.Object {
			return slice(func(s *discoveryv1.EndpointSlice) {
				for range n {
					s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}})
				}
			})
		}},
		{"addresses", 100, "endpoints[0].addresses", func(n int) runtime.Object {
			return slice(func(s *discoveryv1.EndpointSlice) { s.Endpoints = []discoveryv1.Endpoint{{Addresses: many(n)}} })
		}},
		{"topology", 16, "endpoints[0].deprecatedTopology", func(n int) runtime.Object {
			return slice(func(s *discoveryv1.EndpointSlice) {
				s.Endpoints = []discoveryv1.Endpoint{{Addresses: many(1), DeprecatedTopology: labels(n)}}
			})
		}},
		{"zones", 8, "endpoints[0].hints.forZones", func(n int) runtime.Object {
			return slice(func(s *discoveryv1.EndpointSlice) {
				h := &discoveryv1.EndpointHints{}
				for zone := range labels(n) {
					h.ForZones = append(h.ForZones, discoveryv1.ForZone{Name: zone})
				}
				s.Endpoints = []discoveryv1.Endpoint{{Addresses: many(1), Hints: h}}
			})
		}},
		{"ports", 20000, "ports", func(n int) runtime.Object {
			return slice(func(s *discoveryv1.EndpointSlice) {
				for i := range n {
					name := fmt.Sprintf("p%d", i)
					s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &tcp})
				}
			})
		}},
		{"secret", 1 << 20, "data", func(n int) runtime.Object {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, Data: map[string][]byte{"a": make([]byte, n-1), "b": {0}}}
		}},
		{"configmap", 1 << 20, "[]", func(n int) runtime.Object {
			return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default"},
				Data: map[string]string{"a": strings.Repeat("x", n-1)}, BinaryData: map[string][]byte{"b": {0}}}
		}},
		{"changes of a rollout", 1000, "spec.changes", func(n int) runtime.Object {
			r := record()
			r.Spec.Changes = make([]v1alpha1.FieldChange, n)
			return r
		}},
		{"services of a rollout", 100, "spec.services", func(n int) runtime.Object {
			r := record()
			r.Spec.Services = make([]string, n)
			return r
		}},
	} {
		t.Run(limit.name, func(t *testing.T) {
			if errs := Create(limit.build(limit.most)); len(errs) > 0 {
				t.Errorf("%d: %v", limit.most, errs.ToAggregate())
			}
			errs := Create(limit.build(limit.most + 1))
			if len(errs) != 1 || errs[0].Field != limit.path || errs[0].Type != field.ErrorTypeTooMany && errs[0].Type != field.ErrorTypeTooLong {
				t.Errorf("%d: %v", limit.most+1, errs)
			}
		})
	}
}

func record() *v1alpha1.RolloutRecord {
	return &v1alpha1.RolloutRecord{
		ObjectMeta: metav1.ObjectMeta{Name: "httpd-1", Namespace: "default", ResourceVersion: "1"},
		Spec: v1alpha1.RolloutRecordSpec{
			Target:   v1alpha1.RolloutTarget{APIVersion: "apps/v1", Kind: "Deployment", Name: "httpd"},
			Revision: 1, StartedAt: metav1.NowMicro(),
		},
	}
}

// TestRecordSizes holds the limits on what a rollout's record may list of what
// happened: at the limit it may, one beyond it may not, and it is told what else to do.
func TestRecordSizes(t *testing.T) {
	for _, limit := range []struct {
		path, mend string
		most       int
		fill       func(s *v1alpha1.RolloutRecordStatus, n int)
	}{
		{"status.steps", "stepsOmitted", 1000, func(s *v1alpha1.RolloutRecordStatus, n int) { s.Steps = make([]v1alpha1.RolloutStep, n) }},
		{"status.pods", "podsOmitted", 1000, func(s *v1alpha1.RolloutRecordStatus, n int) { s.Pods = make([]v1alpha1.PodTimeline, n) }},
		{"status.traffic", "at most 5000", 5000, func(s *v1alpha1.RolloutRecordStatus, n int) {
			s.Traffic = map[string]v1alpha1.TrafficCount{}
			for i := range n {
				s.Traffic[fmt.Sprint(i)] = v1alpha1.TrafficCount{}
			}
		}},
	} {
		r := record()
		limit.fill(&r.Status, limit.most)
		if errs := StatusUpdate(r, record()); len(errs) > 0 {
			t.Errorf("%s of %d: %v", limit.path, limit.most, errs)
		}
		limit.fill(&r.Status, limit.most+1)
		errs := StatusUpdate(r, record())
		if len(errs) != 1 || errs[0].Field != limit.path || errs[0].Type != field.ErrorTypeTooMany || !strings.Contains(errs[0].Detail, limit.mend) {
			t.Errorf("%s of %d: %v", limit.path, limit.most+1, errs)
		}
	}
}

// TestUnknownKinds holds that what has no rules is refused, not stored unchecked.
func TestUnknownKinds(t *testing.T) {
	limits, pod := &corev1.LimitRange{}, &corev1.Pod{}
	for name, errs := range map[string]field.ErrorList{
		"create":              Create(limits),
		"update":              Update(limits, limits),
		"status":              StatusUpdate(limits, limits),
		"update across kinds": Update(&corev1.Secret{}, pod),
		"status of none":      StatusUpdate(&corev1.Secret{}, &corev1.Secret{}),
		"nothing":             Create(nil),
	} {
		if len(errs) != 1 || errs[0].Type != field.ErrorTypeInternal {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

// FuzzKinds holds that no object, however strange, panics a rule: of its creation, of its
// replacement, of its status.
func FuzzKinds(f *testing.F) {
	for seed := range int64(20) {
		f.Add(seed)
	}
	s := defaultingScheme(f)
	var kinds []runtime.Object
	for kind := range s.AllKnownTypes() {
		obj, err := s.New(kind)
		if err != nil || strings.HasPrefix(kind.Version, "__") {
			continue
		}
		if errs := StatusUpdate(obj, obj); len(errs) != 1 || errs[0].Type != field.ErrorTypeInternal {
			kinds = append(kinds, obj)
		} else if errs := Create(obj); len(errs) != 1 || errs[0].Type != field.ErrorTypeInternal {
			kinds = append(kinds, obj)
		}
	}
	if len(kinds) < 15 {
		f.Fatalf("found only %d kinds with rules", len(kinds))
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		filler := randfill.NewWithSeed(seed).NilChance(.3).NumElements(0, 3).MaxDepth(14).Funcs(
			func(*runtime.RawExtension, randfill.Continue) {}, func(*metav1.FieldsV1, randfill.Continue) {})
		for _, kind := range kinds {
			obj, old := kind.DeepCopyObject(), kind.DeepCopyObject()
			filler.Fill(obj)
			filler.Fill(old)
			s.Default(old)
			for _, errs := range []field.ErrorList{Create(obj), Update(obj, old), Update(old, obj), StatusUpdate(obj, old), StatusUpdate(old, obj)} {
				_ = errs.ToAggregate()
			}
		}
	})
}
