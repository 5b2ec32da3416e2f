package fit

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
)

// storage is what is known of claims, volumes and classes.
type storage struct {
	claims  map[types.NamespacedName]*corev1.PersistentVolumeClaim
	volumes map[string]*corev1.PersistentVolume
	classes map[string]*storagev1.StorageClass
}

func newStorage() storage {
	return storage{
		claims:  map[types.NamespacedName]*corev1.PersistentVolumeClaim{},
		volumes: map[string]*corev1.PersistentVolume{},
		classes: map[string]*storagev1.StorageClass{},
	}
}

// SetClaim takes in a claim as it is now.
func (c *Cluster) SetClaim(object *corev1.PersistentVolumeClaim) {
	c.storage.claims[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = object
}

// RemoveClaim takes a claim out.
func (c *Cluster) RemoveClaim(namespace, name string) {
	delete(c.storage.claims, types.NamespacedName{Namespace: namespace, Name: name})
}

// SetVolume takes in a PersistentVolume as it is now.
func (c *Cluster) SetVolume(object *corev1.PersistentVolume) { c.storage.volumes[object.Name] = object }

// RemoveVolume takes a PersistentVolume out.
func (c *Cluster) RemoveVolume(name string) { delete(c.storage.volumes, name) }

// SetClass takes in a StorageClass as it is now.
func (c *Cluster) SetClass(object *storagev1.StorageClass) { c.storage.classes[object.Name] = object }

// RemoveClass takes a StorageClass out.
func (c *Cluster) RemoveClass(name string) { delete(c.storage.classes, name) }

// needs is what a pod needs of storage.
type needs struct {
	bound []*corev1.PersistentVolume      // where it must be
	had   []*corev1.PersistentVolumeClaim // which have those
	lost  []*corev1.PersistentVolumeClaim // which have a volume that is not there, or not yet seen
	open  []*corev1.PersistentVolumeClaim // which get a volume on the node that is chosen
	alone []*corev1.PersistentVolumeClaim // which no other pod may use
}

// needsOf finds out what a pod's claims need, or why it cannot run anywhere.
func (s *storage) needsOf(p *Pod) (needs, *Refusal) {
	var n needs
	for _, v := range p.claims {
		c := s.claims[types.NamespacedName{Namespace: p.Object.Namespace, Name: v.name}]
		if refusal := unusable(p.Object, v, c); refusal != nil {
			return n, refusal
		}
		if slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
			n.alone = append(n.alone, c)
		}
		class := s.classes[volume.GetPersistentVolumeClaimClass(c)]
		switch {
		case c.Spec.VolumeName != "" && metav1.HasAnnotation(c.ObjectMeta, volume.AnnBindCompleted):
			if bound := s.volumes[c.Spec.VolumeName]; bound != nil {
				n.bound, n.had = append(n.bound, bound), append(n.had, c)
			} else {
				n.lost = append(n.lost, c)
			}
		case c.Spec.VolumeName == "" && class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer:
			n.open = append(n.open, c)
		default:
			return n, &Refusal{
				Reason: "pod has unbound immediate PersistentVolumeClaims",
				Mend:   fmt.Sprintf("see what claim %s waits for: kubectl describe pvc %s -n %s", c.Name, c.Name, c.Namespace),
			}
		}
	}
	return n, nil
}

// unusable says why a claim cannot be used by a pod, whatever the node.
func unusable(pod *corev1.Pod, v claimVolume, c *corev1.PersistentVolumeClaim) *Refusal {
	switch {
	case c == nil && v.own:
		return &Refusal{Reason: fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", v.name), Mend: "it takes a moment"}
	case c == nil:
		return &Refusal{Reason: fmt.Sprintf("persistentvolumeclaim %q not found", v.name), Mend: fmt.Sprintf("create claim %s in namespace %s", v.name, pod.Namespace)}
	case c.DeletionTimestamp != nil:
		return &Refusal{Reason: fmt.Sprintf("persistentvolumeclaim %q is being deleted", v.name), Mend: "create it again when it is gone"}
	case c.Status.Phase == corev1.ClaimLost:
		return &Refusal{Reason: fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", v.name, c.Spec.VolumeName), Mend: "create the claim anew; its data is lost"}
	case v.own:
		if err := ephemeral.VolumeIsForPod(pod, c); err != nil {
			return &Refusal{Reason: err.Error(), Mend: fmt.Sprintf("delete claim %s, or rename the pod or its volume", v.name)}
		}
	}
	return nil
}

// storageRefusals returns why a pod's claims keep it from a node; nothing when they do not.
func (c *Cluster) storageRefusals(p *Pod, need needs, n *node) []Refusal {
	refuse := func(reason, mend string, args ...any) []Refusal {
		return []Refusal{{Node: n.object.Name, Reason: reason, Mend: fmt.Sprintf(mend, args...)}}
	}
	if len(need.lost) > 0 {
		return refuse("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)", "create the claim anew; its data is lost")
	}
	for _, v := range need.bound {
		if volume.CheckNodeAffinity(v, n.object.Labels) != nil {
			return refuse("node(s) didn't match PersistentVolume's node affinity", "the data of volume %s is on another node: bring that one back or make room on it", v.Name)
		}
	}
	for _, claim := range need.alone {
		if other := c.user(claim, p); other != nil {
			return refuse("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
				"pod %s/%s uses claim %s, which allows one pod", other.Namespace, other.Name, claim.Name)
		}
	}
	taken := map[string]*corev1.PersistentVolume{}
	for _, claim := range need.open {
		if !c.storage.serves(claim, n.object, taken) {
			return refuse("node(s) didn't find available persistent volumes to bind",
				"make a volume for claim %s (class %s) on node %s", claim.Name, volume.GetPersistentVolumeClaimClass(claim), n.object.Name)
		}
	}
	return nil
}

// user returns another pod with a node that uses a claim, nil when there is none.
func (c *Cluster) user(claim *corev1.PersistentVolumeClaim, p *Pod) *corev1.Pod {
	for uid, other := range c.pods {
		if uid != p.UID && other.Object.Namespace == claim.Namespace &&
			slices.ContainsFunc(other.claims, func(v claimVolume) bool { return v.name == claim.Name }) {
			return other.Object
		}
	}
	return nil
}

// serves says whether a claim that waits for its node gets a volume on this one:
// the one that was made for it, wherever that is, or one that is there and not taken
// by another of the pod's claims, or a new one.
func (s *storage) serves(claim *corev1.PersistentVolumeClaim, node *corev1.Node, taken map[string]*corev1.PersistentVolume) bool {
	volumes := make([]*corev1.PersistentVolume, 0, len(s.volumes))
	for _, v := range s.volumes {
		if v.Spec.ClaimRef != nil && v.Spec.ClaimRef.UID == claim.UID && v.DeletionTimestamp == nil { // made for it
			return volume.CheckNodeAffinity(v, node.Labels) == nil
		}
		volumes = append(volumes, v)
	}
	if selected := claim.Annotations[volume.AnnSelectedNode]; selected != "" && selected != node.Name {
		return false
	}
	found, err := volume.FindMatchingVolume(claim, volumes, node, taken, true, true)
	if err == nil && found != nil {
		taken[found.Name] = found
		return true
	}
	class := s.classes[volume.GetPersistentVolumeClaimClass(claim)]
	return err == nil && class.Provisioner != volume.NotSupportedProvisioner && allowedOn(class, node)
}

// allowedOn says whether a class allows volumes on a node.
func allowedOn(class *storagev1.StorageClass, node *corev1.Node) bool {
	return len(class.AllowedTopologies) == 0 || slices.ContainsFunc(class.AllowedTopologies, func(term corev1.TopologySelectorTerm) bool {
		return !slices.ContainsFunc(term.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
			return !slices.Contains(e.Values, node.Labels[e.Key])
		})
	})
}

// claimVolume is a claim that a pod uses.
type claimVolume struct {
	name string
	own  bool // made for the pod
}

func claimsOf(pod *corev1.Pod) []claimVolume {
	var claims []claimVolume
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			claims = append(claims, claimVolume{name: v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			claims = append(claims, claimVolume{name: ephemeral.VolumeClaimName(pod, v), own: true})
		}
	}
	return claims
}
