package server

import (
	"context"
	"fmt"

	"k8s.io/component-base/metrics/legacyregistry"

	"windlass.dev/windlass/internal/proxy"
)

// serveServices runs the service proxy, with its metrics among those of this
// process: a server shows them at /metrics of the API.
func serveServices(services *proxy.Proxy) func(context.Context) error {
	return func(ctx context.Context) error {
		registry := legacyregistry.Registerer()
		if err := registry.Register(services); err != nil {
			return fmt.Errorf("metrics of Services: %w", err)
		}
		defer registry.Unregister(services)
		return services.Run(ctx)
	}
}
