package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"windlass.dev/windlass/api/v1alpha1"
)

// TestStatefulSafety: whatever happens to the pods and to the set, and wherever
// the controller dies between two steps: no pod is made while one has its name;
// in order, none is made before those below it are available, and none that is
// too many is deleted before those above it are gone; no pod that is available is
// taken from a rolling update beyond what may be unavailable; no claim is lost
// that is to be kept; and in the end, with a template that is good, all pods that
// there should be are ready and of the wanted revision.
func TestStatefulSafety(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &statefulOrdeal{statefulWorld: newStatefulWorld("db")}
		o.set.Spec.VolumeClaimTemplates = append(o.set.Spec.VolumeClaimTemplates, corev1.PersistentVolumeClaim{})
		o.set.Spec.VolumeClaimTemplates[0].Name = "data"
		if rapid.Bool().Draw(t, "parallel") {
			o.set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		}
		t.Repeat(map[string]func(*rapid.T){
			"decide": o.decide,
			"node":   o.node,
			"stop":   func(*rapid.T) { o.reap() },
			"time":   func(*rapid.T) { o.now = o.now.Add(10 * time.Second) },
			"image": func(t *rapid.T) {
				image := rapid.SampledFrom([]string{"db:1", "db:2", "db:3", "bad:1", "bad:2"}).Draw(t, "image")
				o.edit(func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = image })
			},
			"size":   o.resize,
			"rules":  o.rules,
			"delete": func(t *rapid.T) { o.harm(t, func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(o.metaNow()) }) },
			"unready": func(t *rapid.T) {
				o.harm(t, func(pod *corev1.Pod) { o.setReady(pod, false) })
			},
			"fail": func(t *rapid.T) {
				o.harm(t, func(pod *corev1.Pod) { pod.Status = corev1.PodStatus{Phase: corev1.PodFailed} })
			},
			"crash":  func(t *rapid.T) { o.harm(t, func(pod *corev1.Pod) { wait(pod, reasonCrashLoop, 5, false) }) },
			"orphan": func(t *rapid.T) { o.harm(t, func(pod *corev1.Pod) { pod.OwnerReferences = nil }) },
		})
		o.end(t)
	})
}

type statefulOrdeal struct{ *statefulWorld }

// decide carries out a plan, or as much of it as a controller does that dies.
func (o *statefulOrdeal) decide(t *rapid.T) {
	plan := DecideStateful(o.snapshot())
	few := len(plan.Steps)
	if rapid.Bool().Draw(t, "dies") {
		few = rapid.IntRange(0, few).Draw(t, "after")
	}
	o.check(t, plan)
	for _, step := range plan.Steps[:few] {
		if err := o.carryOut(step); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
}

// check holds the steps that touch pods against the rules.
func (o *statefulOrdeal) check(t *rapid.T, plan Plan) {
	start, replicas := ordinalsOf(o.set)
	ordered := o.set.Spec.PodManagementPolicy == appsv1.OrderedReadyPodManagement
	available := func(name string) bool {
		pod := o.pod(name)
		if pod == nil {
			return false
		}
		at, ready := StateOf(pod).AvailableAt(o.set.Spec.MinReadySeconds)
		return ready && !at.After(o.now)
	}
	var down, taken int32
	for i := start; i < start+replicas; i++ {
		if !available(podNameOf(o.set, i)) {
			down++
		}
	}
	touched := 0
	for _, step := range plan.Steps {
		switch step := step.(type) {
		case CreatePod:
			touched++
			ordinal, _ := OrdinalOf(o.set.Name, step.Pod.Name)
			if o.pod(step.Pod.Name) != nil {
				t.Fatalf("%s while there is one", step)
			}
			for i := start; ordered && i < ordinal; i++ {
				if !available(podNameOf(o.set, i)) {
					t.Fatalf("%s before %d is available", step, i)
				}
			}
		case DeletePod:
			touched++
			ordinal, _ := OrdinalOf(o.set.Name, step.Pod.Name)
			excess := ordinal < start || ordinal >= start+replicas
			for _, pod := range o.pods {
				above, _ := OrdinalOf(o.set.Name, pod.Name)
				if member := (&statefulDraft{StatefulSnapshot: o.snapshot(), selector: mustSelector(o.set)}).member(pod); excess && ordered && member && above > ordinal && (above < start || above >= start+replicas) {
					t.Fatalf("%s while %s is there", step, pod.Name)
				}
			}
			if !excess && available(step.Pod.Name) {
				taken++
			}
		}
	}
	if taken > 0 && down+taken > maxUnavailableOf(o.set) {
		t.Fatalf("%d pods are taken where %d are unavailable\n%s%s", taken, down, plan, o.show())
	}
	if ordered && touched > 1+int(maxUnavailableOf(o.set)) {
		t.Fatalf("%d pods are touched at once\n%s", touched, plan)
	}
}

// node has some pods become ready, if their image is good.
func (o *statefulOrdeal) node(t *rapid.T) {
	for _, pod := range o.pods {
		if s := StateOf(pod); s.Active && !s.Ready && rapid.Bool().Draw(t, "ready") {
			if strings.HasPrefix(pod.Spec.Containers[0].Image, "bad") {
				wait(pod, "ImagePullBackOff", 0, false)
				continue
			}
			o.setReady(pod, true)
		}
	}
}

func (o *statefulOrdeal) resize(t *rapid.T) {
	replicas, start := rapid.Int32Range(0, 5).Draw(t, "replicas"), rapid.SampledFrom([]int32{0, 0, 0, 2}).Draw(t, "start")
	o.edit(func(s *appsv1.StatefulSet) {
		s.Spec.Replicas = &replicas
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: start}
	})
}

func (o *statefulOrdeal) rules(t *rapid.T) {
	partition, unavailable := rapid.Int32Range(0, 3).Draw(t, "partition"), rapid.Int32Range(1, 3).Draw(t, "unavailable")
	policy := rapid.SampledFrom([]string{"keep", "pause", "rollback"}).Draw(t, "on failure")
	minReady := rapid.SampledFrom([]int32{0, 0, 5}).Draw(t, "min ready")
	o.edit(func(s *appsv1.StatefulSet) {
		s.Annotations = with(s.Annotations, v1alpha1.AnnotationOnFailure, policy)
		s.Spec.MinReadySeconds = minReady
		s.Spec.UpdateStrategy.RollingUpdate.Partition = &partition
		s.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(unavailable))
	})
}

func (o *statefulOrdeal) harm(t *rapid.T, do func(*corev1.Pod)) {
	var active []*corev1.Pod
	for _, pod := range o.pods {
		if StateOf(pod).Active {
			active = append(active, pod)
		}
	}
	if len(active) > 0 {
		do(pick(t, active))
	}
}

// end lets everything succeed with a good template, and without a partition.
func (o *statefulOrdeal) end(t *rapid.T) {
	o.edit(func(s *appsv1.StatefulSet) {
		s.Spec.Template.Spec.Containers[0].Image = "db:good"
		s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(int32(0))
	})
	if _, err := o.run(); err != nil {
		t.Fatalf("%v\n%s", err, o.show())
	}
	start, replicas := ordinalsOf(o.set)
	if len(o.pods) != int(replicas) {
		t.Fatalf("ended with %d pods of %d\n%s", len(o.pods), replicas, o.show())
	}
	for i := start; i < start+replicas; i++ {
		pod := o.pod(podNameOf(o.set, i))
		if pod == nil || !StateOf(pod).Ready || pod.Spec.Containers[0].Image != "db:good" {
			t.Fatalf("pod %d is not as it should be\n%s", i, o.show())
		}
		if o.claim(fmt.Sprintf("data-db-%d", i)) == nil {
			t.Fatalf("claim of %d is missing", i)
		}
	}
	if st := o.set.Status; st.CurrentRevision != st.UpdateRevision || st.UpdatedReplicas != replicas || st.CurrentReplicas != replicas {
		t.Fatalf("ended with %+v", st)
	}
}

// TestStatefulForecastIsWhatHappens: whatever state a rollout is in, the forecast
// ends as the rollout does, and changes nothing that it looks at.
func TestStatefulForecastIsWhatHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &statefulOrdeal{statefulWorld: newStatefulWorld("db")}
		t.Repeat(map[string]func(*rapid.T){
			"decide": o.decide,
			"node":   o.node,
			"stop":   func(*rapid.T) { o.reap() },
			"image": func(t *rapid.T) {
				image := rapid.SampledFrom([]string{"db:1", "db:2", "db:3"}).Draw(t, "image")
				o.edit(func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = image })
			},
			"size": o.resize,
			"delete": func(t *rapid.T) {
				o.harm(t, func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(o.metaNow()) })
			},
		})
		before := o.show() + o.history()
		forecast := StatefulForecastOf(o.snapshot(), Endless{})
		if after := o.show() + o.history(); after != before {
			t.Fatalf("the forecast changed what it looked at:\n%s\n%s", before, after)
		}
		if _, err := o.run(); err != nil {
			t.Fatal(err)
		}
		if !forecast.Complete || forecast.Stuck != "" {
			t.Fatalf("the forecast ends with %+v", forecast)
		}
	})
}
