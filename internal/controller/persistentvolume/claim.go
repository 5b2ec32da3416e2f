package persistentvolume

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"windlass.dev/windlass/api/v1alpha1"
)

// event is what to tell of an object.
type event struct{ Type, Reason, Message string }

func normal(reason, message string) []event {
	return []event{{corev1.EventTypeNormal, reason, message}}
}

func warning(reason, message string) []event {
	return []event{{corev1.EventTypeWarning, reason, message}}
}

// claimFacts is what a claim's plan rests on, beside the claim.
type claimFacts struct {
	Volumes  []*corev1.PersistentVolume
	Class    *storagev1.StorageClass // that the claim names; nil when it names none or it does not exist
	Node     *corev1.Node            // that is selected for the claim; nil when none is, or it is gone or not ready
	Nodes    []*corev1.Node          // those where a volume could be made at once
	Consumer string                  // a pod that waits for the claim and has no node, "" for none
}

// claimPlan is what to write, in this order, each only if it is set and only if
// what it replaces has not changed; and what to tell of the claim.
type claimPlan struct {
	Why    string
	Volume *corev1.PersistentVolume      // with the claim in it
	Claim  *corev1.PersistentVolumeClaim // with its volume, or its provisioner, in it
	Status *corev1.PersistentVolumeClaimStatus
	Events []event
}

// planClaim brings a claim one step on: it takes the volume that it has or finds,
// or asks for one to be made, or says what it waits for.
func planClaim(claim *corev1.PersistentVolumeClaim, facts claimFacts) claimPlan {
	switch {
	case metav1.HasAnnotation(claim.ObjectMeta, volume.AnnBindCompleted):
		return keepBound(claim, facts)
	case claim.DeletionTimestamp != nil:
		return claimPlan{Why: "it is being deleted"}
	case claim.Spec.VolumeName != "":
		return takeNamed(claim, facts)
	}
	if own := madeOrKept(claim, facts.Volumes); own != nil {
		return bind(claim, own)
	}
	delayed := waits(facts.Class) && !volume.IsDelayBindingProvisioning(claim)
	found, err := match(claim, facts.Volumes, waits(facts.Class), facts.Node)
	switch {
	case err != nil:
		return pending(claim, "it cannot be understood", warning("FailedBinding", err.Error()))
	case found != nil:
		return bind(claim, found)
	case delayed && facts.Consumer != "":
		return pending(claim, "a pod waits for a node", normal("WaitForPodScheduled", fmt.Sprintf("waiting for pod %s to be scheduled", facts.Consumer)))
	case delayed:
		return pending(claim, "no pod needs it yet", normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"))
	case volume.GetPersistentVolumeClaimClass(claim) == "":
		return pending(claim, "nothing fits", normal("FailedBinding", "no persistent volumes available for this claim and no storage class is set"))
	case facts.Class == nil:
		return pending(claim, "its class does not exist", warning("ProvisioningFailed",
			fmt.Sprintf("storageclass.storage.k8s.io %q not found", volume.GetPersistentVolumeClaimClass(claim))))
	}
	return provision(claim, facts)
}

// madeOrKept returns the volume that is the claim's already: one that was made for it,
// or that has the claim in it since a binding that was cut short. Which node is selected
// does not matter any more: where another was, meanwhile, no second volume is made.
func madeOrKept(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) *corev1.PersistentVolume {
	i := slices.IndexFunc(volumes, func(v *corev1.PersistentVolume) bool {
		return v.DeletionTimestamp == nil && v.Spec.ClaimRef != nil && v.Spec.ClaimRef.UID == claim.UID && volume.IsVolumeBoundToClaim(v, claim)
	})
	if i < 0 {
		return nil
	}
	return volumes[i]
}

// keepBound sees to it that a claim that has been bound still has its volume.
func keepBound(claim *corev1.PersistentVolumeClaim, facts claimFacts) claimPlan {
	lost := func(reason, message string) claimPlan {
		p := claimPlan{Why: "its volume is gone"}
		if claim.Status.Phase != corev1.ClaimLost {
			p.Status = &corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimLost}
			p.Events = warning(reason, message)
		}
		return p
	}
	v := named(facts.Volumes, claim.Spec.VolumeName)
	switch {
	case claim.Spec.VolumeName == "":
		return lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case v == nil:
		return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case v.Spec.ClaimRef == nil, v.Spec.ClaimRef.UID == claim.UID:
		return bind(claim, v)
	}
	return lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

// takeNamed binds a claim to the volume that its author named.
func takeNamed(claim *corev1.PersistentVolumeClaim, facts claimFacts) claimPlan {
	v := named(facts.Volumes, claim.Spec.VolumeName)
	switch {
	case v == nil:
		return pending(claim, "the volume that it names does not exist", warning("FailedBinding",
			fmt.Sprintf("persistent volume %q not found", claim.Spec.VolumeName)))
	case v.Spec.ClaimRef != nil && volume.IsVolumeBoundToClaim(v, claim) && v.Spec.ClaimRef.UID == claim.UID:
		return bind(claim, v) // begun, and cut short
	case v.Spec.ClaimRef != nil && !volume.IsVolumeBoundToClaim(v, claim):
		return pending(claim, "another claim has the volume", warning("FailedBinding",
			fmt.Sprintf("volume %q already bound to a different claim.", v.Name)))
	}
	if why := satisfies(claim, v); why != "" {
		return pending(claim, why, warning("VolumeMismatch", fmt.Sprintf("Cannot bind to requested volume %q: %s", v.Name, why)))
	}
	return bind(claim, v)
}

// bind makes a volume and a claim name each other, as far as they do not.
func bind(claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) claimPlan {
	p := claimPlan{Why: "volume " + v.Name + " is its own"}
	if bound, changed, err := volume.GetBindVolumeToClaim(v, claim); err == nil && changed {
		bound.Spec.ClaimRef.ResourceVersion = ""
		p.Volume = bound
	}
	after := claim.DeepCopy()
	if after.Spec.VolumeName != v.Name {
		after.Spec.VolumeName = v.Name
		metav1.SetMetaDataAnnotation(&after.ObjectMeta, volume.AnnBoundByController, "yes")
	}
	metav1.SetMetaDataAnnotation(&after.ObjectMeta, volume.AnnBindCompleted, "yes")
	if !equality.Semantic.DeepEqual(claim, after) {
		p.Claim = after
	}
	status := claim.Status.DeepCopy()
	status.Phase, status.AccessModes = corev1.ClaimBound, v.Spec.AccessModes
	has, told := v.Spec.Capacity[corev1.ResourceStorage], status.Capacity[corev1.ResourceStorage]
	if claim.Status.Phase != corev1.ClaimBound || has.Cmp(told) > 0 {
		status.Capacity = corev1.ResourceList{corev1.ResourceStorage: has}
	}
	if !equality.Semantic.DeepEqual(*status, claim.Status) {
		p.Status = status
	}
	asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if claim.Status.Phase == corev1.ClaimBound && has.Cmp(asked) < 0 && !local(v) {
		p.Events = warning("ExternalExpanding", "waiting for an external controller to expand this PVC")
	}
	return p
}

// provision asks the provisioner of a claim's class for a volume. One that makes
// its volumes on a node is told which.
func provision(claim *corev1.PersistentVolumeClaim, facts claimFacts) claimPlan {
	provisioner := facts.Class.Provisioner
	after := claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&after.ObjectMeta, volume.AnnBetaStorageProvisioner, provisioner)
	metav1.SetMetaDataAnnotation(&after.ObjectMeta, volume.AnnStorageProvisioner, provisioner)
	selected := claim.Annotations[volume.AnnSelectedNode]
	p := pending(claim, "a volume is to be made", normal("ExternalProvisioning", fmt.Sprintf(
		"Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
			"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", provisioner)))
	switch {
	case selected != "" && facts.Node == nil:
		delete(after.Annotations, volume.AnnSelectedNode)
		p.Why, p.Events = "its node is gone", warning("ProvisioningFailed", fmt.Sprintf("node %s is gone or not ready: another is selected", selected))
	case selected != "" && provisioner == volume.NotSupportedProvisioner:
		delete(after.Annotations, volume.AnnSelectedNode)
		p.Why, p.Events = "its node has no volume for it", warning("FailedBinding", fmt.Sprintf("no persistent volume available for this claim on node %s: another is selected", selected))
	case selected == "" && provisioner == v1alpha1.LocalProvisioner:
		node := choose(facts)
		if node == nil {
			return pending(claim, "no node can have it", warning("ProvisioningFailed", "no node is ready that the class allows volumes on"))
		}
		metav1.SetMetaDataAnnotation(&after.ObjectMeta, volume.AnnSelectedNode, node.Name)
	}
	if !equality.Semantic.DeepEqual(claim.Annotations, after.Annotations) {
		p.Claim = after
	}
	return p
}

// choose finds a node for a volume that no pod waits for: the one with the fewest.
func choose(facts claimFacts) *corev1.Node {
	count := map[string]int{}
	for _, v := range facts.Volumes {
		if local(v) {
			count[nodeOf(v)]++
		}
	}
	var allowed []*corev1.Node
	for _, n := range facts.Nodes {
		if volume.CheckNodeAffinity(&corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{NodeAffinity: topology(facts.Class)}}, n.Labels) == nil {
			allowed = append(allowed, n)
		}
	}
	if len(allowed) == 0 {
		return nil
	}
	return slices.MinFunc(allowed, func(a, b *corev1.Node) int {
		return cmp.Or(cmp.Compare(count[a.Name], count[b.Name]), cmp.Compare(a.Name, b.Name))
	})
}

// nodeOf is the one node that a volume can be used on, "" when it has not one only.
func nodeOf(v *corev1.PersistentVolume) string {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil || len(v.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		return ""
	}
	for _, r := range v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions {
		if r.Key == corev1.LabelHostname && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 {
			return r.Values[0]
		}
	}
	return ""
}

// topology is where a class allows volumes, as an affinity; nil is everywhere.
func topology(class *storagev1.StorageClass) *corev1.VolumeNodeAffinity {
	if len(class.AllowedTopologies) == 0 {
		return nil
	}
	selector := &corev1.NodeSelector{}
	for _, term := range class.AllowedTopologies {
		var requirements []corev1.NodeSelectorRequirement
		for _, e := range term.MatchLabelExpressions {
			requirements = append(requirements, corev1.NodeSelectorRequirement{Key: e.Key, Operator: corev1.NodeSelectorOpIn, Values: e.Values})
		}
		selector.NodeSelectorTerms = append(selector.NodeSelectorTerms, corev1.NodeSelectorTerm{MatchExpressions: requirements})
	}
	return &corev1.VolumeNodeAffinity{Required: selector}
}

func pending(claim *corev1.PersistentVolumeClaim, why string, events []event) claimPlan {
	p := claimPlan{Why: why, Events: events}
	if claim.Status.Phase != corev1.ClaimPending {
		p.Status = &corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	}
	return p
}

func named(volumes []*corev1.PersistentVolume, name string) *corev1.PersistentVolume {
	i := slices.IndexFunc(volumes, func(v *corev1.PersistentVolume) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return volumes[i]
}
