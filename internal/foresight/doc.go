// Package foresight says what a change of a Deployment or StatefulSet will do before anything
// is touched: what changes, the steps that rollout.Decide will take with the
// numbers that rounding gives, what would block them and how to mend it, and how
// long it should take.
//
// It is pure: Of takes Facts, which somebody else has read, and returns a
// Foresight, a value that can be printed. What the API server makes of a change
// (defaults, validation, fields that cannot change) is a fact too: the answer of
// a dry run.
//
//	facts.go      what is known, and References: what must be read to know it
//	change.go     what changes
//	steps.go      the strategy's numbers and the waves
//	stateful.go   what is particular about a StatefulSet
//	room.go       the nodes, as room for the new pods; quota.go quotas
//	reference.go  Secrets, ConfigMaps and others that the pods refer to
//	image.go      images: on the nodes, in the registry
//	refusal.go    what the API server says against it
//	caution.go    what does not block a rollout, but should be known
//	duration.go   how long it takes, by earlier records
//	text.go       the Foresight for people; plan.go several of them, and other objects
package foresight
