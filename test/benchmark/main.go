// Command benchmark measures what bench/README.md lists, on a server of its
// own in a network namespace of its own, beside Docker on the same machine in
// the same run, and prints a table in Markdown.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"windlass.dev/windlass/test/harness"
)

func main() {
	idle := flag.Duration("idle", time.Minute, "how long the server idles before its memory is read")
	pods := flag.Int("pods", 30, "how many pods and containers are started one after the other")
	withDocker := flag.Bool("docker", true, "measure Docker too")
	withHollow := flag.Bool("hollow", true, "measure rollouts of up to 5000 pods on hollow nodes too")
	flag.Parse()
	if err := harness.EnterNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *idle, *pods, *withDocker, *withHollow); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, idle time.Duration, pods int, withDocker, withHollow bool) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "windlass-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, cluster: &harness.Cluster{
		Binary: filepath.Join(root, "bin", "windlass"), Dir: filepath.Join(dir, "data"), Kubectl: "kubectl",
	}}
	if b.webapp, err = harness.BuildWebApp(root, dir); err != nil {
		return err
	}
	fmt.Print("| what | figure |\n| --- | --- |\n")
	defer func() {
		if cleanup := b.cluster.Destroy(context.WithoutCancel(ctx)); err == nil {
			err = cleanup
		}
	}()
	if err := b.start(ctx, idle); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := b.writes(ctx); err != nil {
		return fmt.Errorf("writes: %w", err)
	}
	own, err := b.pods(ctx, pods)
	if err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	if err := b.unready(ctx, 100); err != nil {
		return fmt.Errorf("unready: %w", err)
	}
	rolled, err := b.roll(ctx)
	if err != nil {
		return fmt.Errorf("roll: %w", err)
	}
	if withHollow {
		if err := b.hollow(ctx); err != nil {
			return fmt.Errorf("hollow: %w", err)
		}
	}
	if !withDocker {
		return nil
	}
	return b.compare(ctx, own, rolled, pods)
}

type bench struct {
	dir, webapp string
	cluster     *harness.Cluster
}

func row(what, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

// start measures starts on an empty and on a used directory, then the idle
// memory of the server.
func (b *bench) start(ctx context.Context, idle time.Duration) error {
	var used []time.Duration
	for i := range 6 {
		began := time.Now()
		if err := b.cluster.Start(ctx); err != nil {
			return err
		}
		elapsed := time.Since(began)
		if i == 0 {
			row("start to `/readyz`, empty directory", "%v", elapsed.Round(time.Millisecond))
		} else {
			used = append(used, elapsed)
		}
		if i < 5 {
			if err := b.cluster.Stop(); err != nil {
				return err
			}
		}
	}
	row("start to `/readyz`, same directory again (median of 5)", "%v", quantile(used, 0.5).Round(time.Millisecond))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(idle):
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cluster.Pid()))
	if err != nil {
		return err
	}
	for _, name := range []string{"VmRSS", "RssAnon", "RssFile"} {
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				row(fmt.Sprintf("memory of the idle server after %v, %s", idle, name), "%s", strings.TrimSpace(value))
			}
		}
	}
	return b.cluster.LoadImages(ctx, harness.WebApp("httpd:2.2.31", "2.2.31", b.webapp), harness.WebApp("httpd:2.2.32", "2.2.32", b.webapp))
}

func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
