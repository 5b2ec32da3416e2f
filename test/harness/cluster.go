package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Cluster is a windlass server that the caller started, with its data directory.
type Cluster struct {
	Binary  string // path of windlass
	Dir     string // data directory
	Kubectl string // command that kubectl is, a path or a name
	Args    []string

	server *exec.Cmd
	exited chan error
	space  *namespace // of a Fleet's
	// Wrap goes before every command, the server's as well: another namespace, say.
	Wrap []string
}

// LogPath is where the server's standard error goes, of all its starts.
func (c *Cluster) LogPath() string {
	return filepath.Join(filepath.Dir(c.Dir), filepath.Base(c.Dir)+".log")
}

// Kubeconfig is the path of the admin's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// Pid is the process of the running server, 0 before the first start.
func (c *Cluster) Pid() int {
	if c.server == nil {
		return 0
	}
	return c.server.Process.Pid
}

// Start starts the server and waits until /readyz says ok, or ctx ends.
func (c *Cluster) Start(ctx context.Context) error {
	log, err := os.OpenFile(c.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append(append([]string{}, c.Wrap...), c.Binary, "server", "--data-dir", c.Dir)
	args = append(args, c.Args...)
	c.server = exec.Command(args[0], args[1:]...)
	c.server.Stdout, c.server.Stderr = log, log
	if err := c.server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	c.exited = make(chan error, 1)
	go func(server *exec.Cmd, exited chan<- error) { exited <- server.Wait() }(c.server, c.exited)
	return c.waitReady(ctx)
}

func (c *Cluster) waitReady(ctx context.Context) error {
	for {
		select {
		case err := <-c.exited:
			c.exited <- err
			return fmt.Errorf("the server ended before it was ready: %w\n%s", err, c.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w\n%s", ctx.Err(), c.LogTail())
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := os.Stat(c.Kubeconfig()); err != nil {
			continue
		}
		if out, err := c.Run(ctx, c.Kubectl, "get", "--raw", "/readyz"); err == nil && strings.TrimSpace(out) == "ok" {
			return nil
		}
	}
}

// Run runs a command with KUBECONFIG set to the cluster's and returns its
// standard output. The error carries what it wrote to standard error.
func (c *Cluster) Run(ctx context.Context, command ...string) (string, error) {
	return c.RunInput(ctx, "", command...)
}

// RunInput is Run with something on standard input.
func (c *Cluster) RunInput(ctx context.Context, input string, command ...string) (string, error) {
	args := append(append([]string{}, c.Wrap...), command...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// KubectlRun runs kubectl against the cluster.
func (c *Cluster) KubectlRun(ctx context.Context, args ...string) (string, error) {
	return c.Run(ctx, append([]string{c.Kubectl}, args...)...)
}

// LoadImages packs the images and loads them into the node.
func (c *Cluster) LoadImages(ctx context.Context, images ...Image) error {
	archive := filepath.Join(filepath.Dir(c.Dir), filepath.Base(c.Dir)+"-images.tar")
	if err := SaveImages(archive, images...); err != nil {
		return err
	}
	defer os.Remove(archive)
	_, err := c.Run(ctx, c.Binary, "image", "load", "--data-dir", c.Dir, archive)
	return err
}

// Kill ends the server as a power cut would: SIGKILL.
func (c *Cluster) Kill() error {
	if err := c.server.Process.Kill(); err != nil {
		return err
	}
	<-c.exited
	return nil
}

// Doze stops the server where it stands, and lets it go on after so long: a machine
// that slept.
func (c *Cluster) Doze(d time.Duration) error {
	if err := c.server.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(d)
	return c.server.Process.Signal(syscall.SIGCONT)
}

// Stop ends the server in order; containers stay.
func (c *Cluster) Stop() error {
	if err := c.server.Process.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return err
	}
	select {
	case err := <-c.exited:
		return err
	case <-time.After(30 * time.Second):
		_ = c.server.Process.Kill()
		return fmt.Errorf("the server did not end within 30 s of SIGTERM\n%s", c.LogTail())
	}
}

// Destroy ends the server and everything that runs under its data directory.
func (c *Cluster) Destroy(ctx context.Context) error {
	var stop error
	if c.server != nil {
		stop = c.Stop()
	}
	_, err := c.Run(ctx, c.Binary, "reset", "--data-dir", c.Dir)
	return errors.Join(stop, err)
}

// Log is the server's log, of all its starts.
func (c *Cluster) Log() string {
	log, _ := os.ReadFile(c.LogPath())
	return string(log)
}

// LogTail is the end of the server's log.
func (c *Cluster) LogTail() string { return tail(c.Log(), 4000) }
