package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/util/duration"

	"windlass.dev/windlass/internal/image"
)

func newImage() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Load, pull, list, remove and prune this node's images",
	}
	cmd.PersistentFlags().StringVar(&dataDir, "data-dir", defaultDataDir, "directory of this node's data")
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
				return pullImage(c.Context(), client(), args[0], os.Stdout, os.Stderr)
			},
		},
		newImageList(client),
		newImageRemove(client),
		newImagePrune(client),
	)
	return cmd
}

func newImageList(client func() *image.Client) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the images, with who uses them",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("--output %q: the one other format is json", output)
			}
			images, err := client().List(c.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(os.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(images)
			}
			return printImages(os.Stdout, images, time.Now())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or a table when it is not given")
	return cmd
}

func newImageRemove(client func() *image.Client) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove images, by name, ID or digest, that nobody uses",
		Long: `Take a name off an image, and delete the image when that was its last name.
An ID, or the start of one, deletes the image with all its names.

An image that a container was made from, or that a pod of this node is about to
start from, is left alone. With --force it loses its names at once, and goes when
nobody uses it any more.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var failed []error
			for _, ref := range args {
				failed = append(failed, client().Remove(c.Context(), ref, force))
			}
			return errors.Join(failed...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "take the names of images that are in use")
	return cmd
}

func newImagePrune(client func() *image.Client) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete images without a name that nobody uses, and what is left of pulls that broke off",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			pruned, err := client().Prune(c.Context(), all)
			if err != nil {
				return err
			}
			for _, id := range pruned.Images {
				fmt.Println("deleted", id)
			}
			fmt.Printf("freed %.1f MB\n", float64(pruned.Bytes)/1e6)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "delete images with a name too, if nobody uses them")
	return cmd
}

// pullImage fetches an image and prints its ID to out. On a terminal a line on
// info tells how far it is.
func pullImage(ctx context.Context, client *image.Client, ref string, out io.Writer, info *os.File) error {
	progress := func(image.Progress) {}
	if term.IsTerminal(int(info.Fd())) {
		progress = func(at image.Progress) { fmt.Fprintf(info, "\r\033[K%s", pullLine(ref, at)) }
		defer fmt.Fprint(info, "\r\033[K")
	}
	id, err := client.Pull(ctx, ref, progress)
	if err == nil {
		fmt.Fprintln(out, id)
	}
	return err
}

// pullLine says on one line how far a pull is.
func pullLine(ref string, at image.Progress) string {
	return fmt.Sprintf("pulling %s: %d of %d layers, %.1f of %.1f MB", ref, at.LayersDone, at.Layers, float64(at.BytesDone)/1e6, float64(at.Bytes)/1e6)
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

func printImages(out io.Writer, images []image.Listed, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tTAG\tIMAGE ID\tCREATED\tSIZE\tUSED BY")
	for _, i := range images {
		names := i.Names
		if len(names) == 0 {
			names = []string{"<none>:<none>"}
		}
		for _, name := range names {
			repository, tag := splitTag(name)
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.1f MB\t%s\n", repository, tag, shortID(i.ID), age(i.Created, now), float64(i.Size)/1e6, users(i.UsedBy))
		}
	}
	return table.Flush()
}

// age says how long ago an image was built; some images do not tell.
func age(created, now time.Time) string {
	if created.Unix() <= 0 {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(created)) + " ago"
}

// users names who uses an image, or how many do.
func users(by []string) string {
	switch len(by) {
	case 0:
		return "<none>"
	case 1:
		return by[0]
	}
	return fmt.Sprintf("%s and %d more", by[0], len(by)-1)
}

// splitTag parts a normalised reference at its tag, or its digest; a port's colon
// stays.
func splitTag(name string) (repository, tag string) {
	if repository, digest, ok := strings.Cut(name, "@"); ok {
		return repository, shortDigest(digest)
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, "<none>"
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// shortDigest is a digest that a table has room for.
func shortDigest(digest string) string { return "@" + shortID(digest) }
