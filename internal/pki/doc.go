// Package pki is the cluster's certificate authority and everything it signs:
// the serving certificates of the API server and the agents, and the client
// certificates by which the parts and the administrator are known.
//
// It all lives in one directory, made at the first start. Every function is
// idempotent: what is there and still good is used, what is missing, expires
// soon, or says something else than is wanted is made anew. Keys are ECDSA
// P-256, in files of mode 0600; files are replaced whole.
package pki
