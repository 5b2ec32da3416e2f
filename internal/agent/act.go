package agent

import (
	"strconv"
	"strings"
	"time"
)

// ActKind names one kind of thing that the agent does for a pod.
type ActKind string

// The kinds of acts.
const (
	ActSetupNetwork    ActKind = "SetupNetwork"
	ActPrepareVolumes  ActKind = "PrepareVolumes"
	ActEnsureImage     ActKind = "EnsureImage"     // find or pull, as imagePullPolicy says
	ActRecheckImage    ActKind = "RecheckImage"    // whether an image that could not be had may be had now
	ActStart           ActKind = "Start"           // a container
	ActProbe           ActKind = "Probe"           // a running container
	ActLook            ActKind = "Look"            // at the sockets in the pod's network namespace
	ActAwait           ActKind = "Await"           // have the service proxies publish a version
	ActPostStart       ActKind = "PostStart"       // the hook
	ActPreStop         ActKind = "PreStop"         // the hook
	ActStop            ActKind = "Stop"            // the stop signal of the image
	ActKill            ActKind = "Kill"            // SIGKILL
	ActResize          ActKind = "Resize"          // what the pod and its containers are held to
	ActRemove          ActKind = "Remove"          // a container's record, killing what is left of it
	ActTeardownNetwork ActKind = "TeardownNetwork" // after the last container
	ActRemoveVolumes   ActKind = "RemoveVolumes"   // of a pod that has finished
	ActCleanUp         ActKind = "CleanUp"         // the pod's directory and logs
	ActDeletePod       ActKind = "DeletePod"       // from the API, when nothing is left on the node
)

// Act is one thing to do for a pod, and why. Acts do not depend on the order in
// which they are done: all acts of a Decision may run at the same time.
type Act struct {
	Kind      ActKind
	Container string    // name in the pod's spec, where the act is about a container
	Attempt   int       // for EnsureImage, Start and Remove
	ID        string    // of the container, except for EnsureImage
	Probe     ProbeKind // for Probe
	Deadline  time.Time // for PreStop: the hook is cut off then
	Version   uint64    // for Await: the resourceVersion
	Why       string
}

// Key tells acts apart that may be in flight at the same time.
func (a Act) Key() string {
	parts := []string{string(a.Kind)}
	switch a.Kind {
	case ActEnsureImage, ActRecheckImage, ActStart:
		parts = append(parts, a.Container)
	case ActProbe:
		parts = append(parts, a.ID, string(a.Probe))
	case ActPostStart, ActPreStop, ActStop, ActKill, ActRemove:
		parts = append(parts, a.ID)
	}
	return strings.Join(parts, "/")
}

// kindOf is the kind of the act that has this Key.
func kindOf(key string) ActKind {
	kind, _, _ := strings.Cut(key, "/")
	return ActKind(kind)
}

// String prints the act on one line, for logs and scenario scripts.
func (a Act) String() string {
	var b strings.Builder
	b.WriteString(string(a.Kind))
	if a.Container != "" {
		b.WriteString(" " + a.Container)
	}
	if a.Kind == ActStart || a.Kind == ActEnsureImage || a.Kind == ActRemove {
		b.WriteString("#" + strconv.Itoa(a.Attempt))
	}
	if a.Probe != "" {
		b.WriteString(" " + string(a.Probe))
	}
	if a.Why != "" {
		b.WriteString(": " + a.Why)
	}
	return b.String()
}

// backOff is how long to wait before an act that failed is tried again: base
// after the first failure, doubled by each further one, at most limit.
type backOff struct{ base, limit time.Duration }

func (b backOff) delay(failures int) time.Duration {
	delay := b.base
	for range failures - 1 {
		if delay *= 2; delay >= b.limit {
			return b.limit
		}
	}
	return delay
}

// The back-offs of acts. Images wait as Kubernetes does, and starts by the
// back-off of restarts (see restartDelay); what usually mends itself at once (a
// ConfigMap that is applied after its pod) is tried sooner.
var (
	imageBackOff  = backOff{10 * time.Second, 5 * time.Minute}
	configBackOff = backOff{500 * time.Millisecond, 10 * time.Second}
	otherBackOff  = backOff{500 * time.Millisecond, 30 * time.Second}
)

// writeBackOff is that of statuses: others wait for them as soon as the API answers.
var writeBackOff = backOff{500 * time.Millisecond, 2 * time.Second}

// Failure is what is remembered of an act that failed, until it succeeds.
type Failure struct {
	Reason  string // as in a container's waiting state, "ErrImagePull"
	Message string
	Count   int // in a row
	At      time.Time
}

// RetryAt is when the act that failed is due again.
func (f Failure) RetryAt(kind ActKind) time.Time {
	policy := otherBackOff
	switch {
	case kind == ActEnsureImage:
		policy = imageBackOff
	case kind == ActStart && f.Reason == ReasonConfigError:
		policy = configBackOff
	case kind == ActStart:
		return f.At
	}
	return f.At.Add(policy.delay(f.Count))
}

// The reasons of a container's waiting and terminated states, as Kubernetes
// writes them.
const (
	ReasonContainerCreating = "ContainerCreating"
	ReasonPodInitializing   = "PodInitializing"
	ReasonCrashLoopBackOff  = "CrashLoopBackOff"
	ReasonConfigError       = "CreateContainerConfigError"
	ReasonRunError          = "RunContainerError"
	ReasonPostStartHook     = "PostStartHookError"
	ReasonImagePull         = "ErrImagePull"
	ReasonImagePullBackOff  = "ImagePullBackOff"
	ReasonImageNeverPull    = "ErrImageNeverPull"
	ReasonImageInspect      = "ImageInspectError"
	ReasonInvalidImageName  = "InvalidImageName"

	ReasonCompleted     = "Completed"
	ReasonError         = "Error"
	ReasonOOMKilled     = "OOMKilled"
	ReasonStartError    = "StartError"
	ReasonStatusUnknown = "ContainerStatusUnknown"
)
