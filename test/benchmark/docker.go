package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"windlass.dev/windlass/test/harness"
)

// docker is a daemon of Debian's docker.io that this run started, in the same
// network namespace, with a directory of its own.
type docker struct {
	dir    string
	daemon *exec.Cmd
}

// dockerRun compares `docker run` with pods.
func (b *bench) dockerRun(ctx context.Context) error {
	if err := b.startDocker(ctx); err != nil {
		return err
	}
	single, err := b.docker.single(ctx, b.singles)
	if err != nil {
		return err
	}
	row(fmt.Sprintf("`docker run` until the container answers (%d), median / p99", b.singles), "%s / %s", ms(quantile(single, 0.5)), ms(quantile(single, 0.99)))
	if len(b.own.ready) > 0 {
		row("ratio of the medians, pod created to Ready to `docker run`", "%.2f", ratio(b.own.ready, single))
		row("ratio of the medians, pod bound to Running to `docker run`", "%.2f", ratio(b.own.boundRunning, single))
	}
	return nil
}

// dockerSwarm compares Swarm's rolling update with ours.
func (b *bench) dockerSwarm(ctx context.Context) error {
	if err := b.startDocker(ctx); err != nil {
		return err
	}
	swarm, err := b.docker.swarm(ctx)
	if err != nil {
		return err
	}
	row("Docker Swarm, ten replicas rolled one at a time (start-first), median of 3", "%v", quantile(swarm, 0.5).Round(time.Millisecond))
	if len(b.rolled) > 0 {
		row("ratio of the medians, Windlass to Swarm", "%.2f", ratio(b.rolled, swarm))
	}
	return nil
}

// startDocker starts the daemon and gives it the images, if it does not run.
func (b *bench) startDocker(ctx context.Context) error {
	if b.docker.daemon != nil {
		return nil
	}
	b.docker.dir = filepath.Join(b.dir, "docker")
	if err := b.docker.start(ctx); err != nil {
		return fmt.Errorf("start docker: %w", err)
	}
	archive := filepath.Join(b.dir, "images.tar")
	if err := harness.SaveImages(archive, b.images()...); err != nil {
		return err
	}
	_, err := b.docker.run(ctx, "load", "-i", archive)
	return err
}

func ratio(a, b []time.Duration) float64 {
	return float64(quantile(a, 0.5)) / float64(quantile(b, 0.5))
}

func (d *docker) start(ctx context.Context) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.daemon = exec.Command("dockerd", "--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", filepath.Join(d.dir, "pid"), "-H", "unix://"+filepath.Join(d.dir, "sock"), "--storage-driver", "overlay2")
	d.daemon.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	d.daemon.Stdout, d.daemon.Stderr = log, log
	if err := d.daemon.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := d.run(ctx, "version")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			return fmt.Errorf("%w\n%s", err, text)
		}
	}
}

// stop ends the daemon, if it was started.
func (d *docker) stop() error {
	if d.daemon == nil {
		return nil
	}
	daemon := d.daemon
	d.daemon = nil
	_ = daemon.Process.Signal(syscall.SIGTERM)
	return daemon.Wait()
}

func (d *docker) run(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + filepath.Join(d.dir, "sock")}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// single measures `docker run` until the container's web server answers.
func (d *docker) single(ctx context.Context, n int) ([]time.Duration, error) {
	var times []time.Duration
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for range n {
		began := time.Now()
		id, err := d.run(ctx, "run", "-d", "--rm", "httpd:2.2.31")
		if err != nil {
			return nil, err
		}
		ran := time.Since(began)
		ip, err := d.address(ctx, id)
		if err != nil {
			return nil, err
		}
		asked := time.Now() // asking for the address is no part of starting the container
		if err := answers(ctx, client, "http://"+ip+"/"); err != nil {
			return nil, err
		}
		times = append(times, ran+time.Since(asked))
		if _, err := d.run(ctx, "kill", id); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// address is a container's own.
func (d *docker) address(ctx context.Context, id string) (string, error) {
	return d.run(ctx, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
}

func answers(ctx context.Context, client *http.Client, url string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		resp, err := client.Get(url)
		if err == nil {
			return resp.Body.Close()
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}

// swarm measures the rolling update of ten replicas, as fast as Swarm can.
func (d *docker) swarm(ctx context.Context) ([]time.Duration, error) {
	for _, args := range [][]string{
		{"swarm", "init", "--advertise-addr", "127.0.0.1"},
		{"service", "create", "--name", "ten", "--replicas", "10", "--no-resolve-image", "--update-parallelism", "1",
			"--update-order", "start-first", "--update-monitor", "0s", "httpd:2.2.31"},
	} {
		if _, err := d.run(ctx, args...); err != nil {
			return nil, err
		}
	}
	var times []time.Duration
	for _, image := range []string{"httpd:2.2.32", "httpd:2.2.31", "httpd:2.2.32"} {
		began := time.Now()
		if _, err := d.run(ctx, "service", "update", "--no-resolve-image", "--image", image, "ten"); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	_, err := d.run(ctx, "swarm", "leave", "--force")
	return times, err
}
