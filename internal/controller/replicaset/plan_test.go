package replicaset

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var now = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func newReplicaSet(replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "httpd", Namespace: "default", UID: "set", Generation: 2},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "httpd"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "httpd", "tier": "web"}, Annotations: map[string]string{"a": "b"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "httpd", Image: "httpd:1"}}},
			},
		},
	}
}

func setOf(t testing.TB, rs *appsv1.ReplicaSet) Set {
	t.Helper()
	set, err := replicaSets.read(rs)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// pod returns a pod of the set, changed by the given functions.
func pod(name string, rs *appsv1.ReplicaSet, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "httpd"},
		CreationTimestamp: metav1.NewTime(now.Add(-time.Hour)),
		OwnerReferences:   []metav1.OwnerReference{*metav1.NewControllerRef(rs, replicaSets.GroupVersionKind)},
	}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func ready(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeName, p.Status.Phase = "node", corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}}
	}
}

func phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase = "node", phase }
}

func orphaned(p *corev1.Pod)  { p.OwnerReferences = nil }
func foreign(p *corev1.Pod)   { p.OwnerReferences[0].UID = "other" }
func relabeled(p *corev1.Pod) { p.Labels = map[string]string{"app": "nginx"} }
func stopping(p *corev1.Pod)  { p.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }
func onNode(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeName = node }
}

func names(pods []*corev1.Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func TestDecide(t *testing.T) {
	rs := newReplicaSet(2)
	gone := newReplicaSet(2)
	gone.DeletionTimestamp = ptr.To(metav1.NewTime(now))
	tests := []struct {
		name string
		rs   *appsv1.ReplicaSet
		pods []*corev1.Pod
		want string
	}{
		{"no pods", rs, nil, "create 2"},
		{"enough", rs, []*corev1.Pod{pod("a", rs), pod("b", rs)}, ""},
		{"too few", rs, []*corev1.Pod{pod("a", rs)}, "create 1"},
		{"too many", rs, []*corev1.Pod{pod("a", rs, ready(0)), pod("b", rs), pod("c", rs, ready(0))}, "delete b"},
		{"stopping pods are replaced", rs, []*corev1.Pod{pod("a", rs), pod("b", rs, stopping)}, "create 1"},
		{"finished pods are replaced", rs, []*corev1.Pod{pod("a", rs, phase(corev1.PodFailed)), pod("b", rs, phase(corev1.PodSucceeded))}, "create 2"},
		{"orphans are adopted", rs, []*corev1.Pod{pod("a", rs, orphaned), pod("b", rs)}, "adopt a"},
		{"surplus orphans are adopted, then deleted", rs, []*corev1.Pod{pod("a", rs, ready(0)), pod("b", rs, ready(0)), pod("c", rs, orphaned)}, "adopt c delete c"},
		{"other labels are not adopted", rs, []*corev1.Pod{pod("a", rs, orphaned, relabeled)}, "create 2"},
		{"stopping orphans are not adopted", rs, []*corev1.Pod{pod("a", rs, orphaned, stopping)}, "create 2"},
		{"pods of others are left alone", rs, []*corev1.Pod{pod("a", rs, foreign)}, "create 2"},
		{"relabeled pods are released and replaced", rs, []*corev1.Pod{pod("a", rs, relabeled), pod("b", rs)}, "release a create 1"},
		{"a set being deleted does nothing", gone, []*corev1.Pod{pod("a", gone, relabeled), pod("b", gone, orphaned)}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan := Decide(Snapshot{Set: setOf(t, test.rs), Pods: test.pods, Now: now})
			var got []string
			if len(plan.Adopt) > 0 {
				got = append(got, "adopt "+names(plan.Adopt))
			}
			if len(plan.Release) > 0 {
				got = append(got, "release "+names(plan.Release))
			}
			if plan.Create > 0 {
				got = append(got, fmt.Sprintf("create %d", plan.Create))
			}
			if len(plan.Delete) > 0 {
				got = append(got, "delete "+names(plan.Delete))
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q (%s)", strings.Join(got, " "), test.want, plan.Why)
			}
		})
	}
}

func TestDecideInBursts(t *testing.T) {
	rs := newReplicaSet(burst + 1)
	if plan := Decide(Snapshot{Set: setOf(t, rs), Now: now}); plan.Create != burst || !plan.More {
		t.Errorf("create %d, more %v", plan.Create, plan.More)
	}
}

// TestRank holds the order in which pods go: each pod of the list goes before
// those below it, for the reason given.
func TestRank(t *testing.T) {
	rs := newReplicaSet(0)
	cost := func(c string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.PodDeletionCost: c} }
	}
	restarted := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
	}
	old := func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-2 * time.Hour)) }
	order := []*corev1.Pod{
		pod("on-no-node", rs),
		pod("pending", rs, phase(corev1.PodPending)),
		pod("unknown", rs, phase(corev1.PodUnknown)),
		pod("not-ready", rs, phase(corev1.PodRunning)),
		pod("cheap", rs, ready(time.Hour), cost("-1")),
		pod("crowded", rs, ready(time.Hour), onNode("crowded")),
		pod("ready-lately", rs, ready(time.Minute)),
		pod("restarted", rs, ready(time.Hour), restarted(3)),
		pod("young", rs, ready(time.Hour)),
		pod("old-a", rs, ready(time.Hour), old),
		pod("old-b", rs, ready(time.Hour), old),
		pod("dear", rs, phase(corev1.PodRunning), ready(0), cost("7")),
	}
	siblings := []*corev1.Pod{}
	for i := range 20 {
		siblings = append(siblings, pod(fmt.Sprint("other-", i), rs, onNode("crowded")))
	}
	want := names(order)
	for seed := range int64(50) {
		shuffled := slices.Clone(order)
		rand.New(rand.NewSource(seed)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		rank(shuffled, append(slices.Clone(siblings), order...))
		if got := names(shuffled); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

func TestStatusOf(t *testing.T) {
	rs := newReplicaSet(4)
	rs.Spec.MinReadySeconds = 10
	full := func(p *corev1.Pod) { p.Labels["tier"] = "web" }
	pods := []*corev1.Pod{
		pod("available", rs, ready(time.Minute), full),
		pod("ready", rs, ready(3*time.Second)),
		pod("pending", rs),
		pod("stopping", rs, ready(time.Minute), stopping),
		pod("failed", rs, phase(corev1.PodFailed)),
		pod("released", rs, relabeled),
		pod("foreign", rs, foreign),
	}
	status, wake := StatusOf(Snapshot{Set: setOf(t, rs), Pods: pods, Now: now}, nil)
	got := fmt.Sprintf("%d %d %d %d %d %d", status.Replicas, status.FullyLabeledReplicas, status.ReadyReplicas,
		status.AvailableReplicas, *status.TerminatingReplicas, status.ObservedGeneration)
	if got != "3 1 2 1 1 2" {
		t.Errorf("got %s", got)
	}
	if after := wake.Sub(now); after != 7*time.Second {
		t.Errorf("wake after %s, want 7s", after)
	}
	first := &Failure{Reason: ReasonFailedCreate, Message: "quota", Since: metav1.NewTime(now.Add(-time.Minute))}
	set := setOf(t, rs)
	set.Status.Failure = first
	again := &Failure{Reason: ReasonFailedCreate, Message: "quota for another name", Since: metav1.NewTime(now)}
	if status, _ = StatusOf(Snapshot{Set: set, Now: now}, again); status.Failure != first {
		t.Errorf("the same failure again: %+v", status.Failure)
	}
	if status, _ = StatusOf(Snapshot{Set: set, Now: now}, nil); status.Failure != nil {
		t.Errorf("the failure is over: %+v", status.Failure)
	}
}

func TestPodName(t *testing.T) {
	zero := func(int) int { return 0 }
	if got := podName("httpd-5f8c", zero); got != "httpd-5f8c-bbbbb" {
		t.Error(got)
	}
	if got := podName(strings.Repeat("x", 200), zero); len(got) != 63 {
		t.Errorf("%d letters", len(got))
	}
}

func TestNewPod(t *testing.T) {
	rs := newReplicaSet(1)
	set := setOf(t, rs)
	p := newPod(&set, replicaSets.GroupVersionKind, "httpd-abcde")
	owner := metav1.GetControllerOf(p)
	if owner == nil || owner.UID != rs.UID || owner.Kind != "ReplicaSet" || owner.APIVersion != "apps/v1" || !*owner.BlockOwnerDeletion {
		t.Errorf("owner %+v", owner)
	}
	if p.Labels["tier"] != "web" || p.Annotations["a"] != "b" || p.GenerateName != "httpd-" || p.Spec.Containers[0].Image != "httpd:1" {
		t.Errorf("not as the template: %+v", p)
	}
	p.Labels["x"] = "y"
	if rs.Spec.Template.Labels["x"] != "" {
		t.Error("the pod shares its labels with the template")
	}
}
