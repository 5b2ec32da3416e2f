// Package controllertest runs controllers against the real API server inside a test.
package controllertest

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/internal/apiserver/apiservertest"
)

// patience bounds the wait for something to come true, on a machine with much else to do.
const patience = 30 * time.Second

// Start runs an API server and a manager with the controllers that the setups
// add, until the test ends, and returns a client whose reads pass by the cache.
func Start(t testing.TB, setups ...func(ctrl.Manager) error) client.Client {
	t.Helper()
	api := rest.CopyConfig(apiservertest.Start(t))
	api.WarningHandlerWithContext = rest.NoWarnings{}
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatalf("register kinds: %v", err)
		}
	}
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Scheme:     kinds,
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // tests run more than once
	})
	if err != nil {
		t.Fatalf("make a manager: %v", err)
	}
	for _, setup := range setups {
		if err := setup(mgr); err != nil {
			t.Fatalf("set up a controller: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended: %v", err)
		}
	})
	live, err := client.New(api, client.Options{Scheme: kinds})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	return live
}

// Eventually waits until something is true, and fails the test with its name
// when that takes more than half a minute.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("it did not come true that %s", what)
		case <-tick.C:
		}
	}
}
