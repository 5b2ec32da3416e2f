// Package proxy makes Services work on a node: it compiles Services and
// EndpointSlices to nftables rules and keeps the kernel's equal to them.
//
//	Services, EndpointSlices ── Model ──► Ruleset ── Table ──► Transaction ── Kernel
//	       (the API's cache)     pure      a value    pure diff   one commit
//
// [Compile] and [Model.Compile] decide what the rules are, as a value that
// prints as a script for nft. [Table] knows what the kernel has and commits the
// difference, all at once. [Proxy] joins them to the API. One change costs what
// it changes: Services that it does not touch are compared by pointer.
//
// # The table
//
// Everything is in table ip windlass of the network namespace that the process
// runs in (IPv4; a table ip6 of the same shape can stand beside it).
//
//	          from a link                            from this machine's processes
//	               │                                              │
//	guard          ▼ prerouting, filter, -300                     │
//	 drop what is from or to 127.0.0.0/8                          │
//	               │ (conntrack, -200)                            │ (conntrack, -200)
//	prerouting     ▼ prerouting, nat, -100           output       ▼ output, nat, -100
//	 jump dispatch │                                  jump dispatch
//	               │                                              │
//	               │    dispatch                                  │
//	               │     map services:  address . protocol . port ─┐
//	               │     map nodeports: protocol . port, if the    ├─► service/<namespace>/<name>/<port>
//	               │       address is one of this machine ─────────┘     choose an endpoint: dnat
//	               │                                              │      or, without any: goto unserved
//	       ┌───────┴────────┐                                     │
//	       ▼                ▼                                     ▼
//	filter-input     filter-forward                        filter-output          (filter, 0)
//	 both: drop what conntrack calls invalid from pods      │
//	 all three: refuse what is still for the service range ─┤
//	            count what is refused or reset by the server's side
//	                        │                               │
//	postrouting             ▼ postrouting, nat, 100 ◄───────┘
//	 count connections that begin (and in input, nat, 100)
//	 masquerade: from 127.0.0.0/8 · from an endpoint to itself by a Service
//	             · from pods to elsewhere · what a Service sends from elsewhere to another node
//
// Chains without a hook: a port has service/…, which leads to all ready
// endpoints; with a traffic policy Local also local/… (those on this node) and
// external/… (which asks where a packet is from); with session affinity an
// endpoint/… for each endpoint, beside a set of its clients; with
// loadBalancerSourceRanges allowed/…. The chain refuse answers by TCP reset or
// ICMP port unreachable, unserved counts before that; discard drops. What ends a
// connection through a Service goes through the chains lost, lost/reset and
// lost/unreachable.
//
// The host ports of this node's pods are ways of the same kind, into chains
// hostport/… that lead to the pod alone.
//
// A client's own address reaches the endpoint wherever the answer comes back
// through this node: masquerading is for the cases above only.
//
// # No packet falls between two rulesets
//
// A commit is atomic, with one exception: a packet that is on its way through
// the old rules at that moment finds the maps without a name that they use
// empty already. So the last rule of each chain that chooses names an endpoint
// itself. And to which chain the maps with a name lead depends on the spec of
// a Service only: where endpoints change, rules change, elements do not.
//
// # What is counted
//
// The rules count the TCP connections that begin, are refused and are reset, in
// the sets connections, refused and resets, whose elements the kernel makes at
// the first packet of a [Path]. So a change of endpoints touches no counter,
// and only first packets and resets cost a lookup. A meter reads the sets and
// sums up by Service; a recorder writes what came during a rollout into its
// record, and [Proxy.Collect] tells the sums to who scrapes. docs/draining.md
// says what all this cannot see.
//
// # Restarts and others
//
// The rules stay when the process ends, however it does. The next one reads
// them and commits what differs, not before it has all Services and slices.
// Each commit names the kernel's rule generation that it was made for; when
// somebody else has changed the rules since, the kernel refuses it, and the
// table is read and repaired. The kernel also tells of such changes when they
// happen.
//
// # The drain
//
// An endpoint that is terminating gets no new connection, whatever else is
// said of it. When a slice lists one, somebody waits: the proxy then publishes,
// in the Lease of [v1alpha1.ProxyLeaseName], the highest resourceVersion of
// slices that the kernel's rules include; see [Proxy.Run]. Who waits for another
// change of endpoints asks in the Lease of a node
// ([v1alpha1.AnnotationAwaitedVersion]).
//
// Connections to an endpoint that leaves go on. Its UDP flows are forgotten, so
// that their clients find another, and so are, after a moment, the connections
// that it has not answered: it may have died without a word, and when their
// clients ask again they find another, too. When its pod is no more, so is
// whatever the kernel still knows of connections to it (see [Sweep]).
//
// # What the host must have
//
// Linux 5.9 with nf_tables, nft_nat, nft_masq, nft_numgen, nft_fib_ipv4,
// nft_reject_ipv4, nft_ct and nf_conntrack_netlink, and CAP_NET_ADMIN. Of the
// settings in net.ipv4: ip_forward=1; for node ports on 127.0.0.1
// route_localnet=1 on the bridge, and rp_filter not 1. A route for the service
// range that ends on this machine's bridge, so that packets of processes here
// come as far as the rules. Pods reach each other through the node (addresses
// of /32) and take no redirects from it, and the bridge's ports are in hairpin
// mode: where br_netfilter is on, the bridge itself sends a pod's packets back.
//
// [v1alpha1.AnnotationAwaitedVersion]: https://pkg.go.dev/windlass.dev/windlass/api/v1alpha1#AnnotationAwaitedVersion
// [v1alpha1.ProxyLeaseName]: https://pkg.go.dev/windlass.dev/windlass/api/v1alpha1#ProxyLeaseName
package proxy
