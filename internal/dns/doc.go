// Package dns answers the names of the cluster, as
// https://github.com/kubernetes/dns/blob/master/docs/specification.md has them,
// and asks the host's resolvers for all others.
//
//	query ──► Server ──► Zone        names of Services and their endpoints: pure
//	             │
//	             └─────► forwarder ──► cache ──► the resolvers of /etc/resolv.conf
//
// A Zone is an index over the Services and EndpointSlices of the cache that all
// parts of the process share: it is changed object by object as the cache is,
// holds the cache's own objects, and answers a question by looking up, never by
// going through all Services.
//
// Each node's pods ask their own node: the Service kube-dns in kube-system has
// one endpoint for each node, which the node's Server writes, and its
// internalTrafficPolicy is Local.
package dns
