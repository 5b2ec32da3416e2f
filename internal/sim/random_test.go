package sim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxSurge: %[3]d, maxUnavailable: %[4]d}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: "web:1", ports: [{containerPort: 80}], env: [{name: HOLLOW, value: "ready-after=20ms,stop-takes=20ms"}],
         readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 1}}
`

// TestRandomSchedules does what users and misfortune do, in an order that a seed
// gives, and lets a few changes happen between two of them. In the end all is
// well again, and no promise was broken on the way.
func TestRandomSchedules(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	w := newWorld(t, 3)
	for seed := range seeds {
		name := fmt.Sprintf("web-%d", seed)
		if !t.Run(name, func(t *testing.T) { w.t = t; w.random(name, rand.New(rand.NewPCG(seed, 1))) }) {
			break
		}
	}
	w.t = t
}

func (w *world) random(name string, r *rand.Rand) {
	surge := r.IntN(3)
	unavailable := r.IntN(3)
	if surge == 0 {
		unavailable++ // both at zero is refused
	}
	w.must(w.apply(fmt.Sprintf(manifest, name, 2+r.IntN(5), surge, unavailable)))
	for range 12 {
		act, err := w.randomAct(name, r)
		w.t.Logf("%s: %v", act, err) // what cannot be done now, such as harming a pod that is not there, is left out
		w.letHappen(r.IntN(12))
	}
	w.must(w.patch(name, map[string]any{"paused": false}))
	w.must(w.setImage(name, "web:last"))
	w.must(w.heal(name))
	w.settled(name)
	w.promises()
}

// randomAct does one thing and says what.
func (w *world) randomAct(name string, r *rand.Rand) (string, error) {
	set := fmt.Sprintf("rs%d", 1+r.IntN(4))
	switch r.IntN(10) {
	case 0, 1, 2:
		image := []string{"web:1", "web:2", "web:3", "web:4-unready"}[r.IntN(4)]
		return "image " + image, w.setImage(name, image)
	case 3:
		n := r.IntN(7)
		return fmt.Sprintf("scale %d", n), w.patch(name, map[string]any{"replicas": n})
	case 4:
		paused := r.IntN(2) == 0
		return fmt.Sprintf("paused %v", paused), w.patch(name, map[string]any{"paused": paused})
	case 5, 6:
		n := r.IntN(6)
		w.crashControllers(n)
		return fmt.Sprintf("controllers crash after=%d", n), nil
	case 7:
		return "undo", w.undo(name)
	default:
		how := []string{"kill", "crash", "unready"}[r.IntN(3)]
		pod, err := w.podOf(name, set)
		if err == nil {
			err = w.harm(how, pod)
		}
		return how + " " + set, err
	}
}

// letHappen returns when so many changes have happened, or none any more.
func (w *world) letHappen(changes int) {
	began, last := w.monitor.seen(), time.Now()
	for seen := began; seen < began+changes && time.Since(last) < 100*time.Millisecond; {
		time.Sleep(time.Millisecond)
		if now := w.monitor.seen(); now != seen {
			seen, last = now, time.Now()
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}
