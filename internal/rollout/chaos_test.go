package rollout

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// chaos is a world in which anything may happen in any order: pods become ready
// and lose it, fail, finish, are deleted and stop late; sets act late, and on
// sizes that they no longer have; the user changes his mind; the controller dies
// between two steps, or sees things as they were some time ago.
type chaos struct {
	*world

	// view is what the controller sees; nil when it sees things as they are.
	view *view

	// sizes are, for a set, the size on which it acts now, and those that it was
	// given later and has not seen yet; none when it sees the one that it has.
	sizes map[types.UID][]int32
}

// view is a look at the world. What the controller itself writes comes into it
// at once; what others do does not.
type view struct {
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet
	pods       map[types.UID][]*corev1.Pod
}

func newChaos(t *rapid.T) *chaos {
	c := &chaos{world: newWorld()}
	c.deployment = newDeployment("httpd", rapid.Int32Range(0, 12).Draw(t, "replicas"), "httpd:0")
	c.deployment.Spec.MinReadySeconds = rapid.SampledFrom([]int32{0, 0, 5}).Draw(t, "minReady")
	c.deployment.Spec.RevisionHistoryLimit = ptr.To(rapid.Int32Range(0, 3).Draw(t, "history"))
	c.strategy(t)
	return c
}

func (c *chaos) strategy(t *rapid.T) {
	d := c.deployment
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	quantity := rapid.SampledFrom([]string{"0", "1", "2", "5", "1%", "25%", "50%", "100%"})
	if rapid.IntRange(0, 3).Draw(t, "recreate") < 3 {
		d.Spec.Strategy = appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge:       ptr.To(intstr.Parse(quantity.Draw(t, "surge"))),
				MaxUnavailable: ptr.To(intstr.Parse(quantity.Draw(t, "unavailable"))),
			},
		}
	}
}

// The acts of the user.

func (c *chaos) change(t *rapid.T) {
	c.edit(func(d *appsv1.Deployment) {
		switch rapid.SampledFrom([]string{"image", "image", "replicas", "strategy", "history"}).Draw(t, "what") {
		case "image": // a new one, or an old one again
			d.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("httpd:%d", rapid.IntRange(0, 3).Draw(t, "image"))
		case "replicas":
			d.Spec.Replicas = ptr.To(rapid.Int32Range(0, 12).Draw(t, "replicas"))
		case "strategy":
			c.deployment = d
			c.strategy(t)
		case "history":
			d.Spec.RevisionHistoryLimit = ptr.To(rapid.Int32Range(0, 3).Draw(t, "history"))
		}
	})
}

func (c *chaos) pause(*rapid.T) {
	c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = !d.Spec.Paused })
}

// loseSet deletes a set by hand, and its pods with it.
func (c *chaos) loseSet(t *rapid.T) {
	if len(c.sets) == 0 || rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		return
	}
	rs := pick(t, c.sets)
	c.loseAll(rs)
}

// beginToLoseSet deletes a set by hand in the foreground: its pods go first.
func (c *chaos) beginToLoseSet(t *rapid.T) {
	if len(c.sets) == 0 || rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		return
	}
	if rs := pick(t, c.sets); rs.DeletionTimestamp == nil {
		rs.DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
		c.touch(rs)
	}
}

func (c *chaos) loseAll(rs *appsv1.ReplicaSet) {
	for _, pod := range c.those(rs, func(s PodState) bool { return s.Active }) {
		pod.DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
	}
	c.carryOut(Delete{ReplicaSet: rs})
}

// resizeSet scales a set by hand, behind the Deployment's back.
func (c *chaos) resizeSet(t *rapid.T) {
	if len(c.sets) == 0 || rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
		return
	}
	rs := pick(t, c.sets)
	rs.Spec.Replicas = ptr.To(rapid.Int32Range(0, 14).Draw(t, "size"))
	delete(c.sizes, rs.UID)
	c.touch(rs)
}

// The acts of pods, and upon them.

// flip makes a pod ready, or not. None becomes ready while its set has yet to see
// a size: a set sees what it was given sooner than a pod can start.
func (c *chaos) flip(t *rapid.T, ready bool) {
	pods := slices.DeleteFunc(c.those(nil, func(s PodState) bool { return s.Active && s.Ready != ready }), func(pod *corev1.Pod) bool {
		return ready && len(c.sizes[metav1.GetControllerOf(pod).UID]) > 1
	})
	if len(pods) > 0 {
		c.setReady(pick(t, pods), ready)
	}
}

// fail ends a pod, with an error or without.
func (c *chaos) fail(t *rapid.T) {
	if pods := c.those(nil, func(s PodState) bool { return s.Active }); len(pods) > 0 {
		pick(t, pods).Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded}).Draw(t, "phase")
	}
}

func (c *chaos) deletePod(t *rapid.T) {
	if pods := c.those(nil, func(s PodState) bool { return s.Active }); len(pods) > 0 {
		pick(t, pods).DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
	}
}

// stop lets one pod that was told to stop be gone, or all of them.
func (c *chaos) stop(t *rapid.T) {
	going := c.those(nil, func(s PodState) bool { return s.Terminating })
	if len(going) == 0 || rapid.Bool().Draw(t, "all") {
		c.reap()
		return
	}
	gone := pick(t, going)
	c.pods = slices.DeleteFunc(c.pods, func(pod *corev1.Pod) bool { return pod == gone })
}

func (c *chaos) tick(t *rapid.T) {
	c.now = c.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "s")) * time.Second)
}

// oneSetActs lets one set make and stop pods, in the worst order.
func (c *chaos) oneSetActs(t *rapid.T) {
	if len(c.sets) == 0 {
		return
	}
	rs := pick(t, c.sets)
	if rs.DeletionTimestamp != nil {
		return
	}
	sizes := c.sizesOf(rs)
	if len(sizes) > 1 {
		sizes = sizes[rapid.IntRange(0, len(sizes)-1).Draw(t, "sees"):]
		c.sizes[rs.UID] = sizes
	}
	c.act(rs, sizes)
}

// sizesOf returns at least the size that a set has.
func (c *chaos) sizesOf(rs *appsv1.ReplicaSet) []int32 {
	if sizes := c.sizes[rs.UID]; len(sizes) > 0 {
		return sizes
	}
	return []int32{*rs.Spec.Replicas}
}

// act makes and stops pods of a set, by the first of its sizes.
func (c *chaos) act(rs *appsv1.ReplicaSet, sizes []int32) {
	size := sizes[0]
	active := c.those(rs, func(s PodState) bool { return s.Active })
	c.worstFirst(active)
	for i := 0; i < len(active)-int(size); i++ {
		active[i].DeletionTimestamp = ptr.To(metav1.NewTime(c.now))
	}
	wanted, all := rs.Spec.Replicas, c.sets
	rs.Spec.Replicas, c.sets = &size, []*appsv1.ReplicaSet{rs}
	c.settle()
	rs.Spec.Replicas, c.sets = wanted, all
	rs.Status.ObservedGeneration = rs.Generation - int64(len(sizes)-1)
}

// allSetsActPromptly ends the lateness of sets.
func (c *chaos) allSetsActPromptly() { clear(c.sizes) }

// pick draws one of some things by its place, which prints shorter.
func pick[T any](t *rapid.T, from []T) T {
	return from[rapid.IntRange(0, len(from)-1).Draw(t, "which")]
}

// The acts of the controller.

// look brings the view up to date.
func (c *chaos) look() {
	c.view = &view{deployment: c.deployment.DeepCopy(), pods: c.snapshot().Pods}
	for _, pods := range c.view.pods {
		for i := range pods {
			pods[i] = pods[i].DeepCopy()
		}
	}
	for _, rs := range c.sets {
		c.view.sets = append(c.view.sets, rs.DeepCopy())
	}
}

// seen is the snapshot on which the controller decides.
func (c *chaos) seen() Snapshot {
	s := c.snapshot()
	if c.view != nil {
		s.Deployment, s.ReplicaSets, s.Pods = c.view.deployment, c.view.sets, c.view.pods
	}
	return s
}

var (
	errStale = errors.New("changed since it was read")
	errTaken = errors.New("the name is taken")
)

// decide makes a plan and carries out some of it, each step under the eyes of
// the rules.
func (c *chaos) decide(t *rapid.T) { c.decideUnder(t, c.obeys) }

// decideFreely does it with nobody watching.
func (c *chaos) decideFreely(t *rapid.T) {
	c.decideUnder(t, func(_ *rapid.T, s Snapshot, _ Plan, step Step) error { return c.attempt(s, step) })
}

func (c *chaos) decideUnder(t *rapid.T, do func(*rapid.T, Snapshot, Plan, Step) error) {
	var taken []*appsv1.ReplicaSet
	for {
		snapshot := c.seen()
		snapshot.Taken = taken
		plan := Decide(snapshot)
		few := len(plan.Steps)
		if rapid.Bool().Draw(t, "crash") {
			few = rapid.IntRange(0, few).Draw(t, "after")
		}
		var err error
		for _, step := range plan.Steps[:few] {
			if err = do(t, snapshot, plan, step); err != nil {
				break
			}
		}
		switch {
		case errors.Is(err, errTaken):
			create := plan.Steps[slices.IndexFunc(plan.Steps, isCreate)].(Create)
			taken = append(taken, c.set(create.ReplicaSet.Name).DeepCopy())
			continue
		case err != nil && (c.view == nil || !errors.Is(err, errStale)):
			t.Fatalf("%v\nplan:\n%s", err, plan)
		}
		break
	}
	for i, a := range c.sets {
		for _, b := range c.sets[:i] {
			if SameTemplate(&a.Spec.Template, &b.Spec.Template) {
				t.Fatalf("%s and %s have the same template", a.Name, b.Name)
			}
		}
	}
}

func isCreate(step Step) bool { _, is := step.(Create); return is }

// obeys carries out a step, and fails when it breaks a rule.
func (c *chaos) obeys(t *rapid.T, s Snapshot, plan Plan, step Step) error {
	budget, truth := BudgetOf(s.Deployment), c.snapshot().Pods
	recreate := s.Deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
	available, total := min(c.certain(truth), c.certain(s.Pods)), c.asked()
	if recreate {
		c.wantNoOldPods(t, s, step)
	}
	free := recreate || c.isWhole(step, budget)
	if err := c.attempt(s, step); err != nil {
		return err
	}
	if now := c.certain(truth); !free && now < min(available, budget.MinAvailable()) {
		t.Fatalf("%s\nleaves %d pods available of %d; %d must be\nplan:\n%s", step, now, available, budget.MinAvailable(), plan)
	}
	if now := c.asked(); now > max(total, budget.MaxTotal()) {
		t.Fatalf("%s\nasks for %d pods; %d may be\nplan:\n%s", step, now, budget.MaxTotal(), plan)
	}
	return nil
}

// isWhole says whether a step makes the only set with pods as large as the user
// wants. Which pods go then is the choice of the set, not of the rollout.
func (c *chaos) isWhole(step Step, budget Budget) bool {
	scale, is := step.(Scale)
	return is && scale.To == budget.Replicas && !slices.ContainsFunc(c.sets, func(rs *appsv1.ReplicaSet) bool {
		return rs.UID != scale.UID && *rs.Spec.Replicas > 0
	})
}

// wantNoOldPods: with Recreate, the new set gets its first pods when nothing is
// left of the old ones.
func (c *chaos) wantNoOldPods(t *rapid.T, s Snapshot, step Step) {
	name := ""
	switch step := step.(type) {
	case Create:
		name = step.ReplicaSet.Name
	case Scale:
		if step.To > 0 && step.From == 0 {
			name = step.Name
		}
	}
	rs := c.set(name)
	if name == "" || rs != nil && !SameTemplate(&rs.Spec.Template, &s.Deployment.Spec.Template) {
		return
	}
	for _, old := range s.ReplicaSets {
		if old.Name == name {
			continue
		}
		if counts, _ := Count(s.Pods[old.UID], 0, c.now); counts.Active+counts.Terminating > 0 {
			t.Fatalf("%s\nwhile %s has %d pods", step, old.Name, counts.Active+counts.Terminating)
		}
	}
}

// attempt carries out a step as an API does: one that rests on an old version of
// what it changes fails.
func (c *chaos) attempt(s Snapshot, step Step) error {
	switch step := step.(type) {
	case Create:
		if c.set(step.ReplicaSet.Name) != nil {
			return errTaken
		}
	case Scale:
		if rs := c.find(step.UID); step.UID != "" && (rs == nil || *rs.Spec.Replicas != step.From) {
			return errStale
		}
	case Describe:
		if !c.isCurrent(step.ReplicaSet) {
			return errStale
		}
	case Delete:
		if !c.isCurrent(step.ReplicaSet) {
			return errStale
		}
	case SetStatus:
		if s.Deployment.ResourceVersion != c.deployment.ResourceVersion {
			return errStale
		}
	}
	if err := c.carryOut(step); err != nil {
		return err
	}
	c.noteWrite(step)
	return nil
}

func (c *chaos) isCurrent(seen *appsv1.ReplicaSet) bool {
	rs := c.find(seen.UID)
	return rs != nil && (c.view == nil || rs.ResourceVersion == c.seenVersion(seen.UID))
}

func (c *chaos) seenVersion(uid types.UID) string {
	for _, rs := range c.view.sets {
		if rs.UID == uid {
			return rs.ResourceVersion
		}
	}
	return ""
}

// noteWrite gives a write its version, tells the set of its new size, and brings
// what was written into the view. A set that was made comes into it by a look.
func (c *chaos) noteWrite(step Step) {
	var rs *appsv1.ReplicaSet
	switch step := step.(type) {
	case Create:
		rs = c.set(step.ReplicaSet.Name)
		if c.view != nil {
			c.view.sets = append(slices.Clone(c.view.sets), rs)
		}
	case Scale:
		rs = c.set(step.Name)
		c.unseen(rs, step)
	case Describe:
		rs = c.find(step.ReplicaSet.UID)
	case Delete:
		if c.view != nil {
			c.view.sets = slices.DeleteFunc(slices.Clone(c.view.sets), func(rs *appsv1.ReplicaSet) bool { return rs.UID == step.ReplicaSet.UID })
		}
	case SetRevision, SetStatus:
		c.deployment.ResourceVersion = c.version()
		if c.view != nil {
			c.view.deployment = c.deployment.DeepCopy()
		}
	}
	if rs == nil {
		return
	}
	c.touch(rs)
	if c.view != nil {
		c.view.sets = slices.Clone(c.view.sets)
		for i, seen := range c.view.sets {
			if seen.UID == rs.UID {
				c.view.sets[i] = rs.DeepCopy()
			}
		}
	}
}

// unseen notes that a set has yet to see a new size.
func (c *chaos) unseen(rs *appsv1.ReplicaSet, step Scale) {
	if c.sizes == nil {
		c.sizes = map[types.UID][]int32{}
	}
	if len(c.sizes[rs.UID]) == 0 {
		c.sizes[rs.UID] = []int32{step.From}
	}
	c.sizes[rs.UID] = append(c.sizes[rs.UID], step.To)
}

func (c *chaos) touch(rs *appsv1.ReplicaSet) { rs.ResourceVersion = c.version() }

func (c *chaos) version() string {
	c.made++
	return strconv.Itoa(c.made)
}

// edit changes the Deployment, which so gets another version.
func (c *chaos) edit(change func(*appsv1.Deployment)) {
	c.world.edit(change)
	c.deployment.ResourceVersion = c.version()
}

// The measures of safety.

// certain is how many of the pods in a view stay available if each set now stops
// its surplus in the worst order it may, by the least of the sizes that it was
// given: pods that are not ready, then available ones.
func (c *chaos) certain(view map[types.UID][]*corev1.Pod) (n int32) {
	for _, rs := range c.sets {
		if rs.DeletionTimestamp != nil {
			continue // with its pods
		}
		active := slices.DeleteFunc(slices.Clone(view[rs.UID]), func(pod *corev1.Pod) bool { return !StateOf(pod).Active })
		c.worstFirst(active)
		surplus := max(len(active)-int(slices.Min(c.sizesOf(rs))), 0)
		for _, pod := range active[surplus:] {
			if c.available(pod) {
				n++
			}
		}
	}
	return n
}

func (c *chaos) worstFirst(active []*corev1.Pod) {
	rank := func(pod *corev1.Pod) int {
		switch {
		case !StateOf(pod).Ready:
			return 0
		case c.available(pod):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(active, func(a, b *corev1.Pod) int { return rank(a) - rank(b) })
}

func (c *chaos) available(pod *corev1.Pod) bool {
	at, ok := StateOf(pod).AvailableAt(c.deployment.Spec.MinReadySeconds)
	return ok && !at.After(c.now)
}

// asked is how many pods the sets are to have. A pod that its set has been told
// to stop does not count, whether it has begun to stop or not; nor does one of a
// set that is being deleted.
func (c *chaos) asked() (n int32) {
	for _, rs := range c.sets {
		if rs.DeletionTimestamp == nil {
			n += *rs.Spec.Replicas
		}
	}
	return n
}

// calm ends the chaos: all pods succeed from now on, and the rollout completes.
func (c *chaos) calm(t *rapid.T) {
	c.edit(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.view = nil
	for _, rs := range slices.Clone(c.sets) {
		if rs.DeletionTimestamp != nil {
			c.loseAll(rs)
		}
	}
	c.settle()
	if _, err := c.run(); err != nil {
		t.Fatal(err)
	}
	replicas := *c.deployment.Spec.Replicas
	st := c.deployment.Status
	if st.Replicas != replicas || st.UpdatedReplicas != replicas || st.AvailableReplicas != replicas {
		t.Fatalf("ended with %s, not %d pods", SetStatus{Status: st}, replicas)
	}
	if old := len(c.sets) - 1; old > int(*c.deployment.Spec.RevisionHistoryLimit) {
		t.Fatalf("%d old sets are left\n%s", old, c.history())
	}
	for _, rs := range c.sets {
		isNew := SameTemplate(&rs.Spec.Template, &c.deployment.Spec.Template)
		revision, _ := strconv.ParseInt(c.deployment.Annotations[AnnotationRevision], 10, 64)
		if isNew && revisionOf(rs) != revision || !isNew && (revisionOf(rs) >= revision || *rs.Spec.Replicas != 0) {
			t.Fatalf("ended at revision %d with\n%s", revision, c.history())
		}
	}
}
