package agent

import (
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// schedule plays a node on which acts take their time, fail, and are cut off by
// the agent's end, in any order.
type schedule struct {
	*rapid.T
	now     time.Time
	pod     *corev1.Pod
	seen    Observed
	pending []Act

	// What is on the node, whatever the agent has seen of it.
	containers map[string]Container
	network    bool
	gone, done bool
	ran        bool // a container was started, and no agent has ended since

	// What has ever been, by container name and for hooks by ID.
	tried, begun map[string]bool
	hooked       map[string]bool
}

// TestStepKeepsItsPromises: in every schedule no container runs twice, none is
// started for a pod that is being deleted, was given up or has expired, or before those that it
// comes after, hooks included; no two hooks of a container run at once, and no
// stop signal goes to one whose hook runs; no pod is told to have ended while a
// container of it runs; the API forgets a pod only when nothing
// of it is left, and every pod that is deleted comes to that.
func TestStepKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule(t)
		for range rapid.IntRange(1, 80).Draw(t, "events") {
			s.happen()
			s.decide()
		}
		s.finish()
	})
}

func newSchedule(t *rapid.T) *schedule {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "uid"}, Spec: corev1.PodSpec{
		RestartPolicy:  rapid.SampledFrom([]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}).Draw(t, "restartPolicy"),
		InitContainers: []corev1.Container{{Name: "init", Image: "i"}, {Name: "side", Image: "i", RestartPolicy: &always}},
		Containers: []corev1.Container{
			{Name: "web", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80}}, LivenessProbe: &corev1.Probe{PeriodSeconds: 5}, Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}, PreStop: &corev1.LifecycleHandler{}}},
			{Name: "other", Image: "i", ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.RestartContainer}}, Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}}},
		},
	}}
	pod.Spec.InitContainers[1].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}, PreStop: &corev1.LifecycleHandler{}}
	if rapid.Bool().Draw(t, "deadline") {
		pod.Spec.ActiveDeadlineSeconds = new(int64)
		*pod.Spec.ActiveDeadlineSeconds = 30
	}
	if rapid.Bool().Draw(t, "all") {
		never := corev1.ContainerRestartPolicyNever
		pod.Spec.Containers[1].RestartPolicy = &never
		pod.Spec.Containers[1].RestartPolicyRules = []corev1.ContainerRestartRule{{
			Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{1}},
		}}
	}
	pod.Spec.InitContainers = pod.Spec.InitContainers[:rapid.IntRange(0, 2).Draw(t, "inits")]
	s := &schedule{T: t, now: stepEpoch, pod: pod, containers: map[string]Container{},
		tried: map[string]bool{}, begun: map[string]bool{}, hooked: map[string]bool{}}
	s.seen = Recall(s.now, pod, nil, nil)
	return s
}

func (s *schedule) decide() {
	d := Step(s.now, s.pod, s.seen)
	s.seen.Memory = d.Memory
	if told := (&report{d.Status, d.Memory.Moments}); !s.gone && told.news(reported(s.pod)) {
		s.write(told)
	}
	s.done = d.Done
	for _, act := range d.Acts {
		if s.seen.InFlight[act.Key()] {
			s.Fatalf("%s is in flight already", act)
		}
		s.check(act)
		s.seen.InFlight[act.Key()] = true
		s.pending = append(s.pending, act)
	}
}

// write tells the API. What it knows of moments does not change any more.
func (s *schedule) write(told *report) {
	for _, c := range s.containers {
		if condition.Ended(told.status.Phase) && c.Phase == ContainerRunning {
			s.Fatalf("told %s while %s runs", told.status.Phase, c.Name)
		}
	}
	known := momentsOf(s.pod)
	s.pod = s.pod.DeepCopy()
	s.pod.Status = told.status
	s.pod.Annotations = map[string]string{v1alpha1.AnnotationMoments: told.annotation()}
	now := momentsOf(s.pod)
	known.Attempts, now.Attempts = 0, 0
	if !equality.Semantic.DeepEqual(earliest(known, now), now) {
		s.Fatalf("moments were %+v, are %+v", known, now)
	}
	for _, pair := range [][2]*metav1.MicroTime{{now.ImageReady, now.Started}, {now.Started, now.Ready}, {now.EndpointRemoved, now.Drained}, {now.Drained, now.Stopped}} {
		if pair[0] != nil && pair[1] != nil && pair[1].Before(pair[0]) {
			s.Fatalf("%s is after %s in %+v", pair[0], pair[1], now)
		}
	}
}

func (s *schedule) check(act Act) {
	switch act.Kind {
	case ActStart:
		if s.pod.DeletionTimestamp != nil || s.gone || s.seen.Verdict != nil {
			s.Fatalf("%s of a pod that is deleted or was given up", act)
		}
		for _, c := range s.containers {
			if c.Name == act.Container && (c.Phase == ContainerRunning || c.Attempt >= act.Attempt) {
				s.Fatalf("%s although there is %+v", act, c)
			}
		}
		if !s.network {
			s.Fatalf("%s without a network", act)
		}
		s.checkOrder(act)
	case ActPostStart, ActPreStop, ActStop:
		for _, other := range s.pending {
			if other.ID != act.ID || other.Kind != ActPostStart && other.Kind != ActPreStop {
				continue
			}
			if act.Kind == ActStop && s.late(other) {
				continue
			}
			s.Fatalf("%s while %s is in flight", act, other)
		}
	case ActDeletePod:
		making := slices.ContainsFunc(s.pending, func(a Act) bool {
			return a.Kind == ActStart || a.Kind == ActSetupNetwork || a.Kind == ActPrepareVolumes
		})
		if len(s.containers) > 0 || s.network || making {
			s.Fatalf("deleted from the API with %v, network %v, %v in flight", s.containers, s.network, s.pending)
		}
		if s.ran && s.seen.Memory.Moments.Stopped == nil {
			s.Fatalf("deleted from the API, which was not told when its containers ended")
		}
	case ActTeardownNetwork, ActRemoveVolumes:
		for _, c := range s.containers {
			if c.Phase == ContainerRunning {
				s.Fatalf("%s takes it from %s", act, c.Name)
			}
		}
	}
}

// late: the deadline has passed, which does not wait for this hook.
func (s *schedule) late(hook Act) bool {
	if hook.Kind == ActPreStop && !s.now.Before(hook.Deadline) {
		return true
	}
	if s.pod.DeletionTimestamp != nil {
		return !s.now.Before(s.seen.DeletionSeen.Add(time.Duration(*s.pod.DeletionGracePeriodSeconds) * time.Second))
	}
	over := func(at time.Time) bool {
		return !at.IsZero() && !s.now.Before(later(at, s.seen.Since).Add(specGrace(s.pod)))
	}
	return over(s.seen.Memory.ExpiredAt) || over(s.seen.Memory.EndedAt) || s.seen.Verdict != nil && !s.now.Before(s.seen.Memory.EndedAt.Add(s.seen.Verdict.Grace)) || over(s.seen.Allotment.At) || slices.ContainsFunc(s.seen.Containers, func(c Container) bool {
		return c.Name == "other" && c.Phase == ContainerExited && over(c.FinishedAt) // for which all are restarted
	})
}

// checkOrder: nothing starts before what it comes after.
func (s *schedule) checkOrder(act Act) {
	if expired(s.now, s.pod) {
		s.Fatalf("%s after the deadline", act)
	}
	if s.begun["web"] || s.begun["other"] {
		return
	}
	is := func(name string, met func(Container) bool) bool {
		for _, c := range s.containers {
			if c.Name == name && met(c) {
				return true
			}
		}
		return false
	}
	begun := func(c Container) bool { return s.hooked[c.ID] }
	ended := func(c Container) bool { return c.Phase == ContainerExited }
	order := []string{"init", "side", "web", "other"}
	for _, name := range order[:slices.Index(order, act.Container)] {
		ok := true
		switch {
		case containerSpecOf(s.pod, name).Image == "": // the pod has none
		case name == "init":
			ok = is(name, func(c Container) bool { return ended(c) && c.ExitCode == 0 })
		case name == "side":
			ok = is(name, begun)
		case name == "web":
			ok = is(name, begun) || is(name, ended) || s.tried[name]
		}
		if !ok {
			s.Fatalf("%s before %s", act, name)
		}
	}
}

// happen does one thing that may happen.
func (s *schedule) happen() {
	switch event := rapid.IntRange(0, 19).Draw(s.T, "event"); {
	case event < 10 && len(s.pending) > 0:
		i := rapid.IntRange(0, len(s.pending)-1).Draw(s.T, "act")
		s.end(i, rapid.IntRange(0, 9).Draw(s.T, "luck") > 0)
	case event < 14:
		s.now = s.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, 10 * time.Millisecond, time.Second, 11 * time.Second, 6 * time.Minute}).Draw(s.T, "time"))
	case event < 16:
		s.exit(rapid.IntRange(0, 1).Draw(s.T, "code"))
	case event == 16:
		s.restart()
	case event == 17 && s.pod.DeletionTimestamp == nil && rapid.Bool().Draw(s.T, "delete"):
		s.delete()
	case event == 17 && s.seen.Verdict == nil && !condition.Ended(s.pod.Status.Phase) && rapid.IntRange(0, 3).Draw(s.T, "evict") == 0:
		s.seen.Verdict = &Verdict{Reason: ReasonEvicted, Evicted: true, Grace: 3 * time.Second}
	case event == 19:
		s.resize()
	case event == 18 && rapid.IntRange(0, 5).Draw(s.T, "force") == 0:
		s.gone, s.seen.Gone = true, true
	}
}

// resize allots something else to a container, which may have to be restarted for it.
func (s *schedule) resize() {
	s.pod = s.pod.DeepCopy()
	s.pod.Generation++
	c := containerSpecOf(s.pod, rapid.SampledFrom([]string{"web", "other"}).Draw(s.T, "resized"))
	cpu := rapid.SampledFrom([]string{"100m", "200m"}).Draw(s.T, "cpu")
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: apiresource.MustParse(cpu)}
	s.seen.Allotment = Allotment{Containers: wishes(s.pod), At: s.now, Generation: s.pod.Generation}
}

func (s *schedule) delete() {
	grace, until := int64(5), metav1.NewTime(s.now.Add(5*time.Second))
	s.pod = s.pod.DeepCopy()
	s.pod.DeletionTimestamp, s.pod.DeletionGracePeriodSeconds, s.seen.DeletionSeen = &until, &grace, s.now
}

func (s *schedule) exit(code int) {
	for _, id := range s.ids() {
		if c := s.containers[id]; c.Phase == ContainerRunning {
			c.Phase, c.ExitCode, c.FinishedAt = ContainerExited, code, s.now
			s.containers[id] = c
			s.seen.Record(c)
			return
		}
	}
}

func (s *schedule) ids() []string {
	var ids []string
	for id := range s.containers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// restart ends the agent, with each act in flight done or not, and starts it anew.
func (s *schedule) restart() {
	for len(s.pending) > 0 {
		s.end(0, rapid.Bool().Draw(s.T, "done before the end"))
	}
	var found []Container
	for _, id := range s.ids() {
		found = append(found, s.containers[id])
	}
	var network *PodNetwork
	if s.network {
		network = s.podNetwork()
	}
	s.seen, s.ran = Recall(s.now, s.pod, found, network), false
	s.seen.Gone = s.gone
}

func (s *schedule) podNetwork() *PodNetwork {
	return &PodNetwork{PodUID: "uid", IP: netip.MustParseAddr("10.42.0.2")}
}

// end ends a pending act.
func (s *schedule) end(i int, ok bool) {
	act := s.pending[i]
	key := act.Key()
	s.pending = slices.Delete(s.pending, i, i+1)
	delete(s.seen.InFlight, key)
	if !ok {
		s.tried[act.Container] = true
		s.begun[act.Container] = s.begun[act.Container] || act.Kind == ActStart // as in Kubernetes: it has had its attempt
		s.seen.Fail(act, ReasonRunError, "it failed", s.now)
		return
	}
	delete(s.seen.Failures, key)
	s.succeed(act)
}

func (s *schedule) succeed(act Act) {
	progress := s.seen.Stops[act.ID]
	switch act.Kind {
	case ActSetupNetwork:
		s.network, s.seen.Network, s.seen.NetworkStale = true, s.podNetwork(), false
	case ActPrepareVolumes:
		s.seen.Volumes = true
	case ActEnsureImage:
		s.seen.Images[act.Container] = FoundImage{act.Attempt, &Image{ID: "i"}}
	case ActRecheckImage:
		s.seen.Recheck(act.Container, true, s.now)
	case ActStart:
		granted := s.seen.Allotment.Containers[act.Container]
		c := Container{ID: act.ID, PodUID: "uid", Name: act.Container, Attempt: act.Attempt, Phase: ContainerRunning, StartedAt: s.now, Granted: &granted}
		s.containers[c.ID], s.ran, s.begun[c.Name] = c, true, true
		s.seen.Record(c)
	case ActLook:
		s.seen.Looks = append(slices.Clone(s.seen.Looks[max(0, len(s.seen.Looks)-1):]), Look{At: s.now})
	case ActProbe:
		s.probe(act)
	case ActPostStart:
		if s.containers[act.ID].Phase == ContainerRunning {
			failed := rapid.IntRange(0, 3).Draw(s.T, "hook") == 0
			s.seen.PostStarts[act.ID] = PostStart{At: s.now, Failed: failed}
			s.hooked[act.ID] = !failed
		}
	case ActPreStop:
		progress.PreStopDone = true
	case ActStop, ActKill:
		s.signal(act, &progress)
	case ActResize:
		for i := range s.seen.Containers {
			c := &s.seen.Containers[i]
			if granted := s.seen.Allotment.Containers[c.Name]; c.Phase == ContainerRunning && !resizesByRestart(containerSpecOf(s.pod, c.Name), *c.Granted, granted) {
				c.Granted = &granted
				s.containers[c.ID] = *c
			}
		}
	case ActRemove:
		s.remove(act.ID)
	case ActTeardownNetwork:
		s.network, s.seen.Network = false, nil
	case ActRemoveVolumes:
		s.seen.VolumesGone = true
	case ActCleanUp:
		s.seen.CleanedUp = true
	case ActDeletePod:
		s.seen.Deleted, s.gone, s.seen.Gone = true, true, true
	}
	if progress != (StopProgress{}) {
		s.seen.Stops[act.ID] = progress
	}
}

func (s *schedule) probe(act Act) {
	c, ok := s.containers[act.ID]
	if !ok || c.Phase != ContainerRunning {
		return
	}
	key := ProbeKey{act.ID, act.Probe}
	s.seen.Probes[key], _ = s.seen.Probes[key].Next(probeOf(containerSpecOf(s.pod, act.Container), act.Probe), false, "sick", c.StartedAt, s.now, 0)
}

func (s *schedule) signal(act Act, progress *StopProgress) {
	signal := syscall.SIGTERM
	progress.SignalledAt = s.now
	if act.Kind == ActKill {
		signal, progress.KilledAt = syscall.SIGKILL, s.now
	}
	if c, ok := s.containers[act.ID]; ok && c.Phase == ContainerRunning && (signal == syscall.SIGKILL || rapid.Bool().Draw(s.T, "obeys")) {
		c.Phase, c.ExitCode, c.FinishedAt = ContainerExited, 128+int(signal), s.now
		s.containers[act.ID] = c
		s.seen.Record(c)
	}
}

func (s *schedule) remove(id string) {
	delete(s.containers, id)
	if s.pod.DeletionTimestamp != nil || s.gone {
		s.seen.Removed[id] = true
		s.seen.kill(id, s.now)
		return
	}
	s.seen.Containers = slices.DeleteFunc(s.seen.Containers, func(c Container) bool { return c.ID == id })
	s.ran = s.ran && len(s.containers) > 0 // of two starts that failed since, nothing tells that one has run before
}

// finish deletes the pod and lets everything succeed: it has to come to its end.
func (s *schedule) finish() {
	if s.pod.DeletionTimestamp == nil {
		s.delete()
	}
	for range 4000 {
		if s.decide(); s.done {
			break
		}
		if len(s.pending) > 0 {
			s.end(0, true)
			s.now = s.now.Add(time.Millisecond)
		} else {
			s.now = s.now.Add(500 * time.Millisecond)
		}
	}
	if !s.done || len(s.containers) > 0 || s.network {
		s.Fatalf("done is %v, left: %v, network %v, in flight %v; %s", s.done, s.containers, s.network, s.pending, Step(s.now, s.pod, s.seen).Why)
	}
}

// The back-off of restarts, told from records alone, is the documented one.
func TestRestartDelay(t *testing.T) {
	at := stepEpoch
	var previous *Container
	var delays []time.Duration
	for attempt := range 9 {
		ran := 3 * time.Second
		if attempt == 7 {
			ran = 10 * time.Minute
		}
		current := &Container{Attempt: attempt, StartedAt: at, FinishedAt: at.Add(ran)}
		delay := restartDelay(current, previous)
		delays = append(delays, delay)
		at = current.FinishedAt.Add(delay + 200*time.Millisecond)
		previous = current
	}
	s := time.Second
	if want := []time.Duration{0, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 0, 10 * s}; !slices.Equal(delays, want) {
		t.Errorf("delays %v, want %v", delays, want)
	}
	// The API keeps whole seconds: the rung is still told right.
	for rung, want := range restartLadder[2:] {
		waited := restartLadder[rung+1]
		before := &Container{FinishedAt: at.Truncate(s)}
		now := &Container{Attempt: 5, StartedAt: at.Add(waited).Truncate(s).Add(-s + time.Nanosecond), FinishedAt: at.Add(waited + s)}
		if got := restartDelay(now, before); got != want {
			t.Errorf("after a wait of %s cut to seconds: %s, want %s", waited, got, want)
		}
	}
}

// Before the first success a probe comes often, but a threshold takes as long as
// its documentation says.
func TestProbeThreshold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		probe := &corev1.Probe{
			PeriodSeconds:    int32(rapid.IntRange(1, 20).Draw(t, "period")),
			FailureThreshold: int32(rapid.IntRange(1, 5).Draw(t, "threshold")),
		}
		started, now, state := stepEpoch, stepEpoch, ProbeState{}
		for !state.Failed {
			now = later(now, state.dueAt(StartupProbe, probe, started, now)).Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 300 * time.Millisecond}).Draw(t, "late"))
			state, _ = state.Next(probe, false, "", started, now, 0)
		}
		want := settling + time.Duration(probe.PeriodSeconds*(probe.FailureThreshold-1))*time.Second
		if took := now.Sub(started); took < want-time.Duration(probe.FailureThreshold)*20*time.Millisecond {
			t.Fatalf("failed after %s, not before %s", took, want)
		}
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
