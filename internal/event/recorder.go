// Package event writes Kubernetes Events.
package event

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
)

// NewRecorder returns a recorder whose events name component as their source.
// Events are written in the order they are recorded, by one goroutine that ends
// with ctx. Equal events are counted on one object; unlike Kubernetes' default,
// a rollout of many steps does not have its events merged or dropped.
func NewRecorder(ctx context.Context, config *rest.Config, scheme *runtime.Scheme, component, host string) (record.EventRecorder, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := v1.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster(
		record.WithContext(ctx),
		record.WithCorrelatorOptions(record.CorrelatorOptions{
			MaxEvents: 10_000, // similar events within ten minutes before they are merged
			BurstSize: 10_000, // events of one object before they are dropped
			QPS:       100,
		}))
	broadcaster.StartRecordingToSink(&v1.EventSinkImpl{Interface: client.Events(corev1.NamespaceAll)})
	context.AfterFunc(ctx, broadcaster.Shutdown)
	return broadcaster.NewRecorder(scheme, corev1.EventSource{Component: component, Host: host}), nil
}
