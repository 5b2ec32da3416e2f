package rollout

import (
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var statefulSetKind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// identityOf returns the labels by which a pod of a StatefulSet is found.
func identityOf(name string, ordinal int32) map[string]string {
	return map[string]string{
		appsv1.StatefulSetPodNameLabel: name,
		appsv1.PodIndexLabel:           strconv.Itoa(int(ordinal)),
	}
}

// newStatefulPod returns the pod of a set with an ordinal, as a revision has it.
func newStatefulPod(set *appsv1.StatefulSet, of *revision, ordinal int32) *corev1.Pod {
	name, template := podNameOf(set, ordinal), of.template.DeepCopy()
	labels := with(template.Labels, appsv1.StatefulSetRevisionLabel, of.name())
	maps.Copy(labels, identityOf(name, ordinal))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:            name,
			GenerateName:    set.Name + "-",
			Namespace:       set.Namespace,
			Labels:          labels,
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, statefulSetKind)},
		},
		Spec: template.Spec,
	}
	pod.Spec.Hostname, pod.Spec.Subdomain = name, set.Spec.ServiceName
	for i := range set.Spec.VolumeClaimTemplates {
		volume := set.Spec.VolumeClaimTemplates[i].Name
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume })
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, volume, ordinal)},
		}})
	}
	return pod
}

func claimName(set *appsv1.StatefulSet, template string, ordinal int32) string {
	return template + "-" + podNameOf(set, ordinal)
}

// claimNames returns the names of the claims of a set's pod with an ordinal.
func claimNames(set *appsv1.StatefulSet, ordinal int32) []string {
	var names []string
	for i := range set.Spec.VolumeClaimTemplates {
		names = append(names, claimName(set, set.Spec.VolumeClaimTemplates[i].Name, ordinal))
	}
	return names
}

// claimsOf returns the claims that the pod with an ordinal is to have.
func (d *statefulDraft) claimsOf(ordinal int32) []*corev1.PersistentVolumeClaim {
	var claims []*corev1.PersistentVolumeClaim
	for i := range d.Set.Spec.VolumeClaimTemplates {
		template := &d.Set.Spec.VolumeClaimTemplates[i]
		labels := maps.Clone(template.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, d.Set.Spec.Selector.MatchLabels)
		claim := &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Name:        claimName(d.Set, template.Name, ordinal),
				Namespace:   d.Set.Namespace,
				Labels:      labels,
				Annotations: maps.Clone(template.Annotations),
			},
			Spec: *template.Spec.DeepCopy(),
		}
		if d.retention().WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
			claim.OwnerReferences = []metav1.OwnerReference{setOwner(d.Set)}
		}
		claims = append(claims, claim)
	}
	return claims
}

// missingClaims returns those of them that are not there.
func (d *statefulDraft) missingClaims(ordinal int32) []*corev1.PersistentVolumeClaim {
	return slices.DeleteFunc(d.claimsOf(ordinal), func(c *corev1.PersistentVolumeClaim) bool { return d.claim(c.Name) != nil })
}

// claim returns the claim of a name as it is, nil when there is none.
func (d *statefulDraft) claim(name string) *corev1.PersistentVolumeClaim {
	for _, c := range d.Claims {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// stale says whether a claim goes with an earlier pod of the slot.
func (d *statefulDraft) stale(claim *corev1.PersistentVolumeClaim, s *slot) bool {
	return claim.DeletionTimestamp != nil || slices.ContainsFunc(claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == "Pod" && ref.Name == s.name && (s.pod == nil || ref.UID != s.pod.UID)
	})
}

func (d *statefulDraft) retention() appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	if p := d.Set.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		return *p
	}
	return appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
}

func setOwner(set *appsv1.StatefulSet) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: statefulSetKind.GroupVersion().String(), Kind: statefulSetKind.Kind, Name: set.Name, UID: set.UID}
}

// retainClaims has each claim go with what the retention policy says: with the
// set, with the pod that is too many, or with nothing, so that data stays. It does
// so before any pod is deleted.
func (d *statefulDraft) retainClaims() {
	for _, s := range append(slices.Clone(d.slots), d.condemned...) {
		if s.pod == nil {
			continue
		}
		excess := s.wanted == nil
		for _, name := range claimNames(d.Set, s.ordinal) {
			claim := d.claim(name)
			if claim == nil || claim.DeletionTimestamp != nil || !excess && d.stale(claim, s) {
				continue
			}
			if owners := d.ownersOf(claim, s, excess); !slices.EqualFunc(owners, claim.OwnerReferences, sameOwner) {
				d.do(OwnClaim{Claim: claim, Owners: owners, Why: "persistentVolumeClaimRetentionPolicy"})
			}
		}
	}
}

// ownersOf returns what a claim of a pod is to go with, others than the set and
// the pod left as they are.
func (d *statefulDraft) ownersOf(claim *corev1.PersistentVolumeClaim, s *slot, excess bool) []metav1.OwnerReference {
	const remove = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	policy := d.retention()
	withPod := excess && policy.WhenScaled == remove
	withSet := policy.WhenDeleted == remove && !withPod
	owners := slices.DeleteFunc(slices.Clone(claim.OwnerReferences), func(ref metav1.OwnerReference) bool {
		return ref.UID == d.Set.UID && !withSet || ref.Kind == "Pod" && ref.Name == s.name && !(withPod && ref.UID == s.pod.UID)
	})
	has := func(uid types.UID) bool {
		return slices.ContainsFunc(owners, func(ref metav1.OwnerReference) bool { return ref.UID == uid })
	}
	if withSet && !has(d.Set.UID) {
		owners = append(owners, setOwner(d.Set))
	}
	if withPod && !has(s.pod.UID) {
		owners = append(owners, metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: s.pod.Name, UID: s.pod.UID})
	}
	return owners
}

func sameOwner(a, b metav1.OwnerReference) bool { return a.UID == b.UID && a.Kind == b.Kind }
