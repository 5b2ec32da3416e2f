package loss

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"windlass.dev/windlass/test/harness"
)

// Image is the name of the app's image.
const Image = "loss-app:1"

// NewRunner compiles the app, loads it into the cluster, which runs, and
// returns what rolls it. root is the project's root directory, dir is for what
// is made on the way.
func NewRunner(ctx context.Context, cluster *harness.Cluster, root, dir string) (Runner, error) {
	binary := filepath.Join(dir, "loss-app")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./test/loss/app")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return Runner{}, fmt.Errorf("build the app: %w: %s", err, output)
	}
	image := harness.Image{Ref: Image, Files: map[string]string{"/app": binary}, Entrypoint: []string{"/app"}}
	if err := cluster.LoadImages(ctx, image); err != nil {
		return Runner{}, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err != nil {
		return Runner{}, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	return Runner{Client: client}, err
}
