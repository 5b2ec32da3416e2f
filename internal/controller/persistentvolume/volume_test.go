package persistentvolume

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func (p volumePlan) show() string {
	var out []string
	if p.Volume != nil {
		uid := "none"
		if ref := p.Volume.Spec.ClaimRef; ref != nil {
			uid = fmt.Sprintf("%s/%s", ref.Name, ref.UID)
		}
		out = append(out, fmt.Sprintf("write claim=%s finalizers=%v", uid, p.Volume.Finalizers))
	}
	if p.Status != nil {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", p.Status.Phase, p.Status.Reason)))
	}
	for _, e := range p.Events {
		out = append(out, e.Reason)
	}
	return strings.Join(out, "; ")
}

// TestVolumePlans: the phases of a volume, what follows when its claim is gone, and
// when it is let go.
func TestVolumePlans(t *testing.T) {
	claim := makeClaim("c", "1Gi")
	bound := makeClaim("c", "1Gi", boundClaim("v", "1Gi"))
	elsewhere := makeClaim("c", "1Gi", boundClaim("w", "1Gi"))
	mine := claimedBy("c", "uid-c")
	for _, test := range []struct {
		name   string
		volume *corev1.PersistentVolume
		claim  *corev1.PersistentVolumeClaim
		want   string
	}{
		{"deleted, and its node is to delete the directory", makeVolume("v", "1Gi", going, madeLocally, heldByNode), nil, "write claim=none finalizers=[windlass.dev/local-volume]"},
		{"deleted, and its node does not exist", makeVolume("v", "1Gi", going, madeLocally, heldByNode, at("gone")), nil, "write claim=none finalizers=[]"},
		{"new", makeVolume("v", "1Gi", inPhase(corev1.VolumePending)), nil, "Available"},
		{"kept for a claim", makeVolume("v", "1Gi", inPhase(corev1.VolumePending), claimedBy("c", "")), nil, "Available"},
		{"nothing to do", makeVolume("v", "1Gi"), nil, ""},
		{"half bound", makeVolume("v", "1Gi", mine, byController), claim, ""},
		{"bound", makeVolume("v", "1Gi", mine, byController), bound, "Bound"},
		{"still bound", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeBound)), bound, ""},
		{"its claim has another", makeVolume("v", "1Gi", mine, byController), elsewhere, "write claim=none finalizers=[kubernetes.io/pv-protection]"},
		{"its claim has another, but its author wanted it", makeVolume("v", "1Gi", mine), elsewhere, "write claim=c/ finalizers=[kubernetes.io/pv-protection]"},
		{"made for a claim that has another", makeVolume("v", "1Gi", mine, madeLocally, reclaimed(corev1.PersistentVolumeReclaimDelete)), elsewhere, "Released"},
		{"its claim is gone", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeBound)), nil, "Released"},
		{"retained", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeReleased)), nil, ""},
		{"deleted by its node", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeReleased), madeLocally, reclaimed(corev1.PersistentVolumeReclaimDelete)), nil, ""},
		{"deleted by nobody", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeReleased), reclaimed(corev1.PersistentVolumeReclaimDelete)), nil, "Failed VolumeFailedDelete; VolumeFailedDelete"},
		{"recycled by nobody", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeReleased), reclaimed(corev1.PersistentVolumeReclaimRecycle)), nil, "Failed VolumeFailedRecycle; VolumeFailedRecycle"},
		{"told once", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeFailed), reclaimed(corev1.PersistentVolumeReclaimRecycle)), nil, ""},
		{"an administrator gives it free", makeVolume("v", "1Gi", inPhase(corev1.VolumeReleased)), nil, "Available"},
		{"deleted while bound", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeBound), going), bound, ""},
		{"deleted while being bound", makeVolume("v", "1Gi", mine, going), bound, "Bound"},
		{"deleted and free", makeVolume("v", "1Gi", going), nil, "write claim=none finalizers=[]"},
		{"deleted and released", makeVolume("v", "1Gi", mine, inPhase(corev1.VolumeReleased), going), nil, "write claim=c/uid-c finalizers=[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := planVolume(test.volume, test.claim, nodeOf(test.volume) == "gone").show(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
