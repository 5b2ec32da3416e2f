package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// resize makes the sets follow a change of the Deployment's size that happened
// in the middle of a rollout, or while it was paused. A set that is the only one
// with pods takes the whole size. When the new set is complete the others are
// emptied. Else a rolling update shares the change among them in proportion.
func (d *draft) resize() {
	active := d.active()
	resized := slices.ContainsFunc(active, d.resized)
	if !resized && !d.deployment.Spec.Paused {
		return
	}
	why := fmt.Sprintf("the Deployment was resized to %d", d.budget.Replicas)
	if only := d.onlyOrLatest(active); only != nil {
		if d.recreates() && only == d.new && only.spec == 0 && d.waitsForOld() {
			return
		}
		if only.surplus() == 0 || only.spec >= d.budget.Replicas {
			d.scale(only, d.budget.Replicas, why)
		}
		return
	}
	if d.saturated() {
		for _, s := range d.old() {
			if s.spec > 0 && !s.going() {
				d.scale(s, 0, "the new set is complete")
			}
		}
		return
	}
	if !resized {
		return
	}
	if !d.recreates() {
		d.share(active, why)
		return
	}
	for _, s := range active {
		d.scale(s, s.spec, why)
	}
}

// resized says whether a set was last scaled for another size of the Deployment.
func (d *draft) resized(s *set) bool {
	desired, err := strconv.Atoi(s.rs.Annotations[AnnotationDesiredReplicas])
	return err == nil && int32(desired) != d.budget.Replicas
}

// onlyOrLatest returns the one set that has pods. If none has, it is the new
// set, or else the latest. It returns nil when several have pods.
func (d *draft) onlyOrLatest(active []*set) *set {
	switch {
	case len(active) > 1:
		return nil
	case len(active) == 1:
		return active[0]
	case d.new != nil && !d.new.going():
		return d.new
	}
	rest := slices.DeleteFunc(d.old(), (*set).going)
	if len(rest) == 0 {
		return nil
	}
	return slices.MaxFunc(rest, byRevision)
}

// saturated says whether the new set has all the pods that are wanted, and all
// of them are available.
func (d *draft) saturated() bool {
	return d.new != nil && d.new.spec == d.budget.Replicas && !d.resized(d.new) &&
		d.new.sure(d.new.spec) == d.budget.Replicas
}

// share adds the difference between the pods there are and the pods there may be
// to the sets, in proportion to their sizes; what rounding leaves over goes to
// the largest. Where a set would lose available pods that the minimum needs,
// another gives idle ones instead.
func (d *draft) share(active []*set, why string) {
	most := d.budget.MaxTotal()
	if d.budget.Replicas == 0 {
		most = 0
	}
	change := most - d.total()
	if change > 0 && slices.ContainsFunc(active, func(s *set) bool { return s.surplus() > 0 }) {
		d.waiting = "pods that were told to stop, before sets are made larger"
		return
	}
	slices.SortStableFunc(active, func(a, b *set) int {
		if c := cmp.Compare(b.spec, a.spec); c != 0 {
			return c
		}
		if change > 0 {
			return byAge(b, a) // the newest first
		}
		return byAge(a, b)
	})
	targets := make([]int32, len(active))
	left := change
	for i, s := range active {
		part := d.proportion(s, most)
		if change > 0 {
			part = max(min(part, left), 0)
		} else {
			part = min(max(part, left), 0)
		}
		targets[i] = s.spec + part
		left -= part
	}
	targets[0] = max(targets[0]+left, 0)
	d.protect(active, targets)
	for i, s := range active {
		d.scale(s, targets[i], why+", and sets change in proportion")
	}
}

// proportion is how many pods a set should gain or lose for the whole to become
// most.
func (d *draft) proportion(s *set, most int32) int32 {
	if most == 0 {
		return -s.spec
	}
	was, err := strconv.Atoi(s.rs.Annotations[AnnotationMaxReplicas])
	if err != nil || was <= 0 {
		was = int(max(d.total(), 1))
	}
	return int32(math.Round(float64(s.spec)*float64(most)/float64(was))) - s.spec
}

// protect changes the targets of sets that are made smaller, without changing
// their sum, so that as many pods stay available as must, or as can.
func (d *draft) protect(active []*set, targets []int32) {
	for {
		var kept int32
		giver, taker := -1, -1
		for i, s := range active {
			kept += s.sure(targets[i])
			switch sure := s.sure(targets[i]); {
			case targets[i] < s.spec && s.sure(targets[i]+1) > sure:
				taker = i
			case targets[i] > 0 && s.sure(targets[i]-1) == sure:
				giver = i
			}
		}
		if kept >= d.budget.MinAvailable() || giver < 0 || taker < 0 {
			return
		}
		targets[giver]--
		targets[taker]++
	}
}
