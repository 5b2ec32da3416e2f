package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/api/v1alpha1"
)

// publishMost is the wait after many writes that failed: drains wait for what is published.
const publishMost = time.Second

// publisher writes the version that is in the kernel to the node's Lease, so
// that whoever waits to stop a pod knows. It writes while the loop goes on,
// and of versions that come while it writes only the last.
type publisher struct {
	client client.Client
	node   string
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	want    uint64
	written uint64
}

func newPublisher(c client.Client, node string, log *slog.Logger) *publisher {
	return &publisher{client: c, node: node, log: log, wake: make(chan struct{}, 1)}
}

// publish has a version written soon. A lower one than before is passed over.
func (p *publisher) publish(version uint64) {
	p.mu.Lock()
	p.want = max(p.want, version)
	p.mu.Unlock()
	notify(p.wake)
}

// asked returns the highest version that publish was called with.
func (p *publisher) asked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want
}

// version returns the last version written.
func (p *publisher) version() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written
}

// run writes what is published until ctx ends, again and again when it fails.
func (p *publisher) run(ctx context.Context) {
	wait := retryFirst
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-retry:
		}
		version := p.asked()
		err := p.write(ctx, version)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.log.Error("applied version not published; will try again", "version", version, "error", err, "after", wait)
			retry = time.After(wait)
			wait = min(2*wait, publishMost)
			continue
		}
		p.mu.Lock()
		p.written = version
		p.mu.Unlock()
		retry, wait = nil, retryFirst
	}
}

// write sets the Lease's annotation, and makes the Lease when there is none.
func (p *publisher) write(ctx context.Context, version uint64) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace:   v1alpha1.NamespaceNodeLease,
		Name:        v1alpha1.ProxyLeaseName(p.node),
		Labels:      map[string]string{v1alpha1.LabelComponent: v1alpha1.ComponentProxy},
		Annotations: map[string]string{v1alpha1.AnnotationAppliedVersion: strconv.FormatUint(version, 10)},
	}}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": lease.Labels, "annotations": lease.Annotations}})
	if err != nil {
		return fmt.Errorf("publish in lease %s: %w", lease.Name, err)
	}
	err = p.client.Patch(ctx, lease.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) {
		lease.Spec.HolderIdentity = &p.node
		err = p.client.Create(ctx, lease)
	}
	if err != nil {
		return fmt.Errorf("publish in lease %s: %w", lease.Name, err)
	}
	return nil
}
