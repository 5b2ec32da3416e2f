package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"windlass.dev/windlass/test/harness"
)

// withFleet does something with a fleet of its own: the server's machine and so
// many others, all Ready, with the images.
func (b *bench) withFleet(ctx context.Context, agents int, agentArgs []string, do func(*harness.Fleet, *kubernetes.Clientset) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "fleet-")
	if err != nil {
		return err
	}
	f, err := harness.NewFleet(harness.FleetConfig{Binary: b.cluster.Binary, Kubectl: b.cluster.Kubectl, Dir: dir, Agents: agents, AgentArgs: agentArgs})
	if err != nil {
		return err
	}
	defer func() {
		if failed := f.Destroy(context.WithoutCancel(ctx)); err == nil {
			err = failed
		}
	}()
	start, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := f.Start(start); err != nil {
		return err
	}
	if err := f.LoadImages(start, b.images()...); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags(f.URL(), f.Server.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return do(f, client)
}

// podNamespace returns the path of the network namespace of a pod.
func podNamespace(dir, uid string) string { return filepath.Join(dir, "run", "netns", uid) }

// until waits until a condition holds.
func until(ctx context.Context, atMost time.Duration, what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(atMost)
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("not within %v: %s", atMost, what), err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
