package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
)

// roll moves the fleet towards the new set as far as the strategy allows now.
func (d *draft) roll() {
	if d.recreates() {
		d.recreate()
		return
	}
	d.rollingUpdate()
}

func (d *draft) recreates() bool {
	return d.deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
}

// rollingUpdate adds new pods while there is room for them, takes old ones away
// while enough stay available, and again, until neither is possible.
func (d *draft) rollingUpdate() {
	if d.new == nil {
		d.create()
	}
	for d.fillNew() || d.drainOld() {
	}
}

// recreate stops all old pods, waits until they are gone, and starts new ones.
func (d *draft) recreate() {
	for _, s := range d.old() {
		if s.spec > 0 && !s.going() {
			d.scale(s, 0, "Recreate stops all old pods first")
		}
	}
	if d.waitsForOld() {
		return
	}
	if d.new == nil {
		d.create()
	}
	d.fillNew()
}

// waitsForOld says whether old pods are left, which Recreate waits for.
func (d *draft) waitsForOld() bool {
	var left int32
	for _, s := range d.old() {
		left += s.pods.Active + s.pods.Terminating
	}
	if left > 0 {
		d.waiting = fmt.Sprintf("%s to be gone", pods(left, "old pod"))
	}
	return left > 0
}

// fillNew gives the new set as many pods as there is room for, and says whether
// that changed anything.
func (d *draft) fillNew() bool {
	s := d.new
	switch {
	case s.going():
		d.waiting = s.rs.Name + " to be deleted, before one with the same template can be made"
		return false
	case s.spec > d.budget.Replicas:
		d.scale(s, d.budget.Replicas, fmt.Sprintf("%d are wanted", d.budget.Replicas))
		return true
	}
	up := min(d.budget.MaxTotal()-d.total(), d.budget.Replicas-s.spec)
	if up <= 0 {
		return false
	}
	if s.surplus() > 0 {
		d.waiting = fmt.Sprintf("%s of %s to stop, before it gets new ones", pods(s.surplus(), "pod"), s.rs.Name)
		return false
	}
	d.scale(s, s.spec+up, d.room())
	return true
}

// drainOld takes away old pods, and says whether that changed anything: first
// those that serve nobody, the oldest set first, then as many available ones as
// the minimum does not need.
func (d *draft) drainOld() bool {
	before := d.total()
	excess := before - d.budget.MinAvailable() - (d.new.spec - d.new.sure(d.new.spec))
	for _, s := range d.old() {
		if n := min(s.idle(), excess); n > 0 && !s.going() {
			d.scale(s, s.spec-n, fmt.Sprintf("%s serving nobody; such old pods go first", pods(n, "pod")))
			excess -= n
		}
	}
	for _, s := range d.old() {
		spare := d.available() - d.budget.MinAvailable()
		if n := min(s.spec, spare, excess); n > 0 && !s.going() {
			d.scale(s, s.spec-n, fmt.Sprintf("%s available, %d must be", pods(d.available(), "pod"), d.budget.MinAvailable()))
			excess -= n
		}
	}
	return d.total() < before
}

// complete says whether all pods are new and available.
func (d *draft) complete() bool {
	st := &d.status
	return d.new != nil && st.UpdatedReplicas == d.budget.Replicas && st.Replicas == d.budget.Replicas &&
		st.AvailableReplicas == d.budget.Replicas
}

func pods(n int32, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
