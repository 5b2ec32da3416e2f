// Package tokencleaner deletes join tokens that have ended, as Kubernetes'
// controller of this name does, but not at once: who comes a little late is told
// that the token has ended, not that it is unknown.
package tokencleaner
