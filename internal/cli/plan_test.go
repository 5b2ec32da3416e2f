package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/foresight"
)

func TestPlanUsage(t *testing.T) {
	for line, want := range map[string]string{
		"-f a.yaml -o wide":              "use text, json or yaml",
		"-f a.yaml deployment/web":       "leave out the name",
		"-f a.yaml --image x":            "leave out the name",
		"-f a.yaml --replicas 0":         "leave out the name",
		"":                               "say what would change",
		"deployment/web":                 "--image or --replicas",
		"deployment/web --replicas=-1":   "it must be 0 or more",
		"-f a.yaml":                      "",
		"deployment/web --replicas 0":    "",
		"deployment web --image b=i:1":   "",
		"deploy/web --image a --image b": "",
	} {
		cmd := newPlan()
		if err := cmd.ParseFlags(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		o := &planOptions{resized: cmd.Flags().Changed("replicas")}
		o.output, _ = cmd.Flags().GetString("output")
		o.replicas, _ = cmd.Flags().GetInt32("replicas")
		o.images, _ = cmd.Flags().GetStringArray("image")
		o.files.Filenames, _ = cmd.Flags().GetStringSlice("filename")
		err := o.check(cmd.Flags().Args())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestPlanPatch(t *testing.T) {
	one := &corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}
	two := &corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}, {Name: "log"}}, InitContainers: []corev1.Container{{Name: "init"}}}
	for _, test := range []struct {
		spec   *corev1.PodSpec
		images []string
		want   string // the patch, or a part of the error
	}{
		{one, []string{"web:2"}, `{"spec":{"replicas":4,"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`},
		{one, []string{"web=host:5000/web@sha256:0=1"}, `{"spec":{"replicas":4,"template":{"spec":{"containers":[{"name":"web","image":"host:5000/web@sha256:0=1"}]}}}}`},
		{two, []string{"log=l:1", "init=i:1"}, `{"spec":{"replicas":4,"template":{"spec":{"containers":[{"name":"log","image":"l:1"}],"initContainers":[{"name":"init","image":"i:1"}]}}}}`},
		{one, nil, `{"spec":{"replicas":4}}`},
		{two, []string{"web:2"}, "the containers are web, log, init"},
		{one, []string{"web="}, "write CONTAINER=IMAGE"},
		{one, []string{"other=x"}, "the containers are web"},
	} {
		o := &planOptions{images: test.images, replicas: 4, resized: true}
		patch, err := o.patch(test.spec)
		if err != nil && !strings.Contains(err.Error(), test.want) || err == nil && string(patch) != test.want {
			t.Errorf("%v: %s, %v; want %s", test.images, patch, err, test.want)
		}
	}
}

func TestPlanTells(t *testing.T) {
	blocked := &foresight.Plan{Others: []foresight.Other{{Kind: "Service", Name: "web", Action: foresight.Refused, Blocks: []foresight.Finding{{What: "no"}}}}}
	for output, want := range map[string]string{"text": "service/web: refused", "json": `"succeeds": false`, "yaml": "succeeds: false"} {
		var out bytes.Buffer
		var exit exitError
		if err := (&planOptions{output: output}).tell(blocked, &out); !errors.As(err, &exit) || exit.code != planBlocked {
			t.Errorf("%s: %v", output, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", output, out.String())
		}
	}
	if err := (&planOptions{output: "text"}).tell(&foresight.Plan{}, &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
}
