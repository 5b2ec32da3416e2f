// Package endpointmirror gives Services that have no selector the EndpointSlices
// that their hand-made Endpoints amount to, since slices are what proxies and DNS
// read. The slices are named after the Endpoints and their ports, so that no
// crash can make one twice, and go with the Endpoints.
package endpointmirror
