// Package loss rolls applications under load and counts the requests that were
// lost: a matrix of applications, by protocol and by how they end, and of
// clients, by how they use their connections.
//
// What a lost request is, is told in docs/draining.md; tally.go and the clients
// carry it out.
package loss
