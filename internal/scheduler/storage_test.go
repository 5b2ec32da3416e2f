package scheduler

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"

	"windlass.dev/windlass/internal/scheduler/fit"
)

// learnOpenClaim makes known a claim "c" whose class waits for the first pod that uses it.
func learnOpenClaim(l *loop) (*storagev1.StorageClass, *corev1.PersistentVolumeClaim) {
	waits, name := storagev1.VolumeBindingWaitForFirstConsumer, "local"
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "windlass.dev/local", VolumeBindingMode: &waits}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &name}}
	l.learn(func(c *fit.Cluster) {
		c.SetClass(class)
		c.SetClaim(claim)
	})
	return class, claim
}

func usesClaim(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
}

// TestPodWaitsForItsClaim: the pod's claim is told the node that was decided, the
// pod keeps its place there while the volume is made, and is bound once it is.
func TestPodWaitsForItsClaim(t *testing.T) {
	for name, failures := range map[string]int{"at once": 0, "after writes that failed": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { waitForClaim(t, failures) })
		})
	}
}

func waitForClaim(t *testing.T, failures int) {
	api := &fakeAPI{bound: map[types.UID]string{}, fail: failures}
	l := start(t, api)
	l.setNode(makeNode("a"))
	_, claim := learnOpenClaim(l)
	l.setPod(makePod("p", requests("1500m"), usesClaim))
	synctest.Wait()
	time.Sleep(time.Second) // in the test's own time: writes that failed are tried again
	synctest.Wait()
	l.learn(func(c *fit.Cluster) { c.SetClaim(claim) }) // another claim changes, and this one's selection is not seen yet
	l.setPod(makePod("q", requests("1500m")))           // which would fit where p waits
	synctest.Wait()
	time.Sleep(time.Second)
	synctest.Wait()
	if api.nodes["c"] != "a" || len(api.bound) != 0 {
		t.Fatalf("the claim's node is %q, bound %v: want a, and no pod bound yet", api.nodes["c"], api.bound)
	}
	claim = claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volume.AnnSelectedNode, "a")
	l.learn(func(c *fit.Cluster) { c.SetClaim(claim) })
	synctest.Wait()
	if len(api.bound) != 0 {
		t.Fatalf("bound %v before the claim was", api.bound)
	}
	claim = claim.DeepCopy()
	claim.Spec.VolumeName = "v"
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volume.AnnBindCompleted, "yes")
	l.learn(func(c *fit.Cluster) {
		c.SetVolume(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}})
		c.SetClaim(claim)
	})
	synctest.Wait()
	if len(api.bound) != 1 || api.bound["p"] != "a" {
		t.Fatalf("bound %v: want p on a, and q nowhere", api.bound)
	}
}

// A pod that waits keeps its place while its claim is seen bound and the volume is not
// yet seen: its data is there. One that is being deleted does not.
func TestPlaceOfPodThatWaits(t *testing.T) {
	for name, gone := range map[string]bool{"the volume is late": false, "the pod is going": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { keepPlace(t, gone) })
		})
	}
}

func keepPlace(t *testing.T, gone bool) {
	api := &fakeAPI{bound: map[types.UID]string{}}
	l := start(t, api)
	l.setNode(makeNode("a"))
	_, claim := learnOpenClaim(l)
	l.setPod(makePod("p", requests("1500m"), usesClaim))
	synctest.Wait()
	l.setPod(makePod("q", requests("1500m"))) // which would fit where p waits
	synctest.Wait()
	want := map[types.UID]string{}
	if gone {
		l.setPod(makePod("p", requests("1500m"), usesClaim, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }))
		want["q"] = "a"
	} else {
		claim = claim.DeepCopy()
		claim.Spec.VolumeName = "v"
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, volume.AnnBindCompleted, "yes")
		l.learn(func(c *fit.Cluster) { c.SetClaim(claim) })
		synctest.Wait()
		l.learn(func(c *fit.Cluster) { c.SetVolume(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}) })
		want["p"] = "a"
	}
	synctest.Wait()
	if !maps.Equal(api.bound, want) {
		t.Errorf("bound %v, want %v", api.bound, want)
	}
}

// A pod that waits for its claim stays with the node that was selected for it,
// also when another has become better before the selection is seen: its volume may
// be made there already, and others count on its place.
func TestPodStaysWhereItsClaimGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{bound: map[types.UID]string{}}
		l := start(t, api)
		l.setNode(makeNode("a"))
		l.setNode(makeNode("b"))
		class, _ := learnOpenClaim(l)
		l.setPod(makePod("p", requests("100m"), usesClaim))
		synctest.Wait()
		selected := api.nodes["c"]
		l.setPod(makePod("q", requests("1500m"), on(selected)))
		l.learn(func(c *fit.Cluster) { c.SetClass(class) }) // all that wait are looked at again
		synctest.Wait()
		if selected == "" || api.nodes["c"] != selected {
			t.Errorf("the claim's node is %q, and was %q before", api.nodes["c"], selected)
		}
	})
}
