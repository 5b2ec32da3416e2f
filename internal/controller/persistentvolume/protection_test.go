package persistentvolume

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/controllertest"
)

func cluster(t *testing.T) client.Client {
	return controllertest.Start(t, func(mgr ctrl.Manager) error { return Setup(mgr, record.NewFakeRecorder(10_000)) })
}

func create(t *testing.T, c client.Client, object client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func podUsing(name, node string, v corev1.VolumeSource) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}, Volumes: []corev1.Volume{{Name: "v", VolumeSource: v}}},
	}
}

func plainClaim(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       claimSpec(),
	}
}

func claimSpec() corev1.PersistentVolumeClaimSpec {
	return corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}
}

// TestClaimProtection: a claim that is deleted goes at once where no pod with a node
// uses it, else when the last such pod is gone.
func TestClaimProtection(t *testing.T) {
	c := cluster(t)
	gone := func(name string) func() bool {
		return func() bool {
			return apierrors.IsNotFound(c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &corev1.PersistentVolumeClaim{}))
		}
	}
	use := func(name string) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
	}
	for _, name := range []string{"used", "wanted", "free"} {
		create(t, c, plainClaim(name))
	}
	user := podUsing("user", "a", use("used"))
	create(t, c, user)
	create(t, c, podUsing("wants", "", use("wanted")))
	for _, name := range []string{"used", "wanted", "free"} {
		if err := c.Delete(t.Context(), plainClaim(name)); err != nil {
			t.Fatal(err)
		}
	}
	controllertest.Eventually(t, "the claims that no pod with a node uses are gone", func() bool { return gone("wanted")() && gone("free")() })
	var used corev1.PersistentVolumeClaim
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "used"}, &used); err != nil || !slices.Contains(used.Finalizers, claimProtection) {
		t.Fatalf("the claim in use: %v, %v", used.Finalizers, err)
	}
	if err := c.Delete(t.Context(), user, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	controllertest.Eventually(t, "the claim is gone after its pod", gone("used"))
}

// TestEphemeralClaims: a pod's own claim has its template's labels and belongs to
// the pod; a claim of that name that is somebody else's is left alone.
func TestEphemeralClaims(t *testing.T) {
	c := cluster(t)
	foreign := plainClaim("second-v")
	create(t, c, foreign)
	template := corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "it"}}, Spec: claimSpec(),
	}}}
	first := podUsing("first", "", template)
	create(t, c, first)
	create(t, c, podUsing("second", "", template))
	var claim corev1.PersistentVolumeClaim
	controllertest.Eventually(t, "the pod has its claim", func() bool {
		return c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "first-v"}, &claim) == nil
	})
	if !metav1.IsControlledBy(&claim, first) || claim.Labels["of"] != "it" {
		t.Errorf("owners %v, labels %v", claim.OwnerReferences, claim.Labels)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(foreign), &claim); err != nil || len(claim.OwnerReferences) > 0 || claim.UID != foreign.UID {
		t.Errorf("the foreign claim: %v, owners %v", err, claim.OwnerReferences)
	}
}
