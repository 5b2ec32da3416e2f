package foresight

import (
	"cmp"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/rollout"
)

// Wave is what the controller does at a time, and what it waits for before it
// goes on.
type Wave struct {
	Moves []Move `json:"moves"`

	// Asked is how many pods there should be after it, of all sets.
	Asked int32 `json:"asked"`

	// Starting is how many pods become available in it, Stopping how many stop.
	// Late is how many of the starting ones find a node only once others have
	// stopped, Homeless how many find none.
	Starting int32 `json:"starting,omitempty"`
	Stopping int32 `json:"stopping,omitempty"`
	Late     int32 `json:"late,omitempty"`
	Homeless int32 `json:"homeless,omitempty"`

	// Available is how many pods are available when it is over.
	Available int32 `json:"available"`
}

// Move is the change of a set's size.
type Move struct {
	Set  string `json:"set"`
	New  bool   `json:"new"`
	From int32  `json:"from"`
	To   int32  `json:"to"`
	Why  string `json:"why,omitempty"`
}

// steps takes over the waves: as they are in the room there is if that leads to
// the end, else as they would be with enough.
func (f *Foresight) steps(facts *Facts, ideal, real rollout.Forecast) {
	forecast := ideal
	if real.Complete {
		forecast = real
	}
	f.Completes = forecast.Complete
	f.Strategy = strategyOf(facts)
	f.Rounding = rounding(facts.After, forecast.Budget)
	if facts.Stateful != nil {
		f.Rounding = statefulRounding(facts.Stateful.After, forecast.Budget)
	}
	for _, w := range forecast.Waves {
		wave := Wave{Asked: w.Asked, Starting: w.Starting, Stopping: w.Stopping, Late: w.Late, Homeless: w.Homeless, Available: w.Available}
		for _, m := range w.Moves {
			wave.Moves = append(wave.Moves, Move{Set: m.Set, New: m.New, From: m.From, To: m.To, Why: m.Why})
		}
		f.Waves = append(f.Waves, wave)
	}
}

func strategyOf(facts *Facts) *v1alpha1.RolloutStrategy {
	d, budget := facts.After, rollout.BudgetOf(facts.After)
	return &v1alpha1.RolloutStrategy{
		Type:     string(cmp.Or(d.Spec.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)),
		Replicas: budget.Replicas, MaxSurge: budget.Surge, MaxUnavailable: budget.Unavailable,
		MinReadySeconds: d.Spec.MinReadySeconds, ProgressDeadlineSeconds: d.Spec.ProgressDeadlineSeconds,
		OnFailure: rollout.PolicyOf(d, facts.OnFailure),
	}
}

// rounding says how a strategy's numbers come about.
func rounding(d *appsv1.Deployment, budget rollout.Budget) string {
	if isRecreate(d) {
		return fmt.Sprintf("all old pods stop before the new ones start: between 0 and %d pods", budget.Replicas)
	}
	if budget.Replicas == 0 {
		return "no pods are wanted"
	}
	var surge, unavailable *intstr.IntOrString
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		surge, unavailable = r.MaxSurge, r.MaxUnavailable
	}
	out := fmt.Sprintf("%s, %s", rounded("maxSurge", surge, budget.Replicas, budget.Surge, "up"),
		rounded("maxUnavailable", unavailable, budget.Replicas, budget.Unavailable, "down"))
	if budget.MinAvailable() == budget.MaxTotal() {
		return fmt.Sprintf("%s: %s", out, pods(budget.Replicas))
	}
	return fmt.Sprintf("%s: between %d and %s", out, budget.MinAvailable(), pods(budget.MaxTotal()))
}

// rounded says what became of one value.
func rounded(name string, value *intstr.IntOrString, replicas, result int32, way string) string {
	v := ptr.Deref(value, intstr.FromInt32(0))
	exact, err := intstr.GetScaledValueFromIntOrPercent(&v, int(replicas), way == "up")
	out := fmt.Sprintf("%s %d", name, result)
	if v.Type == intstr.String {
		out = fmt.Sprintf("%s %s of %d = %d", name, v.StrVal, replicas, exact)
		if percent, _ := intstr.GetScaledValueFromIntOrPercent(&v, 100, true); percent*int(replicas)%100 != 0 {
			out += fmt.Sprintf(" (rounded %s)", way)
		}
	}
	switch {
	case err != nil || exact == int(result):
		return out
	case exact > int(result):
		return fmt.Sprintf("%s, of which %d count", out, result)
	}
	return fmt.Sprintf("%s, raised to %d because nothing could move else", out, result)
}

func pods(n int32) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
