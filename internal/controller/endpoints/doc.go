// Package endpoints keeps the legacy Endpoints object of every Service that has
// a selector, for the clients and the kubectl pages that still read it. It is
// derived from the Service's EndpointSlices, so the two never tell different
// stories; nothing in Windlass reads it.
package endpoints
