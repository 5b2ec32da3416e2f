package owned_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"

	"windlass.dev/windlass/internal/controller/controllertest"
	"windlass.dev/windlass/internal/controller/owned"
)

// TestPodsAreFoundByTheirController asks twice for the index, as controllers that
// share a cache do.
func TestPodsAreFoundByTheirController(t *testing.T) {
	var found []owned.Pods
	api := controllertest.Start(t, func(mgr ctrl.Manager) error {
		for range 2 {
			pods, err := owned.Cached(t.Context(), mgr.GetCache())
			if err != nil {
				return err
			}
			found = append(found, pods)
		}
		return nil
	})
	for name, owner := range map[string]types.UID{"a1": "a", "a2": "a", "b1": "b", "alone": ""} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		if owner != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Any", Name: "any", UID: owner, Controller: ptr.To(true)}}
		}
		if err := api.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		namespace  string
		controller types.UID
		want       []string
	}{
		{"default", "a", []string{"a1", "a2"}},
		{"default", "b", []string{"b1"}},
		{"default", owned.Nobody, []string{"alone"}},
		{"other", "a", nil},
	} {
		for _, pods := range found {
			controllertest.Eventually(t, string(c.controller)+" has its pods in "+c.namespace, func() bool {
				got, err := pods(t.Context(), c.namespace, c.controller)
				if err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, pod := range got {
					names = append(names, pod.Name)
				}
				slices.Sort(names)
				return slices.Equal(names, c.want)
			})
		}
	}
}
