// Package lag holds a test alone: the controllers, the scheduler and the makers of
// local volumes of several nodes, all of them the real ones, upon an API in memory
// that each sees through caches which lag by as much as a seed says, in a time of
// their own. What they decide from what is no longer so shows there, on any machine.
package lag
