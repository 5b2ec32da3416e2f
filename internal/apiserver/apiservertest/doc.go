// Package apiservertest runs the real API server, with its store, inside a test.
package apiservertest
