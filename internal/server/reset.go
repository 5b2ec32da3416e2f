package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"windlass.dev/windlass/internal/agent/volume"
	"windlass.dev/windlass/internal/network"
	"windlass.dev/windlass/internal/oci"
)

// Reset ends every container of a data directory, and removes their networks and
// what is mounted for them.
// The cluster's state and the images stay: a server started later makes what
// the state asks for anew. It refuses while a server holds the directory.
func Reset(ctx context.Context, o Options) (err error) {
	if err := o.complete(); err != nil {
		return err
	}
	held, err := lockDataDir(o.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	containers, err := oci.New(oci.Config{DataDir: o.DataDir, RuntimePath: o.Runtime, Log: o.Log})
	if err != nil {
		return err
	}
	pods, err := network.New(network.Config{DataDir: o.DataDir, Bridge: bridge, PodRange: o.nodeRange(), ServiceRange: o.ServiceRange, Log: o.Log})
	if err != nil {
		return err
	}
	m := &machine{NodeOptions: o.NodeOptions, runtime: containers, network: pods}
	return m.endPods(ctx)
}

// endPods ends every container of a machine whose parts do not run, and removes
// the pods' networks and what is mounted for them.
func (m *machine) endPods(ctx context.Context) error {
	if err := removeContainers(ctx, m.runtime, m.Log); err != nil {
		return err
	}
	m.runtime.Tidy()
	list, err := m.network.List(ctx)
	if err != nil {
		return err
	}
	for _, pod := range list {
		if err := m.network.Teardown(ctx, pod.PodUID); err != nil {
			return err
		}
	}
	if err := volume.Unmount(filepath.Join(m.DataDir, "pods")); err != nil {
		return fmt.Errorf("unmount the pods' volumes: %w", err)
	}
	return nil
}

func removeContainers(ctx context.Context, runtime *oci.Runtime, log *slog.Logger) error {
	list, err := runtime.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := runtime.Remove(ctx, c.ID); err != nil {
			return fmt.Errorf("remove container %s: %w", c.ID, err)
		}
		log.Debug("removed", "container", c.ID, "name", c.Name)
	}
	return nil
}
