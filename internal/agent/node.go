package agent

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/condition"
)

// How often the node tells that it lives: its status rarely, its Lease often,
// as Kubernetes documents heartbeats.
const (
	heartbeatEvery = 5 * time.Minute
	nodeCheckEvery = 10 * time.Second
	nodeRetry      = 200 * time.Millisecond
)

// keepNode registers the node and keeps its status true until ctx ends.
func (a *Agent) keepNode(ctx context.Context) {
	told := time.Time{}
	var images []corev1.ContainerImage
	for ctx.Err() == nil {
		now := time.Now()
		pause := nodeCheckEvery
		beat := now.Sub(told) >= heartbeatEvery
		if list, err := a.cfg.Images.List(ctx); err == nil {
			images = imagesOf(list)
		}
		switch wrote, err := a.tellNode(ctx, now, beat, images); {
		case err != nil && ctx.Err() == nil:
			a.cfg.Log.Warn("Telling the API of the node", "err", err)
			pause = nodeRetry
		case wrote:
			told = now
		}
		select {
		case <-ctx.Done():
		case <-a.nodeNews:
		case <-time.After(pause):
		}
	}
}

func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// tellNode makes the Node in the API be what it is. It reports whether it wrote.
func (a *Agent) tellNode(ctx context.Context, now time.Time, beat bool, images []corev1.ContainerImage) (wrote bool, err error) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.cfg.NodeName}}
	err = a.cfg.Client.Get(ctx, client.ObjectKeyFromObject(node), node)
	if apierrors.IsNotFound(err) {
		a.describeNode(node)
		if err := a.cfg.Client.Create(ctx, node); err != nil && !apierrors.IsAlreadyExists(err) {
			return false, fmt.Errorf("register node %s: %w", a.cfg.NodeName, err)
		}
		beat = true
	} else if err != nil {
		return false, fmt.Errorf("get node %s: %w", a.cfg.NodeName, err)
	}
	base := node.DeepCopy()
	if a.describeNode(node); !equality.Semantic.DeepEqual(base, node) {
		if err := a.cfg.Client.Patch(ctx, node, client.StrategicMergeFrom(base)); err != nil {
			return false, fmt.Errorf("describe node %s: %w", a.cfg.NodeName, err)
		}
	}
	base = node.DeepCopy()
	node.Status = a.nodeStatus(now, node.Status, images, beat)
	if equality.Semantic.DeepEqual(base.Status, node.Status) {
		return false, nil
	}
	if err := a.cfg.Client.Status().Patch(ctx, node, client.StrategicMergeFrom(base)); err != nil {
		return false, fmt.Errorf("write the status of node %s: %w", a.cfg.NodeName, err)
	}
	return true, nil
}

// describeNode sets the labels and the spec that the agent owns.
func (a *Agent) describeNode(node *corev1.Node) {
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	for name, value := range a.cfg.NodeLabels {
		node.Labels[name] = value
	}
	node.Labels[corev1.LabelHostname] = a.cfg.NodeName
	node.Labels[corev1.LabelOSStable] = runtime.GOOS
	node.Labels[corev1.LabelArchStable] = runtime.GOARCH
	if a.cfg.PodCIDR.IsValid() && node.Spec.PodCIDR == "" {
		node.Spec.PodCIDR = a.cfg.PodCIDR.String()
		node.Spec.PodCIDRs = []string{node.Spec.PodCIDR}
	}
}

// nodeStatus is what the node's status should be, given what it is. The times
// of heartbeats move only with beat.
func (a *Agent) nodeStatus(now time.Time, old corev1.NodeStatus, images []corev1.ContainerImage, beat bool) corev1.NodeStatus {
	status := *old.DeepCopy()
	status.Capacity, status.Allocatable = a.capacity(), a.allocatable()
	status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: a.cfg.NodeIP.String()},
		{Type: corev1.NodeHostName, Address: a.cfg.NodeName},
	}
	status.NodeInfo = a.node.info
	status.NodeInfo.ContainerRuntimeVersion = runtimeScheme + strings.TrimPrefix(a.cfg.Version, "v")
	status.NodeInfo.KubeletVersion = a.cfg.Kubernetes
	if a.cfg.Listener != nil {
		if address, ok := a.cfg.Listener.Addr().(*net.TCPAddr); ok {
			status.DaemonEndpoints.KubeletEndpoint.Port = int32(address.Port)
		}
	}
	status.Images = images
	for _, c := range append(pressureConditions(a.presentPressures()),
		corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "the agent lives its pods' lives"}) {
		setNodeCondition(&status, c, now, beat)
	}
	return status
}

func setNodeCondition(status *corev1.NodeStatus, c corev1.NodeCondition, now time.Time, beat bool) {
	c.LastHeartbeatTime, c.LastTransitionTime = *stamp(now), *stamp(now)
	old := condition.FindNode(status.Conditions, c.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, c)
		return
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
		if !beat {
			c.LastHeartbeatTime = old.LastHeartbeatTime
		}
	}
	*old = c
}

// maxImages is how many images a node's status tells of, the largest first.
const maxImages = 50

func imagesOf(list []Image) []corev1.ContainerImage {
	slices.SortFunc(list, func(a, b Image) int {
		if a.Size != b.Size {
			return int(min(max(b.Size-a.Size, -1), 1))
		}
		return strings.Compare(a.ID, b.ID)
	})
	var images []corev1.ContainerImage
	for _, image := range list[:min(len(list), maxImages)] {
		if len(image.Names) > 0 {
			images = append(images, corev1.ContainerImage{Names: image.Names, SizeBytes: image.Size})
		}
	}
	return images
}

// nodeReference is how Events refer to the node, as the kubelet's do.
func (a *Agent) nodeReference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: a.cfg.NodeName, UID: types.UID(a.cfg.NodeName)}
}

// keepLease renews the node's Lease until ctx ends. Of a node that was not heard for a
// while the Node is looked at too.
func (a *Agent) keepLease(ctx context.Context) {
	for ctx.Err() == nil {
		pause := a.cfg.Lease / 4 // three renewals may be lost
		now := time.Now()
		if err := a.renewLease(ctx, now); err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("Renewing the node's lease", "err", err)
			pause = nodeRetry
		} else if last := a.renewed.Swap(now.UnixNano()); now.Sub(time.Unix(0, last)) >= a.cfg.Lease {
			a.lookAtNode()
		}
		rest(ctx, pause)
	}
}

// lookAtNode has the Node looked at soon.
func (a *Agent) lookAtNode() {
	select {
	case a.nodeNews <- struct{}{}:
	default:
	}
}

// contradict has the Node looked at, which says that nothing is heard of this agent,
// if its Lease has been renewed since: until it says otherwise no drain waits for this
// node's proxy.
func (a *Agent) contradict(now time.Time) {
	if now.Sub(time.Unix(0, a.renewed.Load())) < a.cfg.Lease {
		a.lookAtNode()
	}
}

// await asks the service proxies of all nodes, by the node's Lease, to publish
// when they have applied a version. What is asked for never goes down.
func (a *Agent) await(ctx context.Context, version uint64) error {
	a.awaiting.Lock()
	defer a.awaiting.Unlock()
	if version <= a.awaited {
		return nil
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%d"}}}`, v1alpha1.AnnotationAwaitedVersion, version)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.NamespaceNodeLease, Name: a.cfg.NodeName}}
	if err := a.cfg.Client.Patch(ctx, lease, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return fmt.Errorf("ask for version %d in lease %s: %w", version, lease.Name, err)
	}
	a.awaited = version
	return nil
}

func (a *Agent) renewLease(ctx context.Context, now time.Time) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.NamespaceNodeLease, Name: a.cfg.NodeName}}
	err := a.cfg.Client.Get(ctx, client.ObjectKeyFromObject(lease), lease)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	base := lease.DeepCopy()
	seconds, renewed := int32(a.cfg.Lease/time.Second), metav1.NewMicroTime(now)
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &a.cfg.NodeName, &seconds, &renewed
	if err == nil {
		return a.cfg.Client.Patch(ctx, lease, client.MergeFrom(base))
	}
	node := &corev1.Node{}
	if err := a.cfg.Client.Get(ctx, client.ObjectKey{Name: a.cfg.NodeName}, node); err == nil {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	}
	return a.cfg.Client.Create(ctx, lease)
}
