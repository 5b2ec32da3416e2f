package rollout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestChanges runs the scripts in testdata/changes. The command changes takes two
// pod templates in YAML with --- between, or one for a first revision, and prints
// the cause, and each change in a line.
func TestChanges(t *testing.T) {
	datadriven.Walk(t, "testdata/changes", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var templates []*corev1.PodTemplateSpec
			for _, document := range strings.Split(d.Input, "---") {
				var template corev1.PodTemplateSpec
				if err := yaml.UnmarshalStrict([]byte(document), &template); err != nil {
					t.Fatalf("%s: %v", d.Pos, err)
				}
				templates = append(templates, &template)
			}
			from, to := (*corev1.PodTemplateSpec)(nil), templates[0]
			if len(templates) > 1 {
				from, to = templates[0], templates[1]
			}
			changes := Changes(from, to)
			var b strings.Builder
			fmt.Fprintf(&b, "cause %q\n", CauseOf(changes))
			for _, c := range changes {
				fmt.Fprintf(&b, "%s: %q -> %q\n", c.Path, c.From, c.To)
			}
			return b.String()
		})
	})
}

// checkChanges holds what is true of the changes between any two templates.
func checkChanges(t interface{ Fatalf(string, ...any) }, a, b *corev1.PodTemplateSpec) {
	changes := Changes(a, b)
	if (len(changes) == 0) != SameTemplate(a, b) {
		t.Fatalf("%d changes, same %v: %v", len(changes), SameTemplate(a, b), changes)
	}
	if (CauseOf(changes) == "") != (len(changes) == 0) {
		t.Fatalf("cause %q for %v", CauseOf(changes), changes)
	}
	if back := Changes(b, a); len(back) != len(changes) {
		t.Fatalf("%d changes there, %d back:\n%v\n%v", len(changes), len(back), changes, back)
	}
	if first, second := fmt.Sprint(changes), fmt.Sprint(Changes(a, b)); first != second {
		t.Fatalf("at first %s, then %s", first, second)
	}
	paths := map[string]bool{}
	for _, c := range changes {
		if c.Path == "" || paths[c.Path] {
			t.Fatalf("path %q, empty or there twice in %v", c.Path, changes)
		}
		paths[c.Path] = true
		if len(c.From) > maxValueLength || len(c.To) > maxValueLength {
			t.Fatalf("%d and %d bytes at %s", len(c.From), len(c.To), c.Path)
		}
	}
	if len(CauseOf(Changes(nil, a))) > 0 != (len(a.Spec.Containers) > 0) {
		t.Fatalf("first cause %q", CauseOf(Changes(nil, a)))
	}
}

func TestChangesOfAnyTemplates(t *testing.T) {
	name := rapid.SampledFrom([]string{"", "a", "b", "a#2", "x.y/z"})
	env := rapid.Custom(func(t *rapid.T) map[string]any {
		e := map[string]any{"name": name.Draw(t, "name")}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			e["value"] = strings.Repeat(name.Draw(t, "value"), rapid.SampledFrom([]int{1, 200}).Draw(t, "times"))
		case 1:
			e["valueFrom"] = map[string]any{"secretKeyRef": map[string]any{"name": name.Draw(t, "secret"), "key": "k"}}
		}
		return e
	})
	container := rapid.Custom(func(t *rapid.T) map[string]any {
		return map[string]any{
			"name": name.Draw(t, "name"), "image": name.Draw(t, "image"),
			"args": rapid.SliceOfN(name, 0, 2).Draw(t, "args"), "env": rapid.SliceOfN(env, 0, 3).Draw(t, "env"),
			"ports": rapid.SliceOfN(rapid.SampledFrom([]any{map[string]any{"containerPort": 80}, map[string]any{"containerPort": 80, "protocol": "UDP"},
				map[string]any{"containerPort": 80, "name": "web"}}), 0, 2).Draw(t, "ports"),
			"resources":      rapid.SampledFrom([]any{nil, map[string]any{"limits": map[string]any{}}, map[string]any{"limits": map[string]any{"memory": "1Gi"}}, map[string]any{"limits": map[string]any{"memory": "1073741824"}}}).Draw(t, "resources"),
			"readinessProbe": rapid.SampledFrom([]any{nil, map[string]any{}, map[string]any{"periodSeconds": 1}, map[string]any{"tcpSocket": map[string]any{"port": "web"}, "periodSeconds": 1}}).Draw(t, "probe"),
		}
	})
	template := rapid.Custom(func(t *rapid.T) *corev1.PodTemplateSpec {
		encoded, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"labels": rapid.MapOfN(name, name, 0, 2).Draw(t, "labels")},
			"spec": map[string]any{
				"containers":      rapid.SliceOfN(container, 0, 2).Draw(t, "containers"),
				"securityContext": rapid.SampledFrom([]any{nil, map[string]any{}, map[string]any{"fsGroup": 0}}).Draw(t, "security"),
				"volumes":         rapid.SampledFrom([]any{nil, []any{map[string]any{"name": "v", "emptyDir": map[string]any{}}}, []any{map[string]any{"name": "v"}}}).Draw(t, "volumes"),
				"topologySpreadConstraints": rapid.SampledFrom([]any{nil, []any{map[string]any{"topologyKey": "k", "maxSkew": 1}, map[string]any{"topologyKey": "k", "maxSkew": 2}},
					[]any{map[string]any{"topologyKey": "k", "maxSkew": 2}}}).Draw(t, "spread"),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var out corev1.PodTemplateSpec
		if err := json.Unmarshal(encoded, &out); err != nil {
			t.Fatal(err)
		}
		return &out
	})
	rapid.Check(t, func(t *rapid.T) { checkChanges(t, template.Draw(t, "a"), template.Draw(t, "b")) })
}

func FuzzChanges(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"a","image":"x:1"}]}}`), []byte(`{"spec":{"containers":[{"name":"a","image":"x:2"}]}}`))
	f.Add([]byte(`{"spec":{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}}]}}`), []byte(`{"spec":{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1"}}]}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var from, to corev1.PodTemplateSpec
		if json.Unmarshal(a, &from) == nil && json.Unmarshal(b, &to) == nil {
			checkChanges(t, &from, &to)
		}
	})
}

func FuzzCauseOf(f *testing.F) {
	f.Add("spec.containers[a].image", "r/x:1", "r/x:2")
	f.Add("spec.containers[a].env[B].value", "", "2\n")
	f.Fuzz(func(t *testing.T, path, from, to string) {
		if cause := CauseOf([]v1alpha1.FieldChange{{Path: path, From: from, To: to}}); cause == "" || strings.Contains(cause, "\n") {
			t.Errorf("cause %q", cause)
		}
	})
}

func TestDifferences(t *testing.T) {
	object := func(kind, text string) map[string]any {
		return map[string]any{"kind": kind, "spec": map[string]any{"list": []any{"a"}, "text": text}}
	}
	for name, test := range map[string]struct{ from, to, want any }{
		"typed": {&corev1.Service{}, &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", Selector: map[string]string{"a": "b"}}},
			"[{spec.selector.a  b} {spec.clusterIP  None}]"},
		"unstructured": {object("A", "x"), object("A", "y"), "[{spec.text x y}]"},
		"the same":     {object("A", "x"), object("A", "x"), "[]"},
	} {
		if got := fmt.Sprint(Differences(test.from, test.to)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
