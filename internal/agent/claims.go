package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/localvolume"
	"windlass.dev/windlass/internal/agent/volume"
	"windlass.dev/windlass/internal/condition"
)

// keepVolumes makes, grows and deletes the node's own volumes until ctx ends.
func (a *Agent) keepVolumes(ctx context.Context) {
	dir := a.localVolumesDir()
	directories := localvolume.Below(dir)
	if a.cfg.NoFiles {
		directories = localvolume.Nowhere(dir)
	}
	err := localvolume.New(localvolume.Config{
		NodeName: a.cfg.NodeName, Client: a.cfg.Client, Cache: a.cfg.Cache, Recorder: a.cfg.Recorder,
		Directories: directories, Log: a.cfg.Log,
	}).Run(ctx)
	if err != nil {
		a.cfg.Log.Error("Looking after the node's volumes", "err", err)
	}
}

// localVolumesDir is where the node's own volumes are.
func (a *Agent) localVolumesDir() string { return filepath.Join(a.cfg.DataDir, "volumes") }

// claims finds the PersistentVolumes of a pod.
func (a *Agent) claims(ctx context.Context, pod *corev1.Pod) volume.Claims {
	return podClaims{ctx, a.cfg.Client, pod}
}

// podClaims are the claims of a pod, as the API has them.
type podClaims struct {
	ctx    context.Context // it lives as long as one act
	reader client.Reader
	pod    *corev1.Pod
}

// Claim implements volume.Claims.
func (c podClaims) Claim(name string) (volume.Directory, error) {
	var claim corev1.PersistentVolumeClaim
	err := c.reader.Get(c.ctx, types.NamespacedName{Namespace: c.pod.Namespace, Name: name}, &claim)
	switch {
	case apierrors.IsNotFound(err):
		return volume.Directory{}, fmt.Errorf("persistentvolumeclaim %q not found", name)
	case err != nil:
		return volume.Directory{}, err
	}
	for i := range c.pod.Spec.Volumes {
		if v := &c.pod.Spec.Volumes[i]; v.Ephemeral != nil && volume.ClaimName(c.pod, v) == name {
			if err := ephemeral.VolumeIsForPod(c.pod, &claim); err != nil {
				return volume.Directory{}, err
			}
		}
	}
	if claim.Status.Phase != corev1.ClaimBound || claim.Spec.VolumeName == "" {
		return volume.Directory{}, fmt.Errorf("PVC %s/%s is not bound", claim.Namespace, name)
	}
	if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
		if err := c.alone(name); err != nil {
			return volume.Directory{}, err
		}
	}
	return c.bound(&claim)
}

// bound is the directory of a bound claim's volume.
func (c podClaims) bound(claim *corev1.PersistentVolumeClaim) (volume.Directory, error) {
	var v corev1.PersistentVolume
	if err := c.reader.Get(c.ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, &v); err != nil {
		return volume.Directory{}, fmt.Errorf("get PersistentVolume %s: %w", claim.Spec.VolumeName, err)
	}
	if ref := v.Spec.ClaimRef; ref == nil || ref.UID != claim.UID {
		return volume.Directory{}, fmt.Errorf("PersistentVolume %s is not bound to claim %s/%s", v.Name, claim.Namespace, claim.Name)
	}
	var node corev1.Node
	if err := c.reader.Get(c.ctx, types.NamespacedName{Name: c.pod.Spec.NodeName}, &node); err != nil {
		return volume.Directory{}, fmt.Errorf("get node %s: %w", c.pod.Spec.NodeName, err)
	}
	if err := storagehelpers.CheckNodeAffinity(&v, node.Labels); err != nil {
		return volume.Directory{}, fmt.Errorf("PersistentVolume %s cannot be used on node %s: %w", v.Name, node.Name, err)
	}
	return volume.Persistent(&v)
}

// errInUse is Kubernetes' words for a claim that one pod may use and another does.
var errInUse = errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")

// alone refuses a claim that an older pod of this node uses.
func (c podClaims) alone(name string) error {
	var pods corev1.PodList
	if err := c.reader.List(c.ctx, &pods, client.InNamespace(c.pod.Namespace)); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		other := &pods.Items[i]
		if condition.Ended(other.Status.Phase) || other.UID == c.pod.UID || other.Spec.NodeName != c.pod.Spec.NodeName || !cameBefore(other, c.pod) {
			continue
		}
		for j := range other.Spec.Volumes {
			if volume.ClaimName(other, &other.Spec.Volumes[j]) == name {
				return errInUse
			}
		}
	}
	return nil
}

// cameBefore says which of two pods is the older.
func cameBefore(a, b *corev1.Pod) bool {
	if order := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); order != 0 {
		return order < 0
	}
	return a.UID < b.UID
}
