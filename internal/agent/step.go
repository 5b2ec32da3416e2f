package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Decision is what Step has decided.
type Decision struct {
	Acts   []Act            // to begin now; those in flight are not repeated
	Events []Event          // to tell
	Status corev1.PodStatus // what the API should say
	Memory Memory           // to be in the next Observed
	WakeAt time.Time        // when to decide again if nothing happens before; zero is never
	Why    string           // what the pod waits for, for people
	Ending bool             // the pod is being stopped: nothing new needs to be fetched for it
	Done   bool             // nothing of the pod is left
}

// Event is a Kubernetes Event about a pod or one of its containers.
type Event struct {
	Container string // "" for the pod
	Type      string // Normal or Warning
	Reason    string
	Message   string
}

// Step decides what to do next for a pod. It is pure: what it knows is in its
// arguments, and the same arguments give the same Decision. It is called again
// whenever something has changed and at WakeAt.
func Step(now time.Time, pod *corev1.Pod, seen Observed) Decision {
	l := newLife(now, pod, seen)
	switch {
	case seen.Gone:
		l.purge()
	case l.ending():
		l.terminate()
	case l.finished() || l.givenUp():
		l.release()
	case l.expired():
		l.expire()
	default:
		l.advance()
	}
	l.tellBackOffs()
	l.tellResize()
	return l.decide()
}

// life is one Step's view of a pod.
type life struct {
	now    time.Time
	pod    *corev1.Pod
	seen   Observed
	inits  []*unit
	mains  []*unit
	extras []*unit // the ephemeral containers
	d      Decision
}

func newLife(now time.Time, pod *corev1.Pod, seen Observed) *life {
	l := &life{now: now, pod: pod, seen: seen}
	l.inits, l.mains, l.extras = l.units()
	l.d.Memory = seen.Memory
	l.d.Memory.Listening = maps.Clone(seen.Memory.Listening)
	l.d.Memory.Told = maps.Clone(seen.Memory.Told)
	l.d.Memory.Again = maps.Clone(seen.Memory.Again)
	if l.d.Memory.Again == nil {
		l.d.Memory.Again = map[string]bool{}
	}
	if l.d.Memory.Listening == nil {
		l.d.Memory.Listening = map[string]bool{}
	}
	if l.d.Memory.Told == nil {
		l.d.Memory.Told = map[string]string{}
	}
	return l
}

func (l *life) decide() Decision {
	l.d.Status = l.status()
	l.d.Memory.Anew = l.d.Memory.Anew && !l.mainsBegun()
	past := func(id string, _ bool) bool { // an attempt that another has come after
		return !slices.ContainsFunc(l.all(), func(u *unit) bool { return u.current != nil && u.current.ID == id })
	}
	maps.DeleteFunc(l.d.Memory.Again, past)
	maps.DeleteFunc(l.d.Memory.Listening, past)
	l.d.Memory.Moments = l.moments()
	slices.SortStableFunc(l.d.Acts, func(a, b Act) int { return cmp.Compare(a.Key(), b.Key()) })
	return l.d
}

func (l *life) all() []*unit { return slices.Concat(l.inits, l.mains, l.extras) }

// ending: the pod has been deleted and lives out its grace period.
func (l *life) ending() bool { return l.pod.DeletionTimestamp != nil }

// stopping: no container of the pod is to be started any more.
func (l *life) stopping() bool { return l.ending() || l.expired() || l.seen.Gone || l.givenUp() }

// givenUp: the agent has failed the pod, whatever its containers do.
func (l *life) givenUp() bool { return l.seen.Verdict != nil }

// finished: no container of the pod will run again.
func (l *life) finished() bool {
	switch l.phase() {
	case corev1.PodSucceeded, corev1.PodFailed:
		return true
	}
	return false
}

// do plans an act, unless it is in flight or has failed and is not due again,
// and reports whether it did.
func (l *life) do(act Act) bool {
	key := act.Key()
	if l.seen.InFlight[key] {
		return false
	}
	if failure, ok := l.seen.Failures[key]; ok {
		if at := failure.RetryAt(act.Kind); l.now.Before(at) {
			l.wake(at)
			return false
		}
	}
	if slices.ContainsFunc(l.d.Acts, func(other Act) bool { return other.Key() == key }) {
		return false
	}
	l.d.Acts = append(l.d.Acts, act)
	return true
}

func (l *life) wake(at time.Time) {
	if l.d.WakeAt.IsZero() || at.Before(l.d.WakeAt) {
		l.d.WakeAt = at
	}
}

func (l *life) why(format string, args ...any) {
	if why := fmt.Sprintf(format, args...); l.d.Why == "" {
		l.d.Why = why
	} else if !strings.Contains(l.d.Why, why) {
		l.d.Why += "; " + why
	}
}

func (l *life) tell(container, eventType, reason, format string, args ...any) {
	l.d.Events = append(l.d.Events, Event{container, eventType, reason, fmt.Sprintf(format, args...)})
}

func (l *life) failure(kind ActKind, container string) (Failure, bool) {
	failure, ok := l.seen.Failures[Act{Kind: kind, Container: container}.Key()]
	return failure, ok
}

// advance brings the pod towards all its containers running.
func (l *life) advance() {
	if cause := l.restartsAll(); cause != nil {
		if l.restartCondemned(); !l.beginAnew(cause) {
			l.observe()
			return
		}
	}
	if l.mainsDone() { // what still runs ends, and is not restarted
		l.endRunning()
	} else {
		l.restartCondemned()
	}
	if until := activeUntil(l.pod); !until.IsZero() {
		l.wake(until)
	}
	if wanted := l.wanted(); len(wanted) > 0 {
		l.prepare()
		for _, u := range wanted {
			l.start(u)
		}
	}
	l.resize()
	l.freshen()
	l.runHooks()
	l.observe()
	l.forgetOldAttempts()
}

// wanted returns the containers that should be running and are not. Ephemeral ones
// wait for none of the others.
func (l *life) wanted() []*unit {
	if l.mainsDone() {
		return nil
	}
	wanted := l.wantedInTurn()
	for _, u := range l.extras {
		if u.current == nil {
			wanted = append(wanted, u)
		}
	}
	return wanted
}

// wantedInTurn returns those of the pod's own containers that should be running
// and are not, as far as their turn has come. Init containers run once in each boot
// of the machine: what they have made may be gone with the one before.
func (l *life) wantedInTurn() []*unit {
	var wanted []*unit
	want := func(u *unit) {
		if u.current == nil || u.restarts() {
			wanted = append(wanted, u)
		}
	}
	begun := slices.ContainsFunc(l.mains, func(u *unit) bool { return u.triedInThisBoot() && !l.beginsAnew(u) })
	for _, u := range l.inits {
		switch {
		case u.kind == sidecarUnit:
			want(u)
			if !l.started(u) && !begun {
				l.why("waiting for sidecar %s to start", u.spec.Name)
				return wanted
			}
		case begun || u.completed() && u.triedInThisBoot():
		default:
			if u.completed() {
				wanted = append(wanted, u)
			} else {
				want(u)
			}
			l.why("waiting for init container %s", u.spec.Name)
			return wanted
		}
	}
	for _, u := range l.mains {
		if want(u); l.holdsNext(u) {
			break
		}
	}
	return wanted
}

// mainsBegun: a main container has been started, so initialisation is over; if the pod
// begins anew, since then.
func (l *life) mainsBegun() bool {
	return slices.ContainsFunc(l.mains, func(u *unit) bool { return u.current != nil && !l.beginsAnew(u) })
}

// beginsAnew: the container has ended with the whole pod, which begins anew, and has not
// been started since.
func (l *life) beginsAnew(u *unit) bool { return l.d.Memory.Anew && u.again && u.exited() }

// mainsEverBegun: a main container has been started at some time.
func (l *life) mainsEverBegun() bool {
	return slices.ContainsFunc(l.mains, func(u *unit) bool { return u.current != nil })
}

// mainsDone: every main container has ended for good.
func (l *life) mainsDone() bool {
	return !slices.ContainsFunc(l.mains, func(u *unit) bool { return !u.exited() || u.restarts() })
}

func (l *life) prepare() {
	if !l.networkReady() {
		l.do(Act{Kind: ActSetupNetwork, Why: "the pod has no network"})
		l.why("waiting for the network")
	}
	if !l.seen.Volumes {
		l.do(Act{Kind: ActPrepareVolumes, Why: "the pod's volumes are not there"})
		l.why("waiting for volumes")
	}
}

func (l *life) networkReady() bool {
	return l.pod.Spec.HostNetwork || l.seen.Network != nil && !l.seen.NetworkStale
}

// start brings one container to its next attempt.
func (l *life) start(u *unit) {
	if u.current != nil {
		if at := u.restartAt(); l.now.Before(at) {
			l.wake(at)
			l.why("container %s waits for its back-off", u.spec.Name)
			return
		}
	}
	attempt := u.nextAttempt()
	lacking := l.lacking(u)
	for _, image := range lacking {
		if !l.do(Act{Kind: ActEnsureImage, Container: image.spec.Name, Attempt: image.attempt, Why: "image " + image.spec.Image}) {
			l.recheckImage(image)
		}
		l.why("waiting for image %s", image.spec.Image)
	}
	if len(lacking) > 0 {
		return
	}
	if l.seen.InFlight[string(ActResize)] { // which has counted the containers that run
		l.why("waiting for other resources")
		return
	}
	if l.networkReady() && l.seen.Volumes {
		l.do(Act{
			Kind: ActStart, Container: u.spec.Name, Attempt: attempt,
			ID: ContainerID(string(l.pod.UID), u.spec.Name, attempt), Why: l.startReason(u),
		})
		l.why("starting %s", u.spec.Name)
	}
}

func (l *life) startReason(u *unit) string {
	switch {
	case u.current == nil:
		return "first start"
	case u.current.StartError != "":
		return "it could not be started"
	case u.current.EarlierBoot:
		return "the machine was started again"
	}
	return fmt.Sprintf("it ended with exit code %d", u.current.ExitCode)
}

// forgetOldAttempts removes all but the last two records of each container.
func (l *life) forgetOldAttempts() {
	for _, u := range l.all() {
		for i := range l.seen.Containers {
			c := &l.seen.Containers[i]
			if c.Name == u.spec.Name && c != u.current && c != u.previous && !l.seen.Removed[c.ID] {
				l.do(Act{Kind: ActRemove, Container: c.Name, Attempt: c.Attempt, ID: c.ID, Why: "two later attempts are on record"})
			}
		}
	}
}

// release gives back what a pod that has finished does not need any more. Its
// records and logs stay until it is deleted or the node is short of disk; what the
// containers of an evicted one have written goes at once.
func (l *life) release() {
	if len(l.running()) > 0 {
		l.endRunning()
		return
	}
	if l.lingering() || l.starting() {
		return
	}
	if l.seen.Network != nil {
		l.do(Act{Kind: ActTeardownNetwork, Why: "no container will run again"})
	}
	switch {
	case l.evicted() && l.removeContainers("the pod is evicted"), l.seen.Spare && l.removeContainers("the node is short of disk"):
		return
	}
	if made := l.seen.Volumes || len(l.seen.Containers) > 0 || l.evicted(); made && !l.seen.VolumesGone {
		l.do(Act{Kind: ActRemoveVolumes, Why: "no container will run again"})
	}
}

// evicted: this agent, or one before it, has given the pod up for what it used.
func (l *life) evicted() bool {
	return l.seen.Verdict != nil && l.seen.Verdict.Evicted || l.pod.Status.Phase == corev1.PodFailed && l.pod.Status.Reason == ReasonEvicted
}

// removeContainers plans the removal of every container, and reports whether any
// is left.
func (l *life) removeContainers(why string) (left bool) {
	for _, c := range l.seen.Containers {
		if !l.seen.Removed[c.ID] {
			left = true
			l.do(Act{Kind: ActRemove, Container: c.Name, Attempt: c.Attempt, ID: c.ID, Why: why})
		}
	}
	return left
}

// tellBackOffs tells of a container that has come into back-off, once.
func (l *life) tellBackOffs() {
	for _, u := range l.all() {
		name := u.spec.Name
		waiting := l.state(u).Waiting
		if waiting == nil || l.d.Memory.Told[name] == waiting.Reason {
			continue
		}
		switch waiting.Reason {
		case ReasonCrashLoopBackOff:
			l.tell(name, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", name, l.podTitle())
		case ReasonImagePullBackOff:
			image, _, _ := l.imageFailure(u)
			l.tell(name, corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", image)
			l.tell(name, corev1.EventTypeWarning, "Failed", "Error: %s", waiting.Reason)
		case ReasonContainerCreating, ReasonPodInitializing:
			continue
		}
		l.d.Memory.Told[name] = waiting.Reason
	}
	for name := range l.d.Memory.Told {
		if u := l.unit(name); u == nil || u.running() {
			delete(l.d.Memory.Told, name)
		}
	}
}

func (l *life) unit(name string) *unit {
	for _, u := range l.all() {
		if u.spec.Name == name {
			return u
		}
	}
	return nil
}

func (l *life) running() []*unit {
	var running []*unit
	for _, u := range l.all() {
		if u.running() {
			running = append(running, u)
		}
	}
	return running
}

// starting: an act is in flight that makes something which is not on record yet.
func (l *life) starting() bool { return l.inFlight(ActStart, ActSetupNetwork, ActPrepareVolumes) }

// inFlight: an act of one of these kinds is.
func (l *life) inFlight(kinds ...ActKind) bool {
	for key := range l.seen.InFlight {
		if slices.Contains(kinds, kindOf(key)) {
			return true
		}
	}
	return false
}

func (l *life) podTitle() string { return podTitle(l.pod) }

// podTitle is how Kubernetes names a pod in its messages.
func podTitle(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}
