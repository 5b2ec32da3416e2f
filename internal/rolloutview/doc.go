// Package rolloutview shows rollouts to people: facts from the API in, lines of
// text out. It is pure; the command line fetches the facts and owns the terminal.
//
//	Facts ──Of──▶ Rollout ──Screen──▶ lines of a live view
//	                 └─────Log.Next──▶ a line for each event
//	RolloutRecord ──Summary, Describe, History──▶ lines
package rolloutview
