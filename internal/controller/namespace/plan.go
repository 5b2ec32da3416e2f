package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The next look at a namespace that is not empty is after a quarter of the time
// that its deletion has taken, within these bounds. Pods that go are a reason
// to look at once.
const (
	firstLook = 50 * time.Millisecond
	lastLook  = 5 * time.Second
)

// sweep is what came of deleting a namespace's content.
type sweep struct {
	Undiscovered []string // groups that did not tell their kinds, with the reason
	Failed       []string // kinds that could not be deleted, with the reason
	Deleted      int      // objects that were there and were deleted by this sweep
	Remaining    []remains
}

// remains is what is left of a kind.
type remains struct {
	Resource   string         // "pods.", "deployments.apps"
	Count      int            // objects
	Finalizers map[string]int // objects that each finalizer holds
}

// step is what to do about a namespace after a sweep.
type step struct {
	Conditions []corev1.NamespaceCondition
	Finalize   bool          // take the finalizer off
	WakeAt     time.Duration // the next look from now on; 0 for never
	Why        string
}

// plan says what a sweep means for a namespace: it can go, or wait and say why.
// It goes after a sweep that found nothing at all, so that what was made in the
// moment of its deletion is not left behind.
func plan(namespace *corev1.Namespace, s sweep, now time.Time) step {
	if len(s.Undiscovered)+len(s.Failed)+len(s.Remaining) == 0 {
		if s.Deleted > 0 {
			return step{Conditions: namespace.Status.Conditions, WakeAt: firstLook, Why: "it was not empty a moment ago"}
		}
		return step{Conditions: namespace.Status.Conditions, Finalize: true, Why: "it is empty"}
	}
	elapsed := now.Sub(namespace.DeletionTimestamp.Time)
	next := step{
		Conditions: conditions(namespace.Status.Conditions, s, now),
		WakeAt:     min(max(elapsed/4, firstLook), lastLook),
	}
	for _, c := range next.Conditions {
		if c.Status == corev1.ConditionTrue {
			next.Why = c.Message
		}
	}
	return next
}

// conditions returns a namespace's conditions with those of a sweep put in, in
// the words of Kubernetes. A condition that stays keeps its time.
func conditions(before []corev1.NamespaceCondition, s sweep, now time.Time) []corev1.NamespaceCondition {
	all := slices.Clone(before)
	set := func(kind corev1.NamespaceConditionType, bad bool, reason, message, goodReason, goodMessage string) {
		c := corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message}
		if !bad {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, goodReason, goodMessage
		}
		c.LastTransitionTime = metav1.NewTime(now)
		i := slices.IndexFunc(all, func(o corev1.NamespaceCondition) bool { return o.Type == kind })
		if i < 0 {
			all = append(all, c)
			return
		}
		if all[i].Status == c.Status {
			c.LastTransitionTime = all[i].LastTransitionTime
		}
		all[i] = c
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, len(s.Undiscovered) > 0,
		"DiscoveryFailed", fmt.Sprintf("Discovery failed for some groups, %d failing: %s", len(s.Undiscovered), strings.Join(s.Undiscovered, ", ")),
		"ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, false, "", "",
		"ParsedGroupVersions", "All legacy kube types successfully parsed")
	set(corev1.NamespaceDeletionContentFailure, len(s.Failed) > 0,
		"ContentDeletionFailed", fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(s.Failed), strings.Join(s.Failed, ", ")),
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	set(corev1.NamespaceContentRemaining, len(s.Remaining) > 0,
		"SomeResourcesRemain", "Some resources are remaining: "+listRemaining(s.Remaining),
		"ContentRemoved", "All content successfully removed")
	held := finalizers(s.Remaining)
	set(corev1.NamespaceFinalizersRemaining, len(held) > 0,
		"SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+listFinalizers(held),
		"ContentHasNoFinalizers", "All content-preserving finalizers finished")
	return all
}

func listRemaining(all []remains) string {
	parts := make([]string, len(all))
	for i, r := range all {
		parts[i] = fmt.Sprintf("%s has %d resource instances", r.Resource, r.Count)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// finalizers sums up how many objects each finalizer holds.
func finalizers(all []remains) map[string]int {
	sum := map[string]int{}
	for _, r := range all {
		for f, n := range r.Finalizers {
			sum[f] += n
		}
	}
	return sum
}

func listFinalizers(held map[string]int) string {
	var parts []string
	for _, f := range slices.Sorted(maps.Keys(held)) {
		parts = append(parts, fmt.Sprintf("%s in %d resource instances", f, held[f]))
	}
	return strings.Join(parts, ", ")
}
