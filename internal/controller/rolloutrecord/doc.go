// Package rolloutrecord is the controller that writes RolloutRecords: for each
// rollout of a Deployment, and each switch of a Service's selector from one
// controller's pods to those of another, who began it, why, what was done, what
// happened to each pod, and how it ended.
//
// It only looks on. Decide and DecideSwitch are pure: they take what is, what the
// watches saw happen since the last decision, and the time; they return the
// records to make and the statuses to write. What a watch sees goes at once into
// a memory (a set's new size, when a pod was first seen in a stage, the last
// state of a pod that is gone) and from there, at the next decision, into the
// record's Book: all that this process knows of it, of which the status is a
// summary of bounded size. A rollout's status is written about once a second.
//
// The books are lost with the process. Its successor opens them again from the
// stored status and the objects there are: sizes that changed meanwhile become
// one step, pods that came and went meanwhile are not known, and for timelines
// that were omitted the stored timings stand.
package rolloutrecord
