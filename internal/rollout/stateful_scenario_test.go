package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
)

// command runs a command of a script that began with one for a StatefulSet.
func (w *statefulWorld) command(t *testing.T, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "edit":
		var err error
		w.edit(func(set *appsv1.StatefulSet) { err = changeStateful(set, d.CmdArgs) })
		return "", err
	case "ready", "unready", "fail", "delete", "waits", "relabel", "orphan":
		return w.podsChange(t, d)
	case "pods":
		return w.show(), nil
	case "manifest":
		return manifest(w.pod(d.CmdArgs[0].Key)), nil
	case "claims":
		return w.showClaims(), nil
	case "history":
		return w.history(), nil
	case "annotations":
		var b strings.Builder
		for _, key := range slices.Sorted(maps.Keys(w.set.Annotations)) {
			fmt.Fprintf(&b, "%s: %s\n", key, w.set.Annotations[key])
		}
		return b.String(), nil
	}
	return command(t, w, d)
}

// changeStateful sets fields of a StatefulSet by short names.
func changeStateful(set *appsv1.StatefulSet, args []datadriven.CmdArg) error {
	spec := &set.Spec
	for _, arg := range args {
		value := strings.Join(arg.Vals, " ")
		number := func() int32 {
			n, err := strconv.Atoi(value)
			if err != nil {
				panic(err)
			}
			return int32(n)
		}
		switch arg.Key {
		case "replicas":
			spec.Replicas = ptr.To(number())
		case "start":
			spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: number()}
		case "image":
			spec.Template.Spec.Containers[0].Image = value
		case "policy":
			spec.PodManagementPolicy = appsv1.PodManagementPolicyType(value)
		case "strategy":
			spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.StatefulSetUpdateStrategyType(value)}
		case "partition":
			spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(number())
		case "unavailable":
			spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.Parse(value))
		case "min-ready":
			spec.MinReadySeconds = number()
		case "history":
			spec.RevisionHistoryLimit = ptr.To(number())
		case "claim":
			spec.VolumeClaimTemplates = append(spec.VolumeClaimTemplates, corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: value}})
		case "when-deleted", "when-scaled":
			if spec.PersistentVolumeClaimRetentionPolicy == nil {
				spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
			}
			if p := spec.PersistentVolumeClaimRetentionPolicy; arg.Key == "when-deleted" {
				p.WhenDeleted = appsv1.PersistentVolumeClaimRetentionPolicyType(value)
			} else {
				p.WhenScaled = appsv1.PersistentVolumeClaimRetentionPolicyType(value)
			}
		case "cause":
			set.Annotations = with(set.Annotations, AnnotationChangeCause, value)
		case "on-failure":
			set.Annotations = with(set.Annotations, v1alpha1.AnnotationOnFailure, value)
		case "unfail":
			set.Annotations = without(set.Annotations, v1alpha1.AnnotationFailedRevision)
		case "gone":
			set.DeletionTimestamp = ptr.To(metav1.Now())
		default:
			return fmt.Errorf("no field %q", arg.Key)
		}
	}
	return nil
}

func (w *statefulWorld) run() (string, error) { return run(w) }

func (w *statefulWorld) decide() Plan { return DecideStateful(w.snapshot()) }

// settle has nothing to do: the controller makes the pods itself.
func (w *statefulWorld) settle() {}

// succeed lets all pods come right but those whose image begins with "bad".
func (w *statefulWorld) succeed() bool {
	changed := w.reap() > 0
	for _, pod := range w.pods {
		if s := StateOf(pod); s.Active && !s.Ready && !strings.HasPrefix(pod.Spec.Containers[0].Image, "bad") {
			w.setReady(pod, true)
			changed = true
		}
	}
	return changed
}

// podsChange does something to the pods that are named, else to all.
func (w *statefulWorld) podsChange(t *testing.T, d *datadriven.TestData) (string, error) {
	var restarts int32
	d.MaybeScanArgs(t, "restarts", &restarts)
	var changed []string
	for _, pod := range w.pods {
		isNamed := slices.ContainsFunc(d.CmdArgs, func(arg datadriven.CmdArg) bool { return arg.Key == pod.Name })
		anyNamed := slices.ContainsFunc(d.CmdArgs, func(arg datadriven.CmdArg) bool {
			_, is := OrdinalOf(w.set.Name, arg.Key)
			return is
		})
		if s := StateOf(pod); anyNamed && !isNamed || !s.Active || d.Cmd == "ready" && s.Ready {
			continue
		}
		changed = append(changed, pod.Name)
		switch d.Cmd {
		case "ready", "unready":
			w.setReady(pod, d.Cmd == "ready")
		case "fail":
			pod.Status = corev1.PodStatus{Phase: corev1.PodFailed}
		case "delete":
			pod.DeletionTimestamp = ptr.To(metav1.NewTime(w.now))
		case "waits":
			wait(pod, d.CmdArgs[0].Key, restarts, false)
		case "relabel":
			pod.Labels = with(pod.Labels, "app", "isolated")
		case "orphan":
			pod.OwnerReferences = nil
			pod.Labels = without(pod.Labels, appsv1.PodIndexLabel)
		}
	}
	slices.Sort(changed)
	return strings.Join(changed, " ") + "\n", nil
}

// manifest prints what of a pod is its own.
func manifest(pod *corev1.Pod) string {
	if pod == nil {
		return "none\n"
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(pod.Labels)) {
		fmt.Fprintf(&b, "%s=%s\n", key, pod.Labels[key])
	}
	fmt.Fprintf(&b, "hostname %s, subdomain %s\n", pod.Spec.Hostname, pod.Spec.Subdomain)
	for _, volume := range pod.Spec.Volumes {
		fmt.Fprintf(&b, "volume %s of claim %s\n", volume.Name, volume.PersistentVolumeClaim.ClaimName)
	}
	return b.String()
}

func (w *statefulWorld) showClaims() string {
	var b strings.Builder
	for _, claim := range w.claims {
		fmt.Fprint(&b, claim.Name)
		for _, ref := range claim.OwnerReferences {
			fmt.Fprintf(&b, " goes with %s %s", strings.ToLower(ref.Kind), ref.Name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *statefulWorld) history() string {
	var b strings.Builder
	list := slices.SortedFunc(slices.Values(w.revisions), func(a, b *appsv1.ControllerRevision) int { return int(a.Revision - b.Revision) })
	for _, r := range list {
		template, err := TemplateOf(r)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%d %s %s", r.Revision, r.Name, template.Spec.Containers[0].Image)
		if cause := r.Annotations[AnnotationChangeCause]; cause != "" {
			fmt.Fprintf(&b, " cause=%q", cause)
		}
		for what, name := range map[string]string{" current": w.set.Status.CurrentRevision, " wanted": w.set.Status.UpdateRevision} {
			if name == r.Name && w.set.Status.CurrentRevision != w.set.Status.UpdateRevision {
				b.WriteString(what)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
