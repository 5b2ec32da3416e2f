package environment

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "B": "$(A)", "": "empty"}
	for text, want := range map[string]string{
		"":              "",
		"plain":         "plain",
		"$(A)":          "1",
		"x$(A)y$(A)z":   "x1y1z",
		"$$(A)":         "$(A)",
		"$$$(A)":        "$1",
		"$(UNKNOWN)":    "$(UNKNOWN)",
		"$(B)":          "$(A)", // once, not again
		"$A ${A}":       "$A ${A}",
		"$(A":           "$(A",
		"$":             "$",
		"a$":            "a$",
		"$()":           "empty",
		"$($(A))":       "$($(A))",
		"100$ and $(A)": "100$ and 1",
	} {
		if got := Expand(text, lookupIn(values)); got != want {
			t.Errorf("Expand(%q) = %q, want %q", text, got, want)
		}
	}
}

// FuzzExpand: a text without a dollar sign stays, whatever happens nothing
// panics, and what is expanded to nothing known is as long as it was, less one
// for each escaped dollar.
func FuzzExpand(f *testing.F) {
	for _, text := range []string{"$(A)", "$$(A)", "$(", "$$", "a$(B)c$", "$($(A))"} {
		f.Add(text)
	}
	unknown := func(string) (string, bool) { return "", false }
	f.Fuzz(func(t *testing.T, text string) {
		got := Expand(text, unknown)
		if !strings.Contains(text, "$$") && got != text {
			t.Errorf("Expand(%q) with nothing known = %q", text, got)
		}
		if len(got) > len(text) {
			t.Errorf("Expand(%q) = %q, longer than before", text, got)
		}
	})
}

// objects is a Source of fixed objects.
type objects struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string]string
}

func (o objects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	data, ok := o.configMaps[name]
	if !ok {
		return nil, fmt.Errorf("configmap %q %w", name, ErrNotFound)
	}
	return &corev1.ConfigMap{Data: data}, nil
}

func (o objects) File(volume, path string) ([]byte, error) {
	if volume != "v" || path != "env" {
		return nil, fmt.Errorf("file %q in volume %q %w", path, volume, ErrNotFound)
	}
	return []byte("KEY='of a file'\n"), nil
}

func (o objects) Secret(name string) (*corev1.Secret, error) {
	data, ok := o.secrets[name]
	if !ok {
		return nil, fmt.Errorf("secret %q %w", name, ErrNotFound)
	}
	secret := &corev1.Secret{Data: map[string][]byte{}}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	return secret, nil
}

func TestBuild(t *testing.T) {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"app": "web"}}}
	source := objects{
		configMaps: map[string]map[string]string{"cm": {"A": "from-cm", "K": "v"}},
		secrets:    map[string]map[string]string{"s": {"T": "token"}},
	}
	name := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	value := func(from corev1.EnvVarSource) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "V", ValueFrom: &from}}
	}
	for _, test := range []struct {
		name string
		c    corev1.Container
		want []string
		err  string
	}{
		{"order and expansion", corev1.Container{
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("cm")}}, {Prefix: "P_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("s")}}},
			Env:     []corev1.EnvVar{{Name: "A", Value: "x-$(A)-$(SVC_HOST)-$(IMAGE)"}, {Name: "B", Value: "$(A)"}},
		}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1", "A=x-from-cm-10.0.0.1-$(IMAGE)", "K=v", "P_T=token", "B=x-from-cm-10.0.0.1-$(IMAGE)"}, ""},
		{"config map key", corev1.Container{Env: value(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("cm"), Key: "K"}})}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1", "V=v"}, ""},
		{"missing key", corev1.Container{Env: value(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name("cm"), Key: "none"}})}, nil, "couldn't find key none in ConfigMap ns/cm"},
		{"missing object", corev1.Container{Env: value(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("none"), Key: "K"}})}, nil, `secret "none" not found`},
		{"of a file", corev1.Container{Env: value(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "env", Key: "KEY"}})}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1", "V=of a file"}, ""},
		{"missing key of a file", corev1.Container{Env: value(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "env", Key: "NONE"}})}, nil, `environment variable key "NONE" not found in file "env" of volume "v"`},
		{"optional key of a file", corev1.Container{Env: value(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "env", Key: "NONE", Optional: &yes}})}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1"}, ""},
		{"missing file", corev1.Container{Env: value(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "none", Key: "K"}})}, nil, `file "none" in volume "v" not found`},
		{"optional file", corev1.Container{Env: value(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "none", Key: "K", Optional: &yes}})}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1"}, ""},
		{"optional", corev1.Container{Env: value(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name("none"), Key: "K", Optional: &yes}})}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1"}, ""},
		{"optional from", corev1.Container{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("none"), Optional: &yes}}}}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1"}, ""},
		{"from missing", corev1.Container{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("none")}}}}, nil, `configmap "none" not found`},
		{"field", corev1.Container{Env: value(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}})}, []string{"IMAGE=i", "SVC_HOST=10.0.0.1", "V=web"}, ""},
		{"unknown field", corev1.Container{Env: value(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.x"}})}, nil, "spec.x"},
	} {
		got, err := Build(pod, &test.c, []string{"IMAGE=i"}, map[string]string{"SVC_HOST": "10.0.0.1"}, source, Facts{})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s:\n got %q, %v\nwant %q", test.name, got, err, test.want)
		}
	}
}

func TestDownward(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Annotations: map[string]string{"b": "2", "a": `1"`}},
		Spec:       corev1.PodSpec{NodeName: "n", ServiceAccountName: "sa"},
	}
	facts := Facts{PodIPs: []string{"10.42.0.2"}, HostIPs: []string{"192.0.2.1"}, Allocatable: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("4Gi")}}
	for path, want := range map[string]string{
		"metadata.name": "p", "metadata.namespace": "ns", "metadata.uid": "u", "metadata.annotations": "a=\"1\\\"\"\nb=\"2\"",
		"metadata.annotations['b']": "2", "metadata.labels['none']": "", "spec.nodeName": "n", "spec.serviceAccountName": "sa",
		"status.podIP": "10.42.0.2", "status.hostIPs": "192.0.2.1",
	} {
		if got, err := Field(pod, path, facts); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	c := &corev1.Container{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("1500m")},
		Limits:   corev1.ResourceList{"memory": resource.MustParse("64Mi")},
	}}
	for _, test := range []struct{ name, divisor, want string }{
		{"requests.cpu", "0", "2"}, {"requests.cpu", "1m", "1500"}, {"limits.memory", "1Mi", "64"}, {"limits.memory", "0", "67108864"},
		{"limits.cpu", "1", "2"}, {"requests.memory", "1Mi", "64"},
	} {
		got, err := Resource(pod, c, &corev1.ResourceFieldSelector{Resource: test.name, Divisor: resource.MustParse(test.divisor)}, facts)
		if err != nil || got != test.want {
			t.Errorf("%s / %s: %q, %v, want %q", test.name, test.divisor, got, err, test.want)
		}
	}
	if _, err := Resource(pod, nil, &corev1.ResourceFieldSelector{Resource: "limits.cpu"}, facts); err == nil {
		t.Error("no container: no error")
	}
}

func TestServices(t *testing.T) {
	service := func(namespace, name, ip string, ports ...corev1.ServicePort) corev1.Service {
		return corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	list := []corev1.Service{
		service("default", "kubernetes", "10.43.0.1", corev1.ServicePort{Name: "https", Port: 443, Protocol: "TCP"}),
		service("ns", "my-db", "10.43.0.9", corev1.ServicePort{Name: "sql-main", Port: 5432}),
		service("ns", "headless", "None", corev1.ServicePort{Port: 1}),
		service("other", "far", "10.43.0.8", corev1.ServicePort{Port: 1}),
	}
	with, without := Services(list, "ns", true), Services(list, "ns", false)
	for name, want := range map[string]string{
		"KUBERNETES_SERVICE_HOST": "10.43.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"MY_DB_SERVICE_HOST": "10.43.0.9", "MY_DB_SERVICE_PORT_SQL_MAIN": "5432", "MY_DB_PORT": "tcp://10.43.0.9:5432",
		"MY_DB_PORT_5432_TCP_ADDR": "10.43.0.9", "MY_DB_PORT_5432_TCP_PROTO": "tcp", "FAR_SERVICE_HOST": "", "HEADLESS_SERVICE_HOST": "",
	} {
		if with[name] != want {
			t.Errorf("%s=%q, want %q", name, with[name], want)
		}
	}
	if without["KUBERNETES_SERVICE_HOST"] != "10.43.0.1" || without["MY_DB_SERVICE_HOST"] != "" {
		t.Errorf("without links: %v", without)
	}
}
