package agent

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/internal/agent/volume"
)

// The image of a volume is found or pulled as a container's is. Where acts and what is
// known of images go by the names of containers, it goes by that of its volume after
// this prefix, which no name of a container has.
const imageVolumePrefix = "volume/"

// imageVolumes returns the pod's volumes that are images, each as the container whose
// image it would be.
func imageVolumes(pod *corev1.Pod) []*corev1.Container {
	var all []*corev1.Container
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Image != nil {
			all = append(all, &corev1.Container{Name: imageVolumePrefix + v.Name, Image: v.Image.Reference, ImagePullPolicy: v.Image.PullPolicy})
		}
	}
	return all
}

// needed is an image that a container waits for: its own, or that of a volume.
type needed struct {
	spec    *corev1.Container
	attempt int // of a container's own image; 0 for a volume's
}

// images returns the images that a container needs, those of the pod's volumes first:
// no container is started without them.
func (l *life) images(u *unit) []needed {
	var all []needed
	for _, spec := range imageVolumes(l.pod) {
		all = append(all, needed{spec, 0})
	}
	return append(all, needed{u.spec, u.nextAttempt()})
}

// lacking returns those images of a container that are not known to be on the node.
func (l *life) lacking(u *unit) []needed {
	return slices.DeleteFunc(l.images(u), func(n needed) bool {
		found, ok := l.seen.Images[n.spec.Name]
		return ok && found.Image != nil && found.Attempt == n.attempt
	})
}

// imageFailure returns the first of a container's images that could not be had.
func (l *life) imageFailure(u *unit) (image string, failure Failure, failed bool) {
	for _, n := range l.images(u) {
		if failure, failed = l.failure(ActEnsureImage, n.spec.Name); failed {
			return n.spec.Image, failure, true
		}
	}
	return u.spec.Image, Failure{}, false
}

// volumeImagesOf returns the images of the volumes that a container mounts, by the
// volume's name.
func volumeImagesOf(c *corev1.Container, images map[string]FoundImage) map[string]*Image {
	found := map[string]*Image{}
	for _, m := range c.VolumeMounts {
		if image := images[imageVolumePrefix+m.Name].Image; image != nil {
			found[m.Name] = image
		}
	}
	return found
}

// imageIDs are the IDs of images, in order.
func imageIDs(images map[string]*Image) []string {
	var ids []string
	for _, image := range images {
		ids = append(ids, image.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// mountImageVolumes mounts the images of volumes in the place of these.
func (a *Agent) mountImageVolumes(pod *corev1.Pod, images map[string]*Image) error {
	for name, image := range images {
		if err := volume.MountImage(a.volumesDir(pod), name, image.Layers); err != nil {
			return err
		}
	}
	return nil
}

// volumeMountStatuses tells how the volumes of a container are mounted.
func (l *life) volumeMountStatuses(u *unit) []corev1.VolumeMountStatus {
	var all []corev1.VolumeMountStatus
	for _, m := range u.spec.VolumeMounts {
		status := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			switch cmp.Or(ptr.Deref(m.RecursiveReadOnly, ""), corev1.RecursiveReadOnlyDisabled) {
			case corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible: // it always is
				mode = corev1.RecursiveReadOnlyEnabled
			}
			status.RecursiveReadOnly = &mode
		}
		if image := l.seen.Images[imageVolumePrefix+m.Name].Image; image != nil {
			status.VolumeStatus = &corev1.VolumeStatus{Image: &corev1.ImageVolumeStatus{ImageRef: image.ID}}
		} else if old := l.toldMount(u, m.MountPath); old != nil {
			status.VolumeStatus = old.VolumeStatus
		}
		all = append(all, status)
	}
	return all
}

// toldMount is what the pod's status tells of a mount: of a volume that an agent before
// this one has mounted it is all that is known.
func (l *life) toldMount(u *unit, path string) *corev1.VolumeMountStatus {
	for _, s := range slices.Concat(l.pod.Status.InitContainerStatuses, l.pod.Status.ContainerStatuses, l.pod.Status.EphemeralContainerStatuses) {
		if s.Name != u.spec.Name {
			continue
		}
		if i := slices.IndexFunc(s.VolumeMounts, func(m corev1.VolumeMountStatus) bool { return m.MountPath == path }); i >= 0 {
			return &s.VolumeMounts[i]
		}
	}
	return nil
}

// isImageVolume: an act, or what is known of an image, is about a volume's.
func isImageVolume(name string) bool { return strings.HasPrefix(name, imageVolumePrefix) }
