// Command benchmark measures what bench/README.md lists, on a server of its
// own in a network namespace of its own, beside Docker on the same machine in
// the same run, and prints a table in Markdown.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"windlass.dev/windlass/test/harness"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "wire" {
		if err := wire(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "benchmark: wire:", err)
			os.Exit(1)
		}
		return
	}
	idle := flag.Duration("idle", time.Minute, "how long the server idles before its memory is read")
	pods := flag.Int("pods", 30, "how many pods and containers are started one after the other")
	only := flag.String("only", "", "measure only the parts whose names match this regular expression; `list` prints them")
	flag.Parse()
	if *only == "list" {
		for _, p := range (&bench{}).parts() {
			fmt.Println(p.name)
		}
		return
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark: -only:", err)
		os.Exit(2)
	}
	if err := harness.EnterNamespace(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &bench{idle: *idle, singles: *pods}, chosen); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

// part is one thing that is measured. A part may use what those before it found.
type part struct {
	name    string
	measure func(ctx context.Context) error
	apart   bool // on machines of its own, not on the server that the others share
}

func (b *bench) parts() []part {
	return []part{
		{name: "start", measure: b.start},
		{name: "writes", measure: b.writes},
		{name: "pods", measure: b.pods},
		{name: "unready", measure: b.unready},
		{name: "roll", measure: b.roll},
		{name: "density", measure: b.density},
		{name: "hollow", measure: b.hollow},
		{name: "docker-run", measure: b.dockerRun},
		{name: "docker-swarm", measure: b.dockerSwarm},
		{name: "logs", measure: b.logs},
		{name: "traffic", measure: b.traffic},
		{name: "agent", measure: b.agent, apart: true},
		{name: "overlay", measure: b.overlay, apart: true},
		{name: "death-fast", measure: b.deathFast, apart: true},
		{name: "false-alarms", measure: b.falseAlarms, apart: true},
		{name: "death-default", measure: b.deathByDefault, apart: true},
	}
}

func run(ctx context.Context, b *bench, chosen *regexp.Regexp) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "windlass-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.cluster = &harness.Cluster{Binary: filepath.Join(root, "bin", "windlass"), Dir: filepath.Join(b.dir, "data"), Kubectl: "kubectl"}
	if b.webapp, err = harness.BuildWebApp(root, b.dir); err != nil {
		return err
	}
	fmt.Print("| what | figure |\n| --- | --- |\n")
	defer func() {
		err = errors.Join(err, b.docker.stop(), b.end(context.WithoutCancel(ctx)))
	}()
	parts := slices.DeleteFunc(b.parts(), func(p part) bool { return !chosen.MatchString(p.name) })
	if len(parts) > 0 && parts[0].name != "start" && !parts[0].apart { // start leaves a server that runs
		if err := b.begin(ctx); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	for _, p := range parts {
		if p.apart { // in quiet
			if err := errors.Join(b.docker.stop(), b.end(ctx)); err != nil {
				return err
			}
		}
		if err := p.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

type bench struct {
	dir, webapp string
	idle        time.Duration
	singles     int // pods and containers that are started one after the other
	cluster     *harness.Cluster
	docker      docker

	own    starts          // what pods found
	rolled []time.Duration // what roll found
}

// begin starts the server and gives it the images.
func (b *bench) begin(ctx context.Context) error {
	if err := b.cluster.Start(ctx); err != nil {
		return err
	}
	return b.cluster.LoadImages(ctx, b.images()...)
}

// end ends the server and what is on it, if there is one.
func (b *bench) end(ctx context.Context) error {
	if b.cluster.Pid() == 0 {
		return nil
	}
	ended := b.cluster
	b.cluster = &harness.Cluster{Binary: ended.Binary, Dir: ended.Dir, Kubectl: ended.Kubectl}
	return ended.Destroy(ctx)
}

func (b *bench) images() []harness.Image {
	return []harness.Image{harness.WebApp("httpd:2.2.31", "2.2.31", b.webapp), harness.WebApp("httpd:2.2.32", "2.2.32", b.webapp)}
}

func row(what, format string, args ...any) {
	fmt.Printf("| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

// start measures starts on an empty and on a used directory, then the idle
// memory of the server.
func (b *bench) start(ctx context.Context) error {
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
	case <-time.After(b.idle):
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cluster.Pid()))
	if err != nil {
		return err
	}
	for _, name := range []string{"VmRSS", "RssAnon", "RssFile"} {
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, name+":"); ok {
				row(fmt.Sprintf("memory of the idle server after %v, %s", b.idle, name), "%s", strings.TrimSpace(value))
			}
		}
	}
	return b.cluster.LoadImages(ctx, b.images()...)
}

func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
