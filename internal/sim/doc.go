// Package sim has no code but tests: a whole control plane in one process, with
// the real API server and its store, the real controllers and scheduler, and the
// real agents on hollow nodes, driven by text scripts in testdata and by random
// schedules.
//
// A monitor watches Deployments, ReplicaSets and pods all the time. Every change
// carries the version that the store gave it, so that afterwards all of them can
// be put in the one order in which they happened, and the promises of a rollout
// be checked at each. See monitor.check.
package sim
