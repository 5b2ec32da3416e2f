package v1alpha1

// Annotations on pods (set them in a workload's pod template).
const (
	// AnnotationDrain says how a pod is drained before its containers are
	// stopped: DrainOn (the default), DrainConnections or DrainOff.
	AnnotationDrain = "windlass.dev/drain"

	// DrainOn waits for the proxies and for connections that a request is in
	// flight on.
	DrainOn = "on"

	// DrainConnections waits for idle connections too, until they are closed:
	// for answers that come in pieces and a server that does not finish them.
	DrainConnections = "connections"

	// DrainOff stops containers as Kubernetes does, without waiting.
	DrainOff = "off"

	// AnnotationDrainTimeout bounds the drain of a pod, as a Go duration
	// ("25s"). Default: the pod's grace period less two seconds.
	AnnotationDrainTimeout = "windlass.dev/drain-timeout"

	// AnnotationReadyWhen says when a container without a readiness probe is
	// ready: ReadyWhenListening (the default), which is the same as
	// ReadyWhenStarted for a container that declares no TCP port.
	AnnotationReadyWhen = "windlass.dev/ready-when"

	// ReadyWhenListening: every TCP port that it declares has a listener.
	ReadyWhenListening = "listening"

	// ReadyWhenStarted: it runs and its startup probe, if any, has succeeded, as
	// in Kubernetes.
	ReadyWhenStarted = "started"
)

// Annotations on Deployments that users set.
const (
	// AnnotationOnFailure says what happens to a rollout that fails: a
	// FailurePolicy. On a Namespace it is the default of its Deployments; without
	// both it is OnFailureKeep.
	AnnotationOnFailure = "windlass.dev/on-failure"
)

// Annotations that Windlass sets and users read.
const (
	// AnnotationChangedBy is on objects with a pod template and on Services: who
	// last changed the template, or the selector, as an Author in JSON. The API
	// server sets it; what a request says of it is ignored.
	AnnotationChangedBy = "windlass.dev/changed-by"

	// AnnotationNotedCause is on a Deployment: the change-cause that it had when
	// its revision was last noted. A change-cause that equals it is an old one
	// for any other revision. For a StatefulSet it is on the ControllerRevision.
	AnnotationNotedCause = "windlass.dev/noted-cause"

	// AnnotationComputedCause is on a ReplicaSet of a Deployment, and on a
	// ControllerRevision of a StatefulSet: the last cause
	// that was computed for it. A change-cause that equals it was not given by a
	// user.
	AnnotationComputedCause = "windlass.dev/computed-cause"

	// AnnotationCompleted is on a ReplicaSet of a Deployment, and on a
	// ControllerRevision of a StatefulSet: the last of its revisions whose rollout
	// was complete. Only such a one is gone back to.
	AnnotationCompleted = "windlass.dev/completed-revision"

	// AnnotationScaledBecause is on a ReplicaSet of a Deployment: why its size was
	// last changed.
	AnnotationScaledBecause = "windlass.dev/scaled-because"

	// AnnotationFailedRevision is on a Deployment or StatefulSet: the last revision that failed
	// and was acted on by AnnotationOnFailure, AnnotationFailedBecause why it
	// failed: a reason in CamelCase, ": ", and a sentence; and
	// AnnotationFailedAction what was done about it: a FailurePolicy,
	// OnFailureKeep when it should have been rolled back but could not be.
	AnnotationFailedRevision = "windlass.dev/failed-revision"
	AnnotationFailedBecause  = "windlass.dev/failed-because"
	AnnotationFailedAction   = "windlass.dev/failed-action"

	// AnnotationMoments is on a pod: PodMoments in JSON.
	AnnotationMoments = "windlass.dev/moments"
)

// LabelHollow is "true" on nodes whose containers run no process. They have no
// service proxy.
const LabelHollow = "windlass.dev/hollow"

// Labels of a RolloutRecord.
const (
	// LabelTargetKind and LabelTargetName name its target: Deployment, httpd.
	LabelTargetKind = "windlass.dev/target-kind"
	LabelTargetName = "windlass.dev/target-name"
)

// What a node's service proxy publishes, so that an agent knows when no node
// routes to its pod any more. The Lease lives in NamespaceNodeLease, is named
// ProxyLeaseName(node), and carries LabelComponent: ComponentProxy.
const (
	// AnnotationAwaitedVersion is on a node's own Lease: the highest
	// resourceVersion of an EndpointSlice that the node's agent has waited for
	// the proxies to publish although no endpoint in it is terminating.
	AnnotationAwaitedVersion = "windlass.dev/awaited-resource-version"

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

// What stands for the volumes that nodes make themselves.
const (
	// LocalProvisioner is the provisioner of classes whose volumes are
	// directories below the data directory of a node.
	LocalProvisioner = "windlass.dev/local"

	// LocalClass is the class of that provisioner which is made, as the default
	// one, when a server starts and there is no class.
	LocalClass = "windlass-local"

	// FinalizerLocalVolume is on a PersistentVolume of that provisioner until its
	// node has deleted the directory, or let go of it where its policy is Retain.
	FinalizerLocalVolume = "windlass.dev/local-volume"

	// AnnotationCapacity is on such a volume: "enforced" where the file system
	// refuses more than the volume's capacity, else "not enforced: " and why.
	AnnotationCapacity = "windlass.dev/capacity"
)
