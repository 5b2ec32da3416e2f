package apiserver_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

func claim(name string, class *string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			StorageClassName: class,
		},
	}
}

func class(name string, isDefault, grows bool) *storagev1.StorageClass {
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "example.com/" + name, AllowVolumeExpansion: &grows}
	if isDefault {
		c.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	}
	return c
}

// TestDefaultClass: a claim without a class gets the newest default one, a claim
// for no class ("") keeps that, and without a default nothing is filled in.
func TestDefaultClass(t *testing.T) {
	client, _ := start(t)
	claims, classes := client.CoreV1().PersistentVolumeClaims("default"), client.StorageV1().StorageClasses()
	make := func(name string, class *string) string {
		t.Helper()
		made := must[*corev1.PersistentVolumeClaim](t)(claims.Create(t.Context(), claim(name, class), metav1.CreateOptions{}))
		if made.Status.Phase != corev1.ClaimPending || !slices.Contains(made.Finalizers, "kubernetes.io/pvc-protection") {
			t.Errorf("claim %s is %s with finalizers %v", name, made.Status.Phase, made.Finalizers)
		}
		return ptr.Deref(made.Spec.StorageClassName, "nil")
	}
	if got := make("before", nil); got != "nil" {
		t.Errorf("without a default class: %s", got)
	}
	for _, name := range []string{"b", "a"} {
		must[*storagev1.StorageClass](t)(classes.Create(t.Context(), class(name, true, false), metav1.CreateOptions{}))
	}
	must[*storagev1.StorageClass](t)(classes.Create(t.Context(), class("plain", false, false), metav1.CreateOptions{}))
	for _, test := range []struct {
		name  string
		class *string
		want  string
	}{{"none", ptr.To(""), ""}, {"own", ptr.To("plain"), "plain"}} {
		if got := make(test.name, test.class); got != test.want {
			t.Errorf("claim %s has class %q, want %q", test.name, got, test.want)
		}
	}
	// The two may have been made within one second, the grain of creation times.
	if got := make("default", nil); got != "a" {
		t.Errorf("the default class is %q, want a", got)
	}
	v := must[*corev1.PersistentVolume](t)(client.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
		},
	}, metav1.CreateOptions{}))
	if !slices.Contains(v.Finalizers, "kubernetes.io/pv-protection") || v.Status.Phase != corev1.VolumePending || v.Status.LastPhaseTransitionTime == nil {
		t.Errorf("the new volume has finalizers %v and status %+v", v.Finalizers, v.Status)
	}
}

// TestClaimGrows: only a bound claim of a class that allows it may ask for more.
func TestClaimGrows(t *testing.T) {
	client, _ := start(t)
	claims := client.CoreV1().PersistentVolumeClaims("default")
	for _, c := range []*storagev1.StorageClass{class("grows", false, true), class("stays", false, false)} {
		must[*storagev1.StorageClass](t)(client.StorageV1().StorageClasses().Create(t.Context(), c, metav1.CreateOptions{}))
	}
	for _, test := range []struct {
		class   string
		phase   corev1.PersistentVolumeClaimPhase
		refused string
	}{
		{"grows", corev1.ClaimBound, ""},
		{"stays", corev1.ClaimBound, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"},
		{"grows", corev1.ClaimPending, "spec is immutable after creation except resources.requests"},
	} {
		c := must[*corev1.PersistentVolumeClaim](t)(claims.Create(t.Context(), claim(strings.ToLower(test.class+"-"+string(test.phase)), &test.class), metav1.CreateOptions{}))
		c.Status.Phase = test.phase
		c = must[*corev1.PersistentVolumeClaim](t)(claims.UpdateStatus(t.Context(), c, metav1.UpdateOptions{}))
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
		if _, err := claims.Update(t.Context(), c, metav1.UpdateOptions{}); test.refused == "" && err != nil || test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)) {
			t.Errorf("%s, %s: %v, want %q", test.class, test.phase, err, test.refused)
		}
	}
}

// TestStorageWithKubectl: kubectl knows the kinds by their short names, and tells
// the maker of a volume what will not be done for it.
func TestStorageWithKubectl(t *testing.T) {
	run := kubectl(t, apiservertest.StartIn(t, t.TempDir()))
	output, err := run(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv1}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Recycle
  hostPath: {path: /data}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/fast
`, "apply -f -")
	if err != nil || !strings.Contains(output, "The Recycle reclaim policy is deprecated and not supported") {
		t.Errorf("apply: %v\n%s", err, output)
	}
	for args, want := range map[string]string{
		"get pv,pvc,sc":             "persistentvolume/pv1",
		"get sc":                    "Immediate",
		"describe pv pv1":           "HostPath (bare host directory volume)",
		"describe sc fast":          "example.com/fast",
		"explain sc.provisioner":    "provisioner",
		"explain pvc.spec.selector": "selector",
	} {
		if output, err := run("", args); err != nil || !strings.Contains(output, want) {
			t.Errorf("kubectl %s: %v\n%s", args, err, output)
		}
	}
}
