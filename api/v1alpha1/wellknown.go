package v1alpha1

// Annotations on pods (set them in a workload's pod template).
const (
	// AnnotationDrain switches the acknowledged drain of a pod: "on" (the
	// default) or "off", which stops containers as Kubernetes does, without
	// waiting for proxies and connections.
	AnnotationDrain = "windlass.dev/drain"

	// AnnotationDrainTimeout bounds the drain of a pod, as a Go duration
	// ("25s"). Default: the pod's grace period less two seconds.
	AnnotationDrainTimeout = "windlass.dev/drain-timeout"
)

// What a node's service proxy publishes, so that an agent knows when no node
// routes to its pod any more. The Lease lives in NamespaceNodeLease, is named
// ProxyLeaseName(node), and carries LabelComponent: ComponentProxy.
const (
	// AnnotationAppliedVersion is on a proxy's Lease: the resourceVersion up
	// to which all EndpointSlice changes are in the node's ruleset.
	AnnotationAppliedVersion = "windlass.dev/applied-resource-version"

	// LabelComponent names the part of Windlass that owns an object.
	LabelComponent = "windlass.dev/component"

	// ComponentProxy is the LabelComponent value of a service proxy's Lease.
	ComponentProxy = "proxy"

	// NamespaceNodeLease is the namespace of node and proxy leases.
	NamespaceNodeLease = "kube-node-lease"
)

// ProxyLeaseName returns the name of the Lease in which the proxy of a node
// publishes what it has applied.
func ProxyLeaseName(node string) string { return "windlass-proxy-" + node }
