// Package cli is the command line of windlass: one file for each command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/internal/image"
)

// version is the release of this binary, set by the linker.
var version = "dev"

// defaultDataDir is where a node keeps everything unless --data-dir says otherwise.
const defaultDataDir = "/var/lib/windlass"

// exitError ends the process with a code of its own; what there was to say has
// been said.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Run carries out the command line args (args[0] is the program) until it is
// done or ctx ends, and returns the exit code. Errors go to standard error.
func Run(ctx context.Context, args []string) int {
	if image.Reexec() {
		return 0 // this process was a helper that unpacks an image layer
	}
	root := newRoot()
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	default:
		fmt.Fprintln(os.Stderr, "windlass:", err)
		return 1
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "windlass",
		Short:         "Rolling updates that lose no request, behind the Kubernetes API",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetVersionTemplate("windlass {{.Version}}\n")
	root.AddCommand(newServer(), newAgent(), newToken(), newImage(), newKubectl(), newReset(), newBench(), newRollout(), newPlan())
	for _, cmd := range root.Commands() {
		if cmd.HasSubCommands() {
			refuseUnknown(cmd)
		}
	}
	return root
}

// refuseUnknown makes a command that only holds others fail, as the program
// itself does, when it is given one that it does not have.
func refuseUnknown(cmd *cobra.Command) {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, c := range cmd.Commands() {
			names = append(names, c.Name())
		}
		return fmt.Errorf("unknown command %q for %q: give one of %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))
	}
}

// dataDirFlag adds --data-dir to a command that works on this node.
func dataDirFlag(cmd *cobra.Command, target *string) {
	cmd.Flags().StringVar(target, "data-dir", defaultDataDir, "directory of this node's data")
}
