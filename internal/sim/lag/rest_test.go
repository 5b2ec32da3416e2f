package lag

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"windlass.dev/windlass/internal/scheduler/fit"
)

func cpuOf(pod *corev1.Pod) int64 {
	return pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
}

// bound holds what must be true of a binding, whatever the scheduler knew; the API is locked.
func (w *world) bound(pod *corev1.Pod, node string) {
	w.since[pod.UID] = time.Now()
	used := cpuOf(pod)
	for _, o := range w.api.objects {
		other, is := o.(*corev1.Pod)
		if !is || other.Spec.NodeName != node || other.Status.Phase == corev1.PodFailed || other.Status.Phase == corev1.PodSucceeded {
			continue
		}
		used += cpuOf(other)
		if app := pod.Labels["app"]; app == "lone" && other.Labels["app"] == app {
			w.fault("%s is bound to %s beside %s", pod.Name, node, other.Name)
		}
	}
	for _, m := range w.machines {
		if q := resource.MustParse(m.cpu); m.name == node && used > q.MilliValue() {
			w.fault("%s is bound to %s, which then has %dm of %dm", pod.Name, node, used, q.MilliValue())
		}
	}
	for _, v := range pod.Spec.Volumes {
		name := v.PersistentVolumeClaim.ClaimName
		if w.remade[name] {
			continue
		}
		claim, _ := w.api.objects[key{"PersistentVolumeClaim", types.NamespacedName{Namespace: "default", Name: name}}].(*corev1.PersistentVolumeClaim)
		if claim == nil || claim.Spec.VolumeName == "" {
			if claim == nil || claim.DeletionTimestamp == nil {
				w.fault("%s is bound to %s, and its claim has no volume", pod.Name, node)
			}
			continue
		}
		is, _ := w.api.objects[key{"PersistentVolume", types.NamespacedName{Name: claim.Spec.VolumeName}}].(*corev1.PersistentVolume)
		if is == nil || nodeOf(is) != node {
			w.fault("%s is bound to %s, and its volume is not there", pod.Name, node)
		}
	}
}

// atRest holds what must be true once nothing happens any more.
func (w *world) atRest() {
	c := fit.NewCluster()
	c.SetNamespace("default", map[string]string{})
	for _, n := range objects[*corev1.Node](w.api) {
		c.SetNode(n)
	}
	for _, s := range objects[*storagev1.StorageClass](w.api) {
		c.SetClass(s)
	}
	claims := map[string]*corev1.PersistentVolumeClaim{}
	for _, claim := range objects[*corev1.PersistentVolumeClaim](w.api) {
		c.SetClaim(claim)
		claims[string(claim.UID)] = claim
	}
	has := map[string]string{}
	for _, v := range objects[*corev1.PersistentVolume](w.api) {
		c.SetVolume(v)
		ref := v.Spec.ClaimRef
		if ref == nil {
			continue
		}
		if other, twice := has[string(ref.UID)]; twice {
			w.fault("claim %s has volumes %s and %s", ref.UID, other, v.Name)
		}
		has[string(ref.UID)] = v.Name
		switch claim := claims[string(ref.UID)]; {
		case claim == nil && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
			w.fault("volume %s is left over: %s", v.Name, v.Status.Phase)
		case claim == nil && v.Status.Phase != corev1.VolumeReleased:
			w.fault("volume %s, whose claim is gone, is %s", v.Name, v.Status.Phase)
		case claim != nil && claim.Spec.VolumeName != v.Name:
			w.fault("volume %s is kept for claim %s, which has %q", v.Name, ref.UID, claim.Spec.VolumeName)
		}
	}
	for _, claim := range claims {
		if claim.DeletionTimestamp == nil && claim.Status.Phase == corev1.ClaimLost {
			w.fault("claim %s has lost its volume", claim.UID)
		}
	}
	pods := objects[*corev1.Pod](w.api)
	for _, p := range pods {
		if p.Spec.NodeName != "" {
			c.SetPod(fit.NewPod(p))
		}
	}
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
			w.fault("pod %s is still going", p.Name)
		case p.Spec.NodeName == "":
			if name := "data-" + p.Name; p.Labels["app"] == "db" && find[*corev1.PersistentVolumeClaim](w.api, "default", name) == nil {
				w.fault("pod %s waits for claim %s, which nobody makes", p.Name, name)
			}
			f := fit.NewPod(p)
			if d := c.Decide(f); d.Node != "" {
				w.fault("pod %s waits though it fits on %s (%d claims open)", p.Name, d.Node, len(d.Claims))
			} else if room := c.Preempt(f); room != nil {
				w.fault("pod %s waits though others would make way on %s", p.Name, room.Node)
			} else if *verbose {
				w.t.Logf("pod %s waits: %s", p.Name, d.Why)
			}
		case w.lostClaim(p): // in the moment of the binding: Kubernetes leaves such a pod to its user too
		case p.Status.Phase != corev1.PodRunning:
			w.fault("pod %s on %s does not run", p.Name, p.Spec.NodeName)
		}
	}
	w.complete(pods)
}

// lostClaim says whether a pod got its node while its claim was being deleted: the claim
// that has the name now is younger than that.
func (w *world) lostClaim(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		claim := find[*corev1.PersistentVolumeClaim](w.api, "default", v.PersistentVolumeClaim.ClaimName)
		return claim == nil || claim.CreationTimestamp.After(w.since[p.UID])
	})
}

// complete: each set has its pods, unless one of them waits.
func (w *world) complete(pods []*corev1.Pod) {
	for _, s := range objects[*appsv1.ReplicaSet](w.api) {
		n := 0
		for _, p := range pods {
			if p.Labels["app"] == s.Name {
				n++
			}
		}
		if n != int(*s.Spec.Replicas) {
			w.fault("%s has %d pods of %d", s.Name, n, *s.Spec.Replicas)
		}
	}
	for _, s := range objects[*appsv1.StatefulSet](w.api) {
		mine := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return p.Labels["app"] != s.Name })
		if slices.ContainsFunc(mine, func(p *corev1.Pod) bool { return p.Spec.NodeName == "" }) {
			continue // the others wait for it
		}
		if n := len(mine); n != int(*s.Spec.Replicas) {
			w.fault("%s has %d pods of %d", s.Name, n, *s.Spec.Replicas)
		}
		for _, p := range mine {
			if p.Spec.Containers[0].Image != s.Spec.Template.Spec.Containers[0].Image {
				w.fault("%s is of another revision", p.Name)
			}
		}
	}
}
