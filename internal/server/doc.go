// Package server is the composition root: the only package that knows all
// parts. It holds the data directory, makes the parts, starts them in order and
// stops them in reverse.
package server
