package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
	}
}

func bind(t *testing.T, client kubernetes.Interface, name, node string) error {
	t.Helper()
	return client.CoreV1().Pods("default").Bind(t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

func TestNewPodIsCompleted(t *testing.T) {
	client, _ := start(t)
	p := pod("p")
	p.Status.Phase = corev1.PodRunning // nobody but the agent may say so
	made := must[*corev1.Pod](t)(client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}))
	switch {
	case made.Status.Phase != corev1.PodPending || made.Status.QOSClass != corev1.PodQOSBestEffort:
		t.Errorf("status %+v", made.Status)
	case made.Spec.ServiceAccountName != "default" || made.Spec.DeprecatedServiceAccount != "default":
		t.Errorf("service account %q", made.Spec.ServiceAccountName)
	case len(made.Spec.Tolerations) != 2 || *made.Spec.Tolerations[0].TolerationSeconds != 300:
		t.Errorf("tolerations %v", made.Spec.Tolerations)
	case *made.Spec.Priority != 0 || *made.Spec.PreemptionPolicy != corev1.PreemptLowerPriority:
		t.Errorf("priority %v, %v", made.Spec.Priority, made.Spec.PreemptionPolicy)
	case made.Generation != 1:
		t.Errorf("generation %d", made.Generation)
	}
	p = pod("urgent")
	p.Spec.PriorityClassName = "mine"
	if _, err := client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an unknown priority class: %v", err)
	}
	p = pod("robot")
	p.Spec.ServiceAccountName = "robot"
	_, err := client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `error looking up service account default/robot: serviceaccounts "robot" not found`) {
		t.Errorf("an unknown service account: %v", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}
	must[*corev1.ServiceAccount](t)(client.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}))
	must[*corev1.Pod](t)(client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}))
}

func TestBindingGivesANodeOnce(t *testing.T) {
	client, _ := start(t)
	pods := client.CoreV1().Pods("default")
	must[*corev1.Pod](t)(pods.Create(t.Context(), pod("p"), metav1.CreateOptions{}))
	if err := bind(t, client, "p", "node-1"); err != nil {
		t.Fatal(err)
	}
	bound := must[*corev1.Pod](t)(pods.Get(t.Context(), "p", metav1.GetOptions{}))
	if bound.Spec.NodeName != "node-1" || len(bound.Status.Conditions) != 1 || bound.Status.Conditions[0].Type != corev1.PodScheduled {
		t.Errorf("bound pod: %q, %+v", bound.Spec.NodeName, bound.Status.Conditions)
	}
	err := bind(t, client, "p", "node-2")
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `pod p is already assigned to node "node-1"`) {
		t.Errorf("second binding: %v", err)
	}
	if err := bind(t, client, "nobody", "node-1"); !apierrors.IsNotFound(err) {
		t.Errorf("binding of no pod: %v", err)
	}
	if err := bind(t, client, "p", ""); !apierrors.IsInvalid(err) {
		t.Errorf("binding to no node: %v", err)
	}
	list := must[*corev1.PodList](t)(pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=node-1"}))
	if len(list.Items) != 1 {
		t.Errorf("%d pods on node-1", len(list.Items))
	}
}

func TestPodsAreDeletedGracefully(t *testing.T) {
	client, _ := start(t)
	pods := client.CoreV1().Pods("default")
	gone := func(name string) bool {
		_, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}
	for _, name := range []string{"waiting", "running", "quick", "evicted", "done"} {
		must[*corev1.Pod](t)(pods.Create(t.Context(), pod(name), metav1.CreateOptions{}))
		if name != "waiting" {
			if err := bind(t, client, name, "node-1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	deletePod := func(name string, options metav1.DeleteOptions) {
		t.Helper()
		if err := pods.Delete(t.Context(), name, options); err != nil {
			t.Fatal(err)
		}
	}
	zero, five := int64(0), int64(5)

	deletePod("waiting", metav1.DeleteOptions{})
	if !gone("waiting") {
		t.Error("a pod without a node is still there")
	}
	deletePod("running", metav1.DeleteOptions{})
	marked := must[*corev1.Pod](t)(pods.Get(t.Context(), "running", metav1.GetOptions{}))
	if marked.DeletionTimestamp == nil || *marked.DeletionGracePeriodSeconds != 30 {
		t.Errorf("marked: %v, %v", marked.DeletionTimestamp, marked.DeletionGracePeriodSeconds)
	}
	deletePod("running", metav1.DeleteOptions{GracePeriodSeconds: &five})
	shorter := must[*corev1.Pod](t)(pods.Get(t.Context(), "running", metav1.GetOptions{}))
	if *shorter.DeletionGracePeriodSeconds != 5 || !shorter.DeletionTimestamp.Before(marked.DeletionTimestamp) {
		t.Errorf("a shorter period: %d until %v, was until %v", *shorter.DeletionGracePeriodSeconds, shorter.DeletionTimestamp, marked.DeletionTimestamp)
	}
	deletePod("running", metav1.DeleteOptions{GracePeriodSeconds: &zero})
	if !gone("running") {
		t.Error("the agent's last word did not remove the pod")
	}
	deletePod("quick", metav1.DeleteOptions{GracePeriodSeconds: &zero})
	if !gone("quick") {
		t.Error("a pod deleted without grace is still there")
	}
	other := types.UID("another")
	err := pods.Delete(t.Context(), "done", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	if !apierrors.IsConflict(err) {
		t.Errorf("deletion of another pod of the name: %v", err)
	}
	done := must[*corev1.Pod](t)(pods.Get(t.Context(), "done", metav1.GetOptions{}))
	done.Status.Phase = corev1.PodSucceeded
	must[*corev1.Pod](t)(pods.UpdateStatus(t.Context(), done, metav1.UpdateOptions{}))
	deletePod("done", metav1.DeleteOptions{})
	if !gone("done") {
		t.Error("a pod that has ended is still there")
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "evicted"}}
	if err := pods.EvictV1(t.Context(), eviction); err != nil {
		t.Fatal(err)
	}
	if p := must[*corev1.Pod](t)(pods.Get(t.Context(), "evicted", metav1.GetOptions{})); p.DeletionTimestamp == nil {
		t.Error("the evicted pod is not being deleted")
	}
}

func TestSpecAndStatusHaveTheirOwners(t *testing.T) {
	client, _ := start(t)
	pods := client.CoreV1().Pods("default")
	made := must[*corev1.Pod](t)(pods.Create(t.Context(), pod("p"), metav1.CreateOptions{}))

	byAgent := made.DeepCopy()
	byAgent.Status.Phase, byAgent.Spec.Containers[0].Image = corev1.PodRunning, "changed"
	byAgent = must[*corev1.Pod](t)(pods.UpdateStatus(t.Context(), byAgent, metav1.UpdateOptions{}))
	if byAgent.Status.Phase != corev1.PodRunning || byAgent.Spec.Containers[0].Image != "busybox" || byAgent.Generation != 1 {
		t.Errorf("after a status update: %s, %s, generation %d", byAgent.Status.Phase, byAgent.Spec.Containers[0].Image, byAgent.Generation)
	}
	byUser := byAgent.DeepCopy()
	byUser.Status.Phase, byUser.Spec.Containers[0].Image = corev1.PodFailed, "changed"
	byUser = must[*corev1.Pod](t)(pods.Update(t.Context(), byUser, metav1.UpdateOptions{}))
	if byUser.Status.Phase != corev1.PodRunning || byUser.Spec.Containers[0].Image != "changed" || byUser.Generation != 2 {
		t.Errorf("after an update: %s, %s, generation %d", byUser.Status.Phase, byUser.Spec.Containers[0].Image, byUser.Generation)
	}
	if _, err := pods.Update(t.Context(), byAgent, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v", err)
	}
}
