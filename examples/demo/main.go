// Command demo rolls a web server from one version to the next and back under
// traffic, on a server of its own in a network namespace of its own, and
// reports the steps, what was sent, what was lost, and how long it took. Where
// the machine allows no containers it says so, and shows the rollouts on hollow
// nodes, without traffic.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"windlass.dev/windlass/test/harness"
)

const (
	url      = "http://127.0.0.1:30080/"
	clients  = 16
	requests = 200_000         // the traffic ends here at the latest,
	longest  = 2 * time.Minute // or here
)

func main() {
	demo := run
	why := cannotRun()
	if why == nil {
		why = harness.EnterNamespace()
	}
	switch {
	case why == nil:
	case errors.Is(why, harness.ErrNoNamespace), errors.Is(why, errNoRuntime), errors.Is(why, errAsked):
		demo = func(ctx context.Context) error { return runHollow(ctx, why) }
	default:
		fmt.Fprintln(os.Stderr, "demo:", why)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is the demo. The working directory is the project's root.
func run(ctx context.Context) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "windlass-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{began: time.Now(), cluster: &harness.Cluster{
		Binary: filepath.Join(root, "bin", "windlass"),
		Dir:    filepath.Join(dir, "data"),
	}}
	d.cluster.Kubectl, err = kubectl(d.cluster.Binary, dir)
	if err != nil {
		return err
	}
	defer func() {
		if cleanup := d.cluster.Destroy(context.WithoutCancel(ctx)); err == nil {
			err = cleanup
		}
	}()
	if err := d.prepare(ctx, root, dir); err != nil {
		return err
	}
	load := harness.StartLoad(ctx, url, clients, requests, longest)
	err = d.roll(ctx, load)
	report := load.Stop()
	d.report(ctx, report)
	if err == nil && report.Lost > 0 {
		err = fmt.Errorf("%d requests were lost", report.Lost)
	}
	return err
}

// kubectl returns the machine's kubectl, else a link to the embedded one.
func kubectl(binary, dir string) (string, error) {
	if path, err := exec.LookPath("kubectl"); err == nil {
		return path, nil
	}
	path := filepath.Join(dir, "kubectl")
	script := fmt.Sprintf("#!/bin/sh\nexec %q kubectl \"$@\"\n", binary)
	return path, os.WriteFile(path, []byte(script), 0o755)
}

type demo struct {
	cluster *harness.Cluster
	began   time.Time
}

func (d *demo) say(format string, args ...any) {
	fmt.Printf("%6.2fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// kubectl runs kubectl and says so.
func (d *demo) kubectl(ctx context.Context, args ...string) error {
	out, err := d.cluster.KubectlRun(ctx, args...)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	d.say("kubectl %s  →  %s", strings.Join(args, " "), lines[len(lines)-1])
	return nil
}

// prepare brings the first version up.
func (d *demo) prepare(ctx context.Context, root, dir string) error {
	app, err := harness.BuildWebApp(root, dir)
	if err != nil {
		return err
	}
	d.began = time.Now()
	if err := d.cluster.Start(ctx); err != nil {
		return err
	}
	d.say("windlass server is ready, in a network namespace with nothing but loopback")
	if err := d.cluster.LoadImages(ctx,
		harness.WebApp("httpd:2.2.31", "2.2.31", app),
		harness.WebApp("httpd:2.2.32", "2.2.32", app)); err != nil {
		return err
	}
	d.say("windlass image load: httpd:2.2.31, httpd:2.2.32")
	for _, args := range [][]string{
		{"apply", "-f", "examples/httpd.service.yml"},
		{"apply", "-f", "examples/httpd.v1.yml"},
		{"rollout", "status", "deployment/httpd", "--timeout=60s"},
	} {
		if err := d.kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// roll rolls to the second version and back, under load, with a stretch of
// traffic between the steps.
func (d *demo) roll(ctx context.Context, load *harness.Load) error {
	d.say("%d clients send requests to %s, each on a new connection", clients, url)
	for _, step := range [][]string{
		{"apply", "-f", "examples/httpd.v2.yml"},
		{"rollout", "undo", "deployment/httpd"},
	} {
		if err := waitRequests(ctx, load, 1000); err != nil {
			return err
		}
		if err := d.kubectl(ctx, step...); err != nil {
			return err
		}
		if err := d.kubectl(ctx, "rollout", "status", "deployment/httpd", "--timeout=60s"); err != nil {
			return err
		}
	}
	if err := d.waitPods(ctx, 3); err != nil { // the last old pods drain when the rollout is complete
		return err
	}
	d.say("the last old pod is drained and gone")
	return waitRequests(ctx, load, 1000)
}

// waitPods waits until there are just so many pods.
func (d *demo) waitPods(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		out, err := d.cluster.KubectlRun(ctx, "get", "pods", "-l", "run=httpd", "-o", "name")
		if err != nil {
			return err
		}
		if strings.Count(out, "\n") == n {
			return nil
		}
	}
}

// waitRequests waits until the traffic has gone on for so many more requests.
func waitRequests(ctx context.Context, load *harness.Load, more int64) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for until := load.Requests() + more; load.Requests() < until; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the traffic stands still at %d requests: %w", load.Requests(), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

func (d *demo) report(ctx context.Context, report harness.Report) {
	if out, err := d.cluster.KubectlRun(ctx, "get", "events", "--field-selector", "reason=ScalingReplicaSet",
		"-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`); err == nil {
		fmt.Println("\nThe steps of the rollouts:")
		for line := range strings.Lines(out) {
			fmt.Print("  ", line)
		}
	}
	versions := map[string]int{}
	for answer, n := range report.Answers {
		version, _, _ := strings.Cut(answer, " on ")
		versions[version] += n
	}
	fmt.Printf("\nRequests sent: %d in %.1f s (%d answered by 2.2.31, %d by 2.2.32)\nRequests lost: %d\n",
		report.Requests, report.Elapsed.Seconds(), versions["httpd 2.2.31"], versions["httpd 2.2.32"], report.Lost)
	for reason, n := range report.Reasons {
		fmt.Printf("  %d × %s\n", n, reason)
	}
}
