package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

var listAll = metav1.ListOptions{}

// list reads all objects of a kind from the API.
func list[T, L any](w *world, what string, read func(context.Context) (*L, error)) []T {
	w.t.Helper()
	got, err := read(context.Background())
	if err != nil {
		w.t.Fatalf("list %s: %v", what, err)
	}
	switch items := any(got).(type) {
	case *corev1.NodeList:
		return any(items.Items).([]T)
	case *corev1.PodList:
		return any(items.Items).([]T)
	case *appsv1.ReplicaSetList:
		return any(items.Items).([]T)
	case *appsv1.DeploymentList:
		return any(items.Items).([]T)
	}
	panic("sim: no such list")
}

func (w *world) pods() []corev1.Pod {
	return list[corev1.Pod](w, "pods", func(ctx context.Context) (*corev1.PodList, error) {
		return w.client.CoreV1().Pods(namespace).List(ctx, listAll)
	})
}

// sets returns the ReplicaSets of a Deployment, the first made first: rs1, rs2.
func (w *world) sets(deployment string) []appsv1.ReplicaSet {
	sets := list[appsv1.ReplicaSet](w, "replica sets", func(ctx context.Context) (*appsv1.ReplicaSetList, error) {
		return w.client.AppsV1().ReplicaSets(namespace).List(ctx, listAll)
	})
	sets = slices.DeleteFunc(sets, func(rs appsv1.ReplicaSet) bool {
		owner := metav1.GetControllerOf(&rs)
		return owner == nil || owner.Name != deployment
	})
	slices.SortFunc(sets, func(a, b appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(w.born(a.UID), w.born(b.UID)))
	})
	return sets
}

// born is the version at which an object was first seen.
func (w *world) born(uid types.UID) uint64 {
	w.monitor.mu.Lock()
	defer w.monitor.mu.Unlock()
	for _, c := range w.monitor.changes {
		if c.object.GetUID() == uid {
			return c.version
		}
	}
	return 1 << 63
}

func (w *world) deployment(name string) (*appsv1.Deployment, error) {
	return w.client.AppsV1().Deployments(namespace).Get(context.Background(), name, metav1.GetOptions{})
}

// apply makes a Deployment be what its manifest says.
func (w *world) apply(manifest string) error {
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict([]byte(manifest), &d); err != nil {
		return err
	}
	body, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		return err
	}
	force := true
	_, err = w.client.AppsV1().Deployments(namespace).Patch(context.Background(), d.Name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: "sim", Force: &force})
	return err
}

func (w *world) patch(name string, spec map[string]any) error {
	body, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return err
	}
	if _, no := w.statefulSet(name); no == nil {
		_, err = w.client.AppsV1().StatefulSets(namespace).Patch(context.Background(), name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
		return err
	}
	_, err = w.client.AppsV1().Deployments(namespace).Patch(context.Background(), name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
	return err
}

func (w *world) setImage(name, image string) error {
	return w.patch(name, map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": "web", "image": image}}}}})
}

// undo gives a Deployment the template of the revision before, as kubectl does.
func (w *world) undo(name string) error {
	d, err := w.deployment(name)
	if err != nil {
		return err
	}
	sets := w.sets(name)
	slices.SortFunc(sets, func(a, b appsv1.ReplicaSet) int { return cmp.Compare(revision(&b), revision(&a)) })
	if len(sets) < 2 {
		return errors.New("there is no revision to go back to")
	}
	template := sets[1].Spec.Template.DeepCopy()
	delete(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	d.Spec.Template = *template
	body, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec/template", "value": d.Spec.Template}})
	if err != nil {
		return err
	}
	_, err = w.client.AppsV1().Deployments(namespace).Patch(context.Background(), name, types.JSONPatchType, body, metav1.PatchOptions{})
	return err
}

func revision(rs *appsv1.ReplicaSet) int {
	n, _ := strconv.Atoi(rs.Annotations["deployment.kubernetes.io/revision"])
	return n
}

// podOf returns a pod that stays of a set, ready if there is one.
func (w *world) podOf(deployment, set string) (*corev1.Pod, error) {
	number, err := strconv.Atoi(strings.TrimPrefix(set, "rs"))
	sets := w.sets(deployment)
	if err != nil || number < 1 || number > len(sets) {
		return nil, fmt.Errorf("no replica set %q of %d", set, len(sets))
	}
	var found *corev1.Pod
	for _, pod := range w.pods() {
		if owner := metav1.GetControllerOf(&pod); owner != nil && owner.UID == sets[number-1].UID && staying(&pod) && (found == nil || ready(&pod)) {
			found = &pod
		}
	}
	if found == nil {
		return nil, fmt.Errorf("replica set %s has no pod", set)
	}
	return found, nil
}

// harm does something to a pod that no controller does.
func (w *world) harm(how string, pod *corev1.Pod) error {
	w.monitor.disrupt(pod)
	node := w.fleet.Node(pod.Spec.NodeName)
	if node == nil && how != "kill" {
		return fmt.Errorf("pod %s runs nowhere", pod.Name)
	}
	switch how {
	case "kill":
		return w.client.CoreV1().Pods(namespace).Delete(context.Background(), pod.Name, metav1.DeleteOptions{})
	case "crash":
		for _, c := range node.Containers() {
			if c.PodUID == string(pod.UID) {
				node.End(c.ID, 1)
			}
		}
	case "unready":
		node.SetReady(string(pod.UID), false)
	case "ready":
		node.SetReady(string(pod.UID), true)
	}
	return nil
}

// describe tells of all Deployments: no names that hashes or chance have given.
func (w *world) describe() string {
	var b strings.Builder
	deployments := list[appsv1.Deployment](w, "deployments", func(ctx context.Context) (*appsv1.DeploymentList, error) {
		return w.client.AppsV1().Deployments(namespace).List(ctx, listAll)
	})
	pods := w.pods()
	for _, d := range deployments {
		fmt.Fprintf(&b, "%s: %d wanted, %d updated, %d available\n", d.Name, *d.Spec.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas)
		for i, rs := range w.sets(d.Name) {
			fmt.Fprintf(&b, "  rs%d: revision %d, %s, %d replicas%s\n", i+1, revision(&rs), rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas, podsOf(&rs, pods))
		}
	}
	return b.String() + w.describeStateful(pods)
}

// podsOf counts the pods of a set by what they do.
func podsOf(rs *appsv1.ReplicaSet, pods []corev1.Pod) string {
	counts := map[string]int{}
	for i := range pods {
		owner := metav1.GetControllerOf(&pods[i])
		switch {
		case owner == nil || owner.UID != rs.UID || !staying(&pods[i]):
		case ready(&pods[i]):
			counts["ready"]++
		default:
			counts["not ready"]++
		}
	}
	var text strings.Builder
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&text, ", %d %s", counts[state], state)
	}
	return text.String()
}

// settled waits until a Deployment is complete, only its pods are there, and the
// monitor has seen it all.
func (w *world) settled(name string) {
	w.t.Helper()
	w.eventually(name+" is complete and has settled", func() bool {
		if set, err := w.statefulSet(name); err == nil {
			return w.statefulSettled(set)
		}
		d, err := w.deployment(name)
		if err != nil || !complete(d) || !w.monitor.knows(d) {
			return false
		}
		pods := 0
		for _, pod := range w.pods() {
			if !w.monitor.knows(&pod) {
				return false
			}
			if pod.Labels["app"] == name {
				pods++
			}
		}
		for _, rs := range w.sets(name) {
			if !w.monitor.knows(&rs) {
				return false
			}
		}
		return pods == int(*d.Spec.Replicas)
	})
}

// promises fails the test for each promise that was broken.
func (w *world) promises() {
	w.t.Helper()
	for _, broken := range w.monitor.check() {
		w.t.Error(broken)
	}
}
