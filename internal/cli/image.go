package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"windlass.dev/windlass/internal/image"
)

func newImage() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Load, pull, list and remove this node's images",
	}
	cmd.PersistentFlags().StringVar(&dataDir, "data-dir", DefaultDataDir, "directory of this node's data")
	client := func() *image.Client { return image.NewClient(dataDir) }
	cmd.AddCommand(
		&cobra.Command{
			Use:   "load FILE",
			Short: "Load the images of an archive (docker save or OCI, plain or compressed); - is standard input",
			Args:  cobra.ExactArgs(1),
			RunE:  func(c *cobra.Command, args []string) error { return loadImages(c.Context(), client(), args[0]) },
		},
		&cobra.Command{
			Use:   "pull NAME",
			Short: "Fetch an image from its registry",
			Args:  cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				id, err := client().Pull(c.Context(), args[0])
				if err == nil {
					fmt.Println(id)
				}
				return err
			},
		},
		&cobra.Command{
			Use:   "ls",
			Short: "List the images",
			Args:  cobra.NoArgs,
			RunE:  func(c *cobra.Command, _ []string) error { return listImages(c.Context(), client(), os.Stdout) },
		},
		&cobra.Command{
			Use:   "rm NAME...",
			Short: "Remove images that no container uses",
			Args:  cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				for _, ref := range args {
					if err := client().Remove(c.Context(), ref); err != nil {
						return err
					}
				}
				return nil
			},
		},
	)
	return cmd
}

func loadImages(ctx context.Context, client *image.Client, path string) error {
	archive := os.Stdin
	if path != "-" {
		var err error
		if archive, err = os.Open(path); err != nil {
			return err
		}
		defer archive.Close()
	}
	names, err := client.Load(ctx, archive)
	if err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	for _, name := range names {
		fmt.Println("loaded", name)
	}
	return nil
}

func listImages(ctx context.Context, client *image.Client, out io.Writer) error {
	images, err := client.List(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tTAG\tIMAGE ID\tSIZE")
	for _, i := range images {
		names := i.Names
		if len(names) == 0 {
			names = []string{"<none>:<none>"}
		}
		for _, name := range names {
			repository, tag := splitTag(name)
			fmt.Fprintf(table, "%s\t%s\t%s\t%.1f MB\n", repository, tag, shortID(i.ID), float64(i.Size)/1e6)
		}
	}
	return table.Flush()
}

// splitTag parts a normalised reference at its tag; a port's colon stays.
func splitTag(name string) (repository, tag string) {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, "<none>"
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
