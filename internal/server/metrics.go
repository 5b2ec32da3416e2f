package server

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/legacyregistry"
)

// measured runs a part with its metrics among those of this process: a server
// shows them at /metrics of the API.
func measured(p interface {
	prometheus.Collector
	Run(ctx context.Context) error
}) func(context.Context) error {
	return func(ctx context.Context) error {
		registry := legacyregistry.Registerer()
		if err := registry.Register(p); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		defer registry.Unregister(p)
		return p.Run(ctx)
	}
}
