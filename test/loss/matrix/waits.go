package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"windlass.dev/windlass/test/loss"
)

// tenPods rolls ten pods three times in a few of the cells, one after the other,
// and prints what the old pods waited for, from the records: until no proxy
// sent new connections (route), until no request was in flight (drain), until
// the process had ended (stop).
func (m *matrix) tenPods(ctx context.Context) error {
	fmt.Print("\n| application | client | a rollout took | route | drain | stop |\n| --- | --- | --- | --- | --- | --- |\n")
	for i, cell := range []loss.Cell{
		{Protocol: loss.HTTP1, Ending: loss.Exits, Client: loss.EachNew},
		{Protocol: loss.HTTP1, Ending: loss.Closes, Client: loss.Kept},
		{Protocol: loss.HTTP1, Ending: loss.Exits, Client: loss.EachNew, Slow: 2 * time.Second},
		{Protocol: loss.HTTP1, Ending: loss.Lingers, Client: loss.Kept},
	} {
		name := fmt.Sprintf("ten-%d", i)
		result, err := m.runner.Run(ctx, cell, name, firstPort+500+int32(i), 10)
		if err != nil {
			return fmt.Errorf("ten pods: %s; %s: %w", cell.Application(), cell.Client, err)
		}
		var took []time.Duration
		stages := map[string][]time.Duration{}
		for _, record := range result.Records {
			if record.Status.Duration != nil {
				took = append(took, record.Status.Duration.Duration)
			}
			for _, pod := range record.Status.Pods {
				if pod.Set != record.Spec.From.Name {
					continue
				}
				note(stages, "route", pod.StopRequested, pod.EndpointRemoved)
				note(stages, "drain", pod.EndpointRemoved, pod.Drained)
				note(stages, "stop", pod.Drained, pod.Stopped)
			}
		}
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", cell.Application(), cell.Client,
			median(took), spread(stages["route"]), spread(stages["drain"]), spread(stages["stop"]))
	}
	return nil
}

func note(stages map[string][]time.Duration, stage string, from, to *metav1.MicroTime) {
	if from != nil && to != nil {
		stages[stage] = append(stages[stage], to.Sub(from.Time))
	}
}

func median(times []time.Duration) string {
	if len(times) == 0 {
		return "–"
	}
	slices.Sort(times)
	return times[len(times)/2].Round(time.Millisecond).String()
}

// spread is the median of a pod and the slowest of all.
func spread(times []time.Duration) string {
	if len(times) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s, %v at most", median(times), slices.Max(times).Round(time.Millisecond))
}
