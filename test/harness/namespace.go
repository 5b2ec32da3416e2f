// Package harness runs the real binary as a user would: a server in a network
// namespace of its own, real containers from images packed on the spot, the
// real kubectl, and real traffic that is counted. The end-to-end tests, the
// demo and the benchmarks stand on it.
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/vishvananda/netlink"
)

// insideVariable tells a process that it is the child in its own namespace.
const insideVariable = "WINDLASS_HARNESS_INSIDE"

// ErrNoNamespace says that this process may not make network namespaces.
var ErrNoNamespace = errors.New("this process may not make network namespaces (it needs root)")

// EnterNamespace runs the current program again in a new network namespace
// that has loopback and nothing else, so that no packet can leave the machine,
// and ends this process with the child's exit code. In the child it returns
// nil. ErrNoNamespace where that is forbidden. Call it before anything else.
func EnterNamespace() error {
	if os.Getenv(insideVariable) != "" {
		return loopbackUp()
	}
	if os.Geteuid() != 0 {
		return ErrNoNamespace
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), insideVariable+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := child.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrNoNamespace, err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			_ = child.Process.Signal(s)
		}
	}()
	err := child.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	os.Exit(child.ProcessState.ExitCode())
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	return nil
}
