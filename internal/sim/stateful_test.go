package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// isStateful says whether a manifest is a StatefulSet's.
func isStateful(manifest string) bool { return strings.Contains(manifest, "kind: StatefulSet") }

func (w *world) statefulSet(name string) (*appsv1.StatefulSet, error) {
	return w.client.AppsV1().StatefulSets(namespace).Get(context.Background(), name, metav1.GetOptions{})
}

func (w *world) applyStateful(manifest string) error {
	var set appsv1.StatefulSet
	if err := yaml.UnmarshalStrict([]byte(manifest), &set); err != nil {
		return err
	}
	body, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		return err
	}
	force := true
	_, err = w.client.AppsV1().StatefulSets(namespace).Patch(context.Background(), set.Name, types.ApplyPatchType, body,
		metav1.PatchOptions{FieldManager: "sim", Force: &force})
	return err
}

// statefulPod returns a pod of a StatefulSet by its name.
func (w *world) statefulPod(name string) (*corev1.Pod, error) {
	return w.client.CoreV1().Pods(namespace).Get(context.Background(), name, metav1.GetOptions{})
}

// describeStateful tells of all StatefulSets and their pods.
func (w *world) describeStateful(pods []corev1.Pod) string {
	var b strings.Builder
	sets, err := w.client.AppsV1().StatefulSets(namespace).List(context.Background(), listAll)
	if err != nil {
		w.t.Fatalf("list stateful sets: %v", err)
	}
	for _, set := range sets.Items {
		fmt.Fprintf(&b, "%s: %d wanted, %d updated, %d available\n", set.Name, *set.Spec.Replicas, set.Status.UpdatedReplicas, set.Status.AvailableReplicas)
		var lines []string
		for i := range pods {
			if metav1.IsControlledBy(&pods[i], &set) {
				state := map[bool]string{true: "ready", false: "not ready"}[ready(&pods[i])]
				if !staying(&pods[i]) {
					state = "stopping"
				}
				lines = append(lines, fmt.Sprintf("  %s: %s, %s\n", pods[i].Name, pods[i].Spec.Containers[0].Image, state))
			}
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}

// statefulSettled says whether all pods of a StatefulSet are as they should be,
// and no others are there, and the monitor has seen it all.
func (w *world) statefulSettled(set *appsv1.StatefulSet) bool {
	n := 0
	for _, pod := range w.pods() {
		if !w.monitor.knows(&pod) {
			return false
		}
		if metav1.IsControlledBy(&pod, set) {
			n++
		}
	}
	return statefulComplete(set) && w.monitor.knows(set) && n == int(*set.Spec.Replicas)
}

func statefulComplete(set *appsv1.StatefulSet) bool {
	s := set.Status
	return s.ObservedGeneration >= set.Generation && s.UpdatedReplicas == *set.Spec.Replicas &&
		s.Replicas == *set.Spec.Replicas && s.AvailableReplicas == *set.Spec.Replicas && s.CurrentRevision == s.UpdateRevision
}

// statefulSet takes the bounds of a StatefulSet, the widest since it was last
// complete.
func (r *replay) statefulSet(set *appsv1.StatefulSet) {
	replicas := int(*set.Spec.Replicas)
	unavailable := 1
	if rolling := set.Spec.UpdateStrategy.RollingUpdate; rolling != nil && rolling.MaxUnavailable != nil {
		unavailable, _ = intstr.GetScaledValueFromIntOrPercent(rolling.MaxUnavailable, replicas, true)
	}
	now, before := bounds{replicas, max(0, replicas-unavailable)}, r.allowed[set.Name]
	if _, known := r.allowed[set.Name]; known && !statefulComplete(set) {
		now.most, now.least = max(now.most, before.most), min(now.least, before.least)
	}
	r.allowed[set.Name], r.deployments[set.UID], r.most[set.UID] = now, set.Name, now.most
}

// successor holds that a pod of a StatefulSet is made when its predecessor is gone.
func (r *replay) successor(pod *corev1.Pod) {
	for uid, other := range r.pods {
		if uid != pod.UID && other.Name == pod.Name {
			r.say(pod, "was made while there was another of its name")
		}
	}
}
