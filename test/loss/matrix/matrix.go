package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"windlass.dev/windlass/api/v1alpha1"
	"windlass.dev/windlass/test/loss"
)

const firstPort = 30100

// matrix is what is to be run, and what runs it.
type matrix struct {
	only            *regexp.Regexp
	atOnce          int
	contrast, waits bool
	runner          loss.Runner
}

// row is a cell, drained and not.
type row struct {
	cell         loss.Cell
	drained, off loss.Result
	failed       error // of either run, not of a request
}

// cells runs them all, a few at a time, and prints the table in their order.
func (m *matrix) cells(ctx context.Context) error {
	var rows []*row
	for _, cell := range loss.Matrix() {
		if m.only.MatchString(cell.Application() + ", " + string(cell.Client)) {
			rows = append(rows, &row{cell: cell})
		}
	}
	slots := make(chan struct{}, max(1, m.atOnce))
	var group sync.WaitGroup
	for i, r := range rows {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			r.drained, r.failed = m.cell(ctx, r.cell, 2*i)
			if m.contrast && r.failed == nil && r.cell.Drain == "" {
				off := r.cell
				off.Drain = v1alpha1.DrainOff
				r.off, r.failed = m.cell(ctx, off, 2*i+1)
			}
		})
	}
	group.Wait()

	fmt.Println("| application | client | requests | failed | reset | repeated | drain off: requests | failed | reset | repeated |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	var errs []error
	for _, r := range rows {
		fmt.Printf("| %s | %s | %s | %s |\n", r.cell.Application(), r.cell.Client, figures(r.drained.Tally), figures(r.off.Tally))
		errs = append(errs, r.verdict())
	}
	return errors.Join(errs...)
}

func (m *matrix) cell(ctx context.Context, cell loss.Cell, number int) (loss.Result, error) {
	result, err := m.runner.Run(ctx, cell, fmt.Sprintf("cell-%d", number), firstPort+int32(number), 3)
	fmt.Fprintf(os.Stderr, "%s; %s: %s (requests | failed | reset | repeated), three rollouts in %v; kernel: %+v\n",
		cell.Application(), cell.Client, figures(result.Tally), result.Elapsed.Round(time.Millisecond), result.Kernel)
	for _, reason := range slices.Sorted(maps.Keys(result.Tally.Reasons)) {
		fmt.Fprintf(os.Stderr, "    %d × %s\n", result.Tally.Reasons[reason], reason)
	}
	if result.Missing != "" {
		fmt.Fprintln(os.Stderr, "    in the records:", result.Missing)
	}
	if err != nil {
		err = fmt.Errorf("%s; %s: %w", cell.Application(), cell.Client, err)
	}
	return result, err
}

// verdict is an error for a cell that could not be run, or that must lose
// nothing and has.
func (r *row) verdict() error {
	if r.failed != nil {
		return r.failed
	}
	if t := r.drained.Tally; r.cell.Zero() && t.Failed > 0 {
		return fmt.Errorf("%s; %s: %d of %d requests lost: %v", r.cell.Application(), r.cell.Client, t.Failed, t.Sent, t.Reasons)
	}
	return nil
}

func figures(t loss.Tally) string {
	if t.Sent == 0 {
		return "– | – | – | –"
	}
	return fmt.Sprintf("%d | %d | %d | %d", t.Sent, t.Failed, t.Reset, t.Repeated)
}
