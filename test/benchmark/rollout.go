package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"
)

// rolled is what `windlass bench rollout --json` tells.
type rolled struct {
	Replicas  int
	Up        float64 `json:"upSeconds"`
	Seconds   float64 `json:"rollSeconds"`
	PerSecond float64 `json:"podsPerSecond"`
	CPU       float64 `json:"rollCPUSeconds"`
	Writes    int     `json:"rollWrites"`
	Peak      int     `json:"peakRSSMB"`
}

// hollow measures rollouts on hollow nodes, each in a process of its own, and
// how their time grows with their size.
func (b *bench) hollow(ctx context.Context) error {
	results := map[int]rolled{}
	for _, replicas := range []int{500, 1000, 5000} {
		r, err := b.rollout(ctx, replicas)
		if err != nil {
			return err
		}
		row(fmt.Sprintf("%d hollow pods on 50 nodes rolled, 25%%/25%%", replicas), "%.1f s, %.0f pods a second", r.Seconds, r.PerSecond)
		row(fmt.Sprintf("the same, CPU time a pod, API writes a pod, peak memory (%d pods)", replicas), "%.1f ms, %.1f, %d MB",
			1000*r.CPU/float64(replicas), float64(r.Writes)/float64(replicas), r.Peak)
		results[replicas] = r
	}
	small, large := results[500], results[5000]
	row("time for 5000 pods by ten times that for 500 (linear is 1)", "%.2f", large.Seconds/(10*small.Seconds))
	row("CPU time for 5000 pods by ten times that for 500", "%.2f", large.CPU/(10*small.CPU))
	return nil
}

func (b *bench) rollout(ctx context.Context, replicas int) (r rolled, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, b.cluster.Binary, "bench", "rollout", "--json", "--nodes", "50", "--replicas", fmt.Sprint(replicas)).Output()
	if err != nil {
		return r, fmt.Errorf("windlass bench rollout of %d pods: %w", replicas, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("windlass bench rollout: %w in %.200q", err, out)
	}
	return r, nil
}
