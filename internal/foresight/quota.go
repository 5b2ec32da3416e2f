package foresight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"windlass.dev/windlass/internal/rollout"
)

// overQuota finds quotas that do not allow the pods that there will be beside
// those that there are. Quotas with scopes are passed over.
func overQuota(facts *Facts, forecast rollout.Forecast) []Finding {
	current := int32(0)
	for _, rs := range facts.controlled() {
		current += rs.Status.Replicas
	}
	more := int64(max(forecast.MostAsked-current, 0))
	if more == 0 {
		return nil
	}
	pod := withRequests(&corev1.Pod{Spec: facts.After.Spec.Template.Spec})
	var found []Finding
	for _, quota := range facts.Quotas {
		if len(quota.Spec.Scopes) > 0 || quota.Spec.ScopeSelector != nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(quota.Spec.Hard)) {
			hard, used := quota.Spec.Hard[name], quota.Status.Used[name]
			each := charged(pod, name)
			total := used.DeepCopy()
			for range more {
				total.Add(each)
			}
			if each.IsZero() || total.Cmp(hard) <= 0 {
				continue
			}
			found = append(found, Finding{
				What: fmt.Sprintf("quota %s allows %s of %s, of which %s is used: %s more at a time would need %s",
					quota.Name, hard.String(), name, used.String(), pods(int32(more)), total.String()),
				Mend: "raise the quota, lower the requests, or lower maxSurge",
			})
		}
	}
	return found
}

// charged is how much of a quota's resource one pod uses.
func charged(pod *corev1.Pod, name corev1.ResourceName) resource.Quantity {
	switch name {
	case corev1.ResourcePods, "count/pods":
		return resource.MustParse("1")
	}
	var sum resource.Quantity
	what, limits := strings.CutPrefix(string(name), "limits.")
	what = strings.TrimPrefix(what, "requests.")
	for _, c := range pod.Spec.Containers {
		list := c.Resources.Requests
		if limits {
			list = c.Resources.Limits
		}
		sum.Add(list[corev1.ResourceName(what)])
	}
	return sum
}
