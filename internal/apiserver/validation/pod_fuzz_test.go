package validation

import (
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/yaml"
)

// judgeAll runs every rule about pods and returns all faults found.
func judgeAll(pod, other *corev1.Pod) field.ErrorList {
	template := &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
	errs := ValidatePod(pod)
	errs = append(errs, ValidatePodTemplate(template, field.NewPath("spec", "template"))...)
	for _, rule := range []func(pod, old *corev1.Pod) field.ErrorList{
		ValidatePodUpdate, ValidatePodStatusUpdate, ValidatePodEphemeralContainersUpdate,
	} {
		errs = append(errs, rule(pod, other)...)
		errs = append(errs, rule(other, pod)...)
		errs = append(errs, rule(pod, pod)...)
	}
	return errs
}

// checkFaults holds what is true of the faults of any pod: each says where it is, and pods
// are as they were after judging.
func checkFaults(t *testing.T, pod, other *corev1.Pod) {
	t.Helper()
	before := pod.DeepCopy()
	for _, err := range judgeAll(pod, other) {
		root, _, _ := strings.Cut(err.Field, ".")
		switch strings.TrimRight(root, "[]0123456789") {
		case "metadata", "spec", "status", "target":
		default:
			t.Errorf("fault at %q: %v", err.Field, err)
		}
		if err.Type == field.ErrorTypeInternal {
			t.Errorf("not the pod's fault: %v", err)
		}
		_ = err.Error()
	}
	if got, want := string(mustYAML(t, pod)), string(mustYAML(t, before)); got != want {
		t.Errorf("the pod was changed:\n%s\nit was:\n%s", got, want)
	}
}

func mustYAML(t *testing.T, pod *corev1.Pod) []byte {
	data, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustPod(t testing.TB, text string) *corev1.Pod {
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// FuzzPod holds that no pod that can be written down makes the rules panic.
func FuzzPod(f *testing.F) {
	defaulted := defaultingScheme(f)
	f.Add([]byte(basePod))
	files, err := filepath.Glob("testdata/pods/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			if path, text, ok := strings.Cut(line, "="); ok && strings.HasPrefix(path, "spec.") {
				object := map[string]any{}
				var value any
				if yaml.Unmarshal([]byte(basePod), &object) == nil && yaml.Unmarshal([]byte(text), &value) == nil {
					setField(object, fieldSteps(path), value, false)
					if seed, err := yaml.Marshal(object); err == nil {
						f.Add(seed)
					}
				}
			}
		}
	}
	base := mustPod(f, basePod)
	f.Fuzz(func(t *testing.T, data []byte) {
		pod := &corev1.Pod{}
		if yaml.Unmarshal(data, pod) != nil {
			t.Skip("no pod")
		}
		checkFaults(t, pod, base.DeepCopy())
		defaulted.Default(pod)
		checkFaults(t, pod, base.DeepCopy())
	})
}

// TestRandomPods holds the same for pods with anything in any field, and for pairs of them.
func TestRandomPods(t *testing.T) {
	defaulted := defaultingScheme(t)
	base := mustPod(t, basePod)
	for seed := range int64(50) {
		fill := randomFiller(seed)
		one, two := &corev1.Pod{}, &corev1.Pod{}
		fill.Fill(one)
		fill.Fill(two)
		checkFaults(t, one, two)
		checkFaults(t, one, base.DeepCopy())
		defaulted.Default(one)
		checkFaults(t, one, two)
	}
}

func randomFiller(seed int64) *randfill.Filler {
	words := []string{"", "a", "..", "../x", "/", "/a", "web", "data", "A b", "-", "a/b", "kubernetes.io/a", "1", "-1", "hugepages-0", "hugepages-x", "iqn", "é", "\x00", strings.Repeat("x", 300)}
	return randfill.NewWithSeed(seed).NilChance(0.5).NumElements(0, 3).MaxDepth(30).Funcs(
		func(s *string, c randfill.Continue) { *s = words[c.Intn(len(words))] },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63()-c.Int63(), resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<32), 0) },
		func(f *metav1.FieldsV1, c randfill.Continue) {},
		func(l *corev1.ResourceList, c randfill.Continue) {
			*l = corev1.ResourceList{}
			for range c.Intn(4) {
				(*l)[corev1.ResourceName(words[c.Intn(len(words))])] = *resource.NewQuantity(c.Int63n(100)-10, resource.BinarySI)
			}
		},
	)
}

// TestMutatedPods holds the same for good pods of which a field or a few were spoiled, which
// gets further into the rules than pods that are bad all over.
func TestMutatedPods(t *testing.T) {
	defaulted := defaultingScheme(t)
	base := mustPod(t, basePod)
	defaulted.Default(base)
	if errs := ValidatePod(base); len(errs) > 0 {
		t.Fatalf("the base pod has faults: %v", errs)
	}
	random := rand.New(rand.NewSource(1))
	for seed := range int64(50) {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(base)
		if err != nil {
			t.Fatal(err)
		}
		donor := &corev1.Pod{}
		randomFiller(seed).Fill(donor)
		gifts, err := runtime.DefaultUnstructuredConverter.ToUnstructured(donor)
		if err != nil {
			t.Fatal(err)
		}
		graft(object, gifts, random)
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, pod); err != nil {
			t.Fatal(err)
		}
		checkFaults(t, pod, base.DeepCopy())
	}
}

// graft puts some branches of gifts into object, and goes down the ones that both have.
func graft(object, gifts map[string]any, random *rand.Rand) {
	for _, key := range slices.Sorted(maps.Keys(gifts)) {
		gift := gifts[key]
		ours, isOurs := object[key].(map[string]any)
		theirs, isTheirs := gift.(map[string]any)
		switch {
		case isOurs && isTheirs:
			graft(ours, theirs, random)
		case random.Intn(10) == 0:
			object[key] = gift
		}
	}
}
