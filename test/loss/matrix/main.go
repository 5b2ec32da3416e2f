// Command matrix rolls every cell of the loss matrix, drained and not, on a
// server of its own in a network namespace of its own, and prints the tables of
// docs/draining.md. It fails when a cell that must lose nothing has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"windlass.dev/windlass/test/harness"
	"windlass.dev/windlass/test/loss"
)

func main() {
	m := matrix{}
	only := flag.String("only", "", "run the cells whose application and client match this `expression`")
	binary := flag.String("windlass", filepath.Join("bin", "windlass"), "the `path` of the binary")
	flag.IntVar(&m.atOnce, "at-once", 3, "how many cells run at a time")
	flag.BoolVar(&m.contrast, "contrast", true, "run the cells with the drain off too")
	flag.BoolVar(&m.waits, "waits", true, "measure what rollouts of ten pods wait for, too")
	flag.Parse()
	if err := harness.EnterNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if m.only, err = regexp.Compile(*only); err == nil {
		err = m.run(ctx, *binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// run starts the server, rolls everything, and destroys the server.
func (m *matrix) run(ctx context.Context, binary string) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "windlass-loss-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cluster := &harness.Cluster{Binary: binary, Dir: filepath.Join(dir, "data"), Kubectl: "kubectl"}
	defer func() { err = errors.Join(err, cluster.Destroy(context.WithoutCancel(ctx))) }()
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	if m.runner, err = loss.NewRunner(ctx, cluster, root, dir); err != nil {
		return err
	}
	err = m.cells(ctx)
	if m.waits && ctx.Err() == nil {
		err = errors.Join(err, m.tenPods(ctx))
	}
	return err
}
