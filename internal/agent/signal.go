package agent

import (
	"context"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// stopSignal is what tells a container to end: the spec's, else its image's,
// else SIGTERM.
func (a *Agent) stopSignal(ctx context.Context, spec *corev1.Container, imageID string) syscall.Signal {
	if spec.Lifecycle != nil && spec.Lifecycle.StopSignal != nil {
		return parseSignal(string(*spec.Lifecycle.StopSignal))
	}
	image, err := a.cfg.Images.Find(ctx, imageID)
	if err != nil {
		return syscall.SIGTERM
	}
	return parseSignal(image.StopSignal)
}

// parseSignal reads a signal as images name it: "SIGQUIT", "QUIT", "3",
// "SIGRTMIN+3". What it cannot read is SIGTERM.
func parseSignal(text string) syscall.Signal {
	const realTimeMin, realTimeMax = 34, 64 // as the C library counts them
	if number, err := strconv.Atoi(text); err == nil && number > 0 && number <= realTimeMax {
		return syscall.Signal(number)
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if offset, ok := strings.CutPrefix(name, "RTMIN"); ok {
		if number, err := strconv.Atoi(strings.TrimPrefix(offset, "+")); err == nil && number >= 0 && number <= realTimeMax-realTimeMin {
			return syscall.Signal(realTimeMin + number)
		}
		if offset == "" {
			return realTimeMin
		}
	}
	if offset, ok := strings.CutPrefix(name, "RTMAX"); ok {
		if number, err := strconv.Atoi(offset); err == nil && number <= 0 && number >= realTimeMin-realTimeMax {
			return syscall.Signal(realTimeMax + number)
		}
		if offset == "" {
			return realTimeMax
		}
	}
	if signal := unix.SignalNum("SIG" + name); signal != 0 {
		return signal
	}
	return syscall.SIGTERM
}
