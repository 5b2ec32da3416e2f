package agent

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"windlass.dev/windlass/internal/agent/volume"
)

// TestClaimDirectories: where a pod's claims are on its node, and why they are not
// (yet).
func TestClaimDirectories(t *testing.T) {
	claim := func(name, volume string, mode corev1.PersistentVolumeAccessMode) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}}
		c.Spec.VolumeName, c.Spec.AccessModes = volume, []corev1.PersistentVolumeAccessMode{mode}
		if volume != "" {
			c.Status.Phase = corev1.ClaimBound
		}
		return c
	}
	local := func(name, node, uid string) *corev1.PersistentVolume {
		v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
		v.Spec.ClaimRef = &corev1.ObjectReference{UID: types.UID(uid)}
		v.Spec.Local = &corev1.LocalVolumeSource{Path: "/volumes/" + name}
		v.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
		return v
	}
	pod := func(name string, volumes ...corev1.Volume) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
		p.Spec.NodeName, p.Spec.Volumes = "a", volumes
		return p
	}
	uses := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
	}
	mine := claim("p-own", "own", corev1.ReadWriteOnce)
	mine.OwnerReferences = []metav1.OwnerReference{{UID: "p", Controller: ptr.To(true)}}
	first := pod("first", uses("one"))
	over := pod("earlier", uses("one"))
	over.Status.Phase = corev1.PodSucceeded
	objects := []client.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{corev1.LabelHostname: "a"}}},
		claim("waits", "", corev1.ReadWriteOnce),
		claim("here", "here", corev1.ReadWriteOnce), local("here", "a", "uid-here"),
		claim("far", "far", corev1.ReadWriteOnce), local("far", "b", "uid-far"),
		claim("lost", "gone", corev1.ReadWriteOnce),
		claim("wrong", "wrong", corev1.ReadWriteOnce), local("wrong", "a", "uid-other"),
		claim("one", "one", corev1.ReadWriteOncePod), local("one", "a", "uid-one"),
		mine, local("own", "a", "uid-p-own"),
		claim("p-foreign", "here", corev1.ReadWriteOnce),
		first, over,
	}
	brings := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
	}
	p := pod("p", brings("own"), brings("foreign"))
	for _, test := range []struct {
		pod  *corev1.Pod
		name string
		want string // the directory, or the error
	}{
		{p, "here", "/volumes/here"},
		{p, "p-own", "/volumes/own"},
		{p, "p-foreign", "PVC default/p-foreign was not created for pod default/p (pod is not owner)"},
		{p, "none", `persistentvolumeclaim "none" not found`},
		{p, "waits", "PVC default/waits is not bound"},
		{p, "far", "PersistentVolume far cannot be used on node a"},
		{p, "lost", "get PersistentVolume gone"},
		{p, "wrong", "PersistentVolume wrong is not bound to claim default/wrong"},
		{first, "one", "/volumes/one"},
		{pod("later"), "one", "volume uses the ReadWriteOncePod access mode and is already in use by another pod"},
	} {
		c := podClaims{t.Context(), fake.NewClientBuilder().WithObjects(objects...).Build(), test.pod}
		got, err := c.Claim(test.name)
		if err != nil && !strings.HasPrefix(err.Error(), test.want) || err == nil && got != (volume.Directory{Path: test.want, Owned: true}) {
			t.Errorf("%s, claim %s: %v, %v, want %s", test.pod.Name, test.name, got, err, test.want)
		}
	}
}
