package rollout

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Forecast is how a rollout goes if every pod that finds a node becomes
// available, and every pod that is told to stop does.
type Forecast struct {
	Budget Budget
	Waves  []Wave

	// Complete says that the rollout ends with all pods new and available. If
	// not, Stuck says what it waits for in vain, and Homeless are the pods that
	// found no node; or Instead is the step that makes another rollout of it, as
	// it has failed already.
	Complete bool
	Stuck    string
	Homeless []*corev1.Pod
	Instead  string

	// Waits is how often, one time after the other, pods must become available
	// before the rollout goes on or is complete; StopWaits is how often
	// pods must have stopped before new ones can start.
	Waits     int
	StopWaits int

	// LeastAvailable is the fewest pods that are available at any time, and
	// MostAsked the most that are asked for.
	LeastAvailable int32
	MostAsked      int32
}

// measure takes down how many pods there are while a wave is under way.
func (f *Forecast) measure(wave *Wave, asked, available int32) {
	wave.Asked = asked
	f.MostAsked = max(f.MostAsked, asked)
	f.LeastAvailable = min(f.LeastAvailable, available)
}

// stuckOn returns the forecast of a rollout that comes to no end: for want of a node
// if a pod found none, else of what its plan waits for.
func (f Forecast) stuckOn(waiting string) Forecast {
	switch {
	case len(f.Homeless) > 0:
		f.Stuck = "a node with room for " + pods(int32(len(f.Homeless)), "pod")
	case waiting != "":
		f.Stuck = waiting
	default:
		f.Stuck = "pods to become available that do not"
	}
	return f
}

// Wave is what one decision changes, and what it leads to before the next.
type Wave struct {
	Moves []Move

	Asked     int32 // pods asked for, of all sets
	Stopping  int32 // pods that are told to stop
	Starting  int32 // pods that become available before the next wave
	Late      int32 // pods that found a node only once others had stopped
	Homeless  int32 // pods that found none
	Available int32 // pods that are available when it is over
}

// Move is the change of one set's size.
type Move struct {
	Set  string
	New  bool // it is the set with the wanted template
	From int32
	To   int32
	Why  string
}

// Room is the nodes, for a forecast. Pods that have a node already are counted
// there, with those that are being stopped.
type Room interface {
	// Place gives a pod a node and says whether there was one for it.
	Place(pod *corev1.Pod) bool

	// Leave frees the place of a pod.
	Leave(uid types.UID)
}

// Endless is the Room in which every pod finds a node.
type Endless struct{}

// Place implements Room.
func (Endless) Place(*corev1.Pod) bool { return true }

// Leave implements Room.
func (Endless) Leave(types.UID) {}

// ForecastOf plays a rollout to its end on a copy of what is: it carries out what
// Decide says, lets pods start in room and stop, and decides again, until there
// is nothing left to do.
func ForecastOf(s Snapshot, room Room) Forecast {
	f := newFuture(s, room)
	stops := false // pods have stopped since new ones were last started
	for range f.rounds() {
		plan := Decide(f.Snapshot)
		wave := f.carryOut(plan.Steps)
		f.letGo()
		early := f.place()
		asked, available := f.count()
		f.forecast.measure(&wave, asked, available)
		wave.Stopping = f.stop()
		wave.Homeless = f.place()
		wave.Late = early - wave.Homeless
		stops = stops || wave.Late > 0
		wave.Starting = f.start()
		switch {
		case wave.Starting > 0:
			f.forecast.Waits++
			if stops {
				f.forecast.StopWaits++
			}
			stops = false
		case wave.Stopping > 0:
			stops = true
		}
		if len(wave.Moves) > 0 {
			_, wave.Available = f.count()
			f.forecast.Waves = append(f.forecast.Waves, wave)
		}
		if f.instead != "" {
			return f.end("")
		}
		if len(plan.Steps) == 0 && wave.Starting+wave.Stopping == 0 && !f.waitForOld() {
			return f.end(plan.Waiting)
		}
	}
	return f.end("an end: it goes on and on")
}

// move adds a move, or makes the one of the same set longer.
func (w *Wave) move(m Move) {
	for i := range w.Moves {
		if w.Moves[i].Set == m.Set {
			w.Moves[i].To = m.To
			return
		}
	}
	w.Moves = append(w.Moves, m)
}
