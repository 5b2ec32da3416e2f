// Command windlass gives a machine, or a fleet, rolling updates that lose no
// request, behind the Kubernetes API.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"windlass.dev/windlass/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args)
	stop()
	os.Exit(code)
}
