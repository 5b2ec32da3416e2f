package volume

import (
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Persistent returns the directory that a PersistentVolume of this node is: one of
// the sources hostPath, which is checked and made as its type says, and local. The
// error tells what there could be instead.
func Persistent(v *corev1.PersistentVolume) (Directory, error) {
	if v.Spec.VolumeMode != nil && *v.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return Directory{}, errors.New("volumeMode Block is not supported on this node (supported: Filesystem)")
	}
	switch {
	case v.Spec.HostPath != nil:
		return Directory{Path: v.Spec.HostPath.Path}, hostPath(v.Spec.HostPath)
	case v.Spec.Local != nil:
		return Directory{Path: v.Spec.Local.Path, Owned: true}, nil
	}
	return Directory{}, fmt.Errorf("PersistentVolume %s is of kind %s, which is not supported on this node (supported: hostPath, local)", v.Name, sourceOf(v))
}

// sourceOf is the name of the field that says what a volume stands for.
func sourceOf(v *corev1.PersistentVolume) string {
	var fields map[string]json.RawMessage
	text, err := json.Marshal(v.Spec.PersistentVolumeSource)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err == nil {
		for name := range fields {
			return name
		}
	}
	return "unknown"
}
