package localvolume

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

func makeClaim(name string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{
			volume.AnnStorageProvisioner: v1alpha1.LocalProvisioner, volume.AnnSelectedNode: "a",
		}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("local"),
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

var localClass = &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: v1alpha1.LocalProvisioner}

// TestWhatIsAsked: a claim asks the node that is selected for it, until it has a
// volume or is being deleted; what a directory cannot be is refused.
func TestWhatIsAsked(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for _, test := range []struct {
		name   string
		change func(*corev1.PersistentVolumeClaim)
		asked  bool
		refuse string
	}{
		{"this node", func(*corev1.PersistentVolumeClaim) {}, true, ""},
		{"another node", func(c *corev1.PersistentVolumeClaim) { c.Annotations[volume.AnnSelectedNode] = "b" }, false, ""},
		{"no node yet", func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, volume.AnnSelectedNode) }, false, ""},
		{"another provisioner", func(c *corev1.PersistentVolumeClaim) { c.Annotations[volume.AnnStorageProvisioner] = "other" }, false, ""},
		{"it has one", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" }, false, ""},
		{"it is going", func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = ptr.To(metav1.Now()) }, false, ""},
		{"a block device", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = &block }, true, "volumeMode Block is not supported"},
		{"a copy", func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSource = &corev1.TypedLocalObjectReference{} }, true, "volumes begin empty"},
		{"by labels", func(c *corev1.PersistentVolumeClaim) { c.Spec.Selector = &metav1.LabelSelector{} }, true, "claim.Spec.Selector is not supported"},
	} {
		c := makeClaim("c", test.change)
		if got := asked(c, "a"); got != test.asked {
			t.Errorf("%s: asked %v", test.name, got)
		}
		if got := refusal(c, localClass); test.refuse == "" && got != "" || !strings.HasPrefix(got, test.refuse) {
			t.Errorf("%s: refused with %q, want %q", test.name, got, test.refuse)
		}
	}
	for want, class := range map[string]*storagev1.StorageClass{
		"the class has parameters, of which there are none: [type]":      {Parameters: map[string]string{"type": "ssd"}},
		"the class has mountOptions, of which there are none: [noatime]": {MountOptions: []string{"noatime"}},
	} {
		if got := refusal(makeClaim("c"), class); got != want {
			t.Errorf("refused with %q, want %q", got, want)
		}
	}
}

// TestVolumeDeeds: when a node grows a volume, deletes its data, or keeps its data
// and lets go of the object.
func TestVolumeDeeds(t *testing.T) {
	bound := makeClaim("c", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pvc-uid-c" })
	larger := bound.DeepCopy()
	larger.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	elsewhere := makeClaim("c", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "other" })
	retain := func(v *corev1.PersistentVolume) {
		v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	going := func(v *corev1.PersistentVolume) { v.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
	protected := func(v *corev1.PersistentVolume) { v.Finalizers = append(v.Finalizers, protection) }
	in := func(p corev1.PersistentVolumePhase) func(*corev1.PersistentVolume) {
		return func(v *corev1.PersistentVolume) { v.Status.Phase = p }
	}
	type change = func(*corev1.PersistentVolume)
	for _, test := range []struct {
		name    string
		changes []change
		claim   *corev1.PersistentVolumeClaim
		want    string
	}{
		{"new", []change{in(corev1.VolumePending)}, makeClaim("c"), ""},
		{"bound", []change{in(corev1.VolumeBound)}, bound, ""},
		{"bound, and its claim is not known yet", []change{in(corev1.VolumeBound)}, nil, ""},
		{"its claim wants more", []change{in(corev1.VolumeBound)}, larger, "grow 2Gi"},
		{"released", []change{in(corev1.VolumeReleased)}, nil, "remove"},
		{"released, for its claim has another", []change{in(corev1.VolumeReleased)}, elsewhere, "remove"},
		{"released and retained", []change{in(corev1.VolumeReleased), retain}, nil, ""},
		{"deleted while bound", []change{in(corev1.VolumeBound), going, protected}, bound, ""},
		{"deleted, and nobody has looked whether it is in use", []change{in(corev1.VolumeReleased), going, protected}, nil, ""},
		{"deleted and released", []change{in(corev1.VolumeReleased), going}, nil, "remove"},
		{"deleted before it was bound", []change{in(corev1.VolumeAvailable), going}, makeClaim("c"), "remove"},
		{"deleted and retained", []change{in(corev1.VolumeReleased), going, retain}, nil, "let go"},
	} {
		v := volumeFor(makeClaim("c"), localClass, "a", "/volumes/pvc-uid-c", "enforced")
		for _, f := range test.changes {
			f(v)
		}
		d := planVolume(v, test.claim)
		got := ""
		switch {
		case d.Grow != nil:
			got = "grow " + d.Grow.String()
		case d.Remove:
			got = "remove"
		case d.LetGo:
			got = "let go"
		}
		if got != test.want || d.Why == "" {
			t.Errorf("%s: %q (%s), want %q", test.name, got, d.Why, test.want)
		}
	}
}

// TestMade: only what this node made itself, at the place where it makes it, is ever deleted.
func TestMade(t *testing.T) {
	v := volumeFor(makeClaim("c"), localClass, "a", "/volumes/pvc-uid-c", "enforced")
	hand := v.DeepCopy()
	hand.Annotations = nil
	for _, test := range []struct {
		v          *corev1.PersistentVolume
		node, path string
		want       bool
	}{
		{v, "a", "/volumes/pvc-uid-c", true}, {v, "b", "/volumes/pvc-uid-c", false},
		{v, "a", "/elsewhere/pvc-uid-c", false}, {hand, "a", "/volumes/pvc-uid-c", false},
	} {
		if got := made(test.v, test.node, test.path); got != test.want {
			t.Errorf("%s at %s: %v", test.node, test.path, got)
		}
	}
}
