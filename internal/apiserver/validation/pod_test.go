package validation

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/apiserver/defaults"
)

// basePod is what the scripts change, one field or a few at a time. It has no faults.
const basePod = `
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: default
  uid: 9b0c2a50-5a7a-4b62-8a8d-000000000001
  resourceVersion: "1"
  labels: {app: web}
spec:
  serviceAccountName: default
  containers:
  - name: web
    image: httpd:2.4
  volumes:
  - name: data
    emptyDir: {}
  - name: disk
    persistentVolumeClaim: {claimName: disk}
`

// TestPods runs the scripts in testdata/pods. Each line of a command's input sets one field
// of the base pod, PATH=YAML; "delete PATH" takes it away. For updates, what comes before a
// line "->" makes the stored pod, and what comes after changes it. The commands:
//
//	create, template    the faults of the pod, or of a workload's template with its spec
//	update, status      the faults of the changed pod as the replacement of the stored one
//	ephemeral, resize, bind  the same for these subresources; bind sets fields of the binding
//
// The answer has a fault a line, or ok.
func TestPods(t *testing.T) {
	defaulted := defaultingScheme(t)
	datadriven.Walk(t, "testdata/pods", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			before, after, _ := strings.Cut(d.Input, "->")
			object := parseObject(t, d, basePod)
			setFields(t, d, object, before)
			old := podFrom(t, d, defaulted, object)
			var errs field.ErrorList
			switch d.Cmd {
			case "create":
				errs = ValidatePod(old)
			case "template":
				template := &corev1.PodTemplateSpec{ObjectMeta: old.ObjectMeta, Spec: templateSpecFrom(t, d, defaulted, object)}
				errs = ValidatePodTemplate(template, field.NewPath("spec", "template"))
			case "update", "status", "ephemeral", "resize":
				setFields(t, d, object, after)
				pod := podFrom(t, d, defaulted, object)
				rules := map[string]func(pod, old *corev1.Pod) field.ErrorList{
					"update": ValidatePodUpdate, "status": ValidatePodStatusUpdate, "ephemeral": ValidatePodEphemeralContainersUpdate, "resize": ValidatePodResize,
				}
				errs = rules[d.Cmd](pod, old)
			case "bind":
				object := parseObject(t, d, "target: {kind: Node, name: node-1}")
				setFields(t, d, object, after)
				binding := &corev1.Binding{}
				decode(t, d, object, binding)
				errs = Create(binding)
			default:
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			return printErrors(errs)
		})
	})
}

func printErrors(errs field.ErrorList) string {
	if len(errs) == 0 {
		return "ok\n"
	}
	var b strings.Builder
	for _, err := range errs {
		fmt.Fprintln(&b, strings.ReplaceAll(err.Error(), "\n\n", "\n"))
	}
	return b.String()
}

func defaultingScheme(t testing.TB) *runtime.Scheme {
	s := runtime.NewScheme()
	if err := scheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := defaults.Register(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func parseObject(t *testing.T, d *datadriven.TestData, text string) map[string]any {
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return object
}

func decode(t *testing.T, d *datadriven.TestData, object map[string]any, into any) {
	data, err := yaml.Marshal(object)
	if err == nil {
		err = yaml.UnmarshalStrict(data, into)
	}
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
}

func podFrom(t *testing.T, d *datadriven.TestData, s *runtime.Scheme, object map[string]any) *corev1.Pod {
	pod := &corev1.Pod{}
	decode(t, d, object, pod)
	s.Default(pod)
	return pod
}

// templateSpecFrom returns the pod's specification with the defaults of a template, which
// are fewer than those of a pod.
func templateSpecFrom(t *testing.T, d *datadriven.TestData, s *runtime.Scheme, object map[string]any) corev1.PodSpec {
	pod := &corev1.Pod{}
	decode(t, d, object, pod)
	controller := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: &corev1.PodTemplateSpec{Spec: pod.Spec}}}
	s.Default(controller)
	return controller.Spec.Template.Spec
}

// setFields changes object as the lines say.
func setFields(t *testing.T, d *datadriven.TestData, object map[string]any, lines string) {
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		if line == "" {
			continue
		}
		if path, ok := strings.CutPrefix(line, "delete "); ok {
			setField(object, fieldSteps(path), nil, true)
			continue
		}
		path, text, ok := strings.Cut(line, "=")
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); !ok || err != nil {
			d.Fatalf(t, "line %q: want PATH=YAML: %v", line, err)
		}
		setField(object, fieldSteps(path), value, false)
	}
}

// fieldSteps splits a.b[0].c into its steps; numbers are places in lists.
func fieldSteps(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// setField returns node with the field below it set or deleted, made on the way where missing.
func setField(node any, steps []string, value any, isDelete bool) any {
	if len(steps) == 0 {
		return value
	}
	if i, err := strconv.Atoi(steps[0]); err == nil {
		list, _ := node.([]any)
		for len(list) <= i {
			list = append(list, map[string]any{})
		}
		list[i] = setField(list[i], steps[1:], value, isDelete)
		return list
	}
	object, _ := node.(map[string]any)
	if object == nil {
		object = map[string]any{}
	}
	if isDelete && len(steps) == 1 {
		delete(object, steps[0])
		return object
	}
	object[steps[0]] = setField(object[steps[0]], steps[1:], value, isDelete)
	return object
}

// TestLongPodUpdates holds that a change of a very long pod is refused in good time.
func TestLongPodUpdates(t *testing.T) {
	old := mustPod(t, basePod)
	for i := range 20000 {
		old.Spec.Containers[0].Env = append(old.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VAR%d", i)})
	}
	defaultingScheme(t).Default(old)
	pod := old.DeepCopy()
	for i := range pod.Spec.Containers[0].Env {
		pod.Spec.Containers[0].Env[i].Value = "changed"
	}
	start := time.Now()
	errs := ValidatePodUpdate(pod, old)
	if len(errs) != 1 || errs[0].Type != field.ErrorTypeForbidden || !strings.Contains(errs[0].Detail, "too long") {
		t.Errorf("faults: %.300v", errs.ToAggregate())
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestWorkloadManifests holds that manifests made for Kubernetes have no faults.
func TestWorkloadManifests(t *testing.T) {
	s := defaultingScheme(t)
	files, err := filepath.Glob("../../../examples/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			templates := 0
			for _, document := range strings.Split(string(data), "\n---\n") {
				var workload struct {
					Spec struct {
						Template *corev1.PodTemplateSpec `json:"template"`
					} `json:"spec"`
				}
				if err := yaml.Unmarshal([]byte(document), &workload); err != nil {
					t.Fatal(err)
				}
				if workload.Spec.Template == nil {
					continue
				}
				templates++
				controller := &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Template: workload.Spec.Template}}
				s.Default(controller)
				template := controller.Spec.Template
				// A StatefulSet's claims become volumes of its pods.
				template.Spec.Volumes = append(template.Spec.Volumes, corev1.Volume{Name: "data",
					VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}})
				if errs := ValidatePodTemplate(template, field.NewPath("spec", "template")); len(errs) > 0 {
					t.Errorf("template: %v", errs.ToAggregate())
				}
				pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
				pod.Name, pod.Namespace = "web-7c5ddbdf54-abcde", "default"
				s.Default(pod)
				if errs := ValidatePod(pod); len(errs) > 0 {
					t.Errorf("pod: %v", errs.ToAggregate())
				}
			}
			if templates == 0 && !strings.Contains(file, "service") {
				t.Error("no template in the manifest")
			}
		})
	}
}
