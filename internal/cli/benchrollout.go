package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/metrics/legacyregistry"

	"windlass.dev/windlass/internal/server"
)

const (
	benchName = "bench"
	podsANode = 250 // that a node has room for
)

// rolloutBench is one measurement of a rollout.
type rolloutBench struct {
	replicas, nodes    int
	surge, unavailable string
	behaviour          string
	service            bool
	version            string
	heapProfile        string
}

// run starts a control plane, measures, and ends it.
func (b *rolloutBench) run(ctx context.Context) (result *rolloutResult, err error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "windlass-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	own, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- server.Run(own, server.Options{
			NodeOptions: server.NodeOptions{
				DataDir: dir, NodeName: benchName, Version: b.version,
				Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
			},
			Listen: "127.0.0.1:0", HollowNodes: b.nodes,
			PodRange: netip.MustParsePrefix(defaultPodRange), ServiceRange: netip.MustParsePrefix(defaultServiceRange),
		})
	}()
	defer func() {
		stop()
		if end := <-ended; err == nil {
			err = end
		}
	}()
	client, err := awaitServer(own, filepath.Join(dir, "kubeconfig"), ended)
	if err != nil {
		return nil, err
	}
	return b.measure(own, client)
}

func (b *rolloutBench) check() error {
	if b.replicas < 1 || b.nodes < 1 {
		return errors.New("--replicas and --nodes have to be 1 at least")
	}
	surge := intstr.Parse(b.surge)
	extra, err := intstr.GetScaledValueFromIntOrPercent(&surge, b.replicas, true)
	if err != nil {
		return fmt.Errorf("--surge %q: give a number or a percentage", b.surge)
	}
	if room := podsANode * b.nodes; b.replicas+extra > room {
		return fmt.Errorf("%d replicas and a surge of %d do not fit on %d nodes, which have room for %d pods: give --nodes %d or more",
			b.replicas, extra, b.nodes, room, (b.replicas+extra+podsANode-1)/podsANode)
	}
	return nil
}

// awaitServer returns a client once the server is ready.
func awaitServer(ctx context.Context, kubeconfig string, ended chan error) (*kubernetes.Clientset, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if client, err := newBenchClient(kubeconfig); err == nil {
			if answer, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil && bytes.Equal(answer, []byte("ok")) {
				return client, nil
			}
		}
		select {
		case err := <-ended:
			ended <- err
			return nil, errors.New("the server ended before it was ready")
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func newBenchClient(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.ContentType = -1, runtime.ContentTypeProtobuf
	return kubernetes.NewForConfig(config)
}

// measure brings the Deployment up, changes its image, and takes the times.
func (b *rolloutBench) measure(ctx context.Context, client *kubernetes.Clientset) (*rolloutResult, error) {
	deployments := client.AppsV1().Deployments(metav1.NamespaceDefault)
	if b.service {
		if _, err := client.CoreV1().Services(metav1.NamespaceDefault).Create(ctx, benchService(), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	deployment, err := deployments.Create(ctx, b.deployment(), metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	if err := awaitComplete(ctx, client, deployment.Generation); err != nil {
		return nil, fmt.Errorf("bring the Deployment up: %w", err)
	}
	result := &rolloutResult{Replicas: b.replicas, Nodes: b.nodes, Up: time.Since(began).Seconds()}

	before, cpu, began := writes(), cpuSeconds(), time.Now()
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:v2"}]}}}}`)
	deployment, err = deployments.Patch(ctx, benchName, "application/strategic-merge-patch+json", patch, metav1.PatchOptions{})
	if err != nil {
		return nil, err
	}
	if err := awaitComplete(ctx, client, deployment.Generation); err != nil {
		return nil, fmt.Errorf("roll the Deployment: %w", err)
	}
	result.Rolled = time.Since(began).Seconds()
	result.PerSecond = float64(b.replicas) / result.Rolled
	result.CPU = cpuSeconds() - cpu
	result.Kinds, result.Writes = since(before, writes())
	if err := profileHeap(b.heapProfile); err != nil {
		return nil, err
	}
	result.Peak, err = peakMB()
	return result, err
}

func (b *rolloutBench) deployment() *appsv1.Deployment {
	replicas, deadline := int32(b.replicas), int32(3600)
	labels := map[string]string{"app": benchName}
	surge, unavailable := intstr.Parse(b.surge), intstr.Parse(b.unavailable)
	web := corev1.Container{Name: "web", Image: "web:v1", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}
	if b.behaviour != "" {
		web.Env = []corev1.EnvVar{{Name: "HOLLOW", Value: b.behaviour}}
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: benchName},
		Spec: appsv1.DeploymentSpec{
			Replicas:                &replicas,
			ProgressDeadlineSeconds: &deadline,
			Selector:                &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{web}},
			},
		},
	}
}

func benchService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: benchName},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": benchName}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// awaitComplete waits, by a watch, until a Deployment's status says of a
// generation what kubectl rollout status waits for.
func awaitComplete(ctx context.Context, client *kubernetes.Clientset, generation int64) error {
	for ctx.Err() == nil {
		watch, err := client.AppsV1().Deployments(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + benchName})
		if err != nil {
			return err
		}
		for event := range watch.ResultChan() {
			if d, ok := event.Object.(*appsv1.Deployment); ok && complete(d, generation) {
				watch.Stop()
				return nil
			}
		}
	}
	return ctx.Err()
}

func complete(d *appsv1.Deployment, generation int64) bool {
	wanted := *d.Spec.Replicas
	return d.Status.ObservedGeneration >= generation && d.Status.UpdatedReplicas == wanted &&
		d.Status.Replicas == wanted && d.Status.AvailableReplicas == wanted
}

// writes is how many writes of each kind the API of this process has made.
func writes() map[string]int {
	made := map[string]int{}
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		return made
	}
	for _, family := range families {
		if family.GetName() != "apiserver_request_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			verb, resource := label(metric, "verb"), label(metric, "resource")
			if code := label(metric, "code"); len(code) == 0 || code[0] != '2' {
				continue
			}
			switch verb {
			case "POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION":
			default:
				continue
			}
			if sub := label(metric, "subresource"); sub != "" {
				resource += "/" + sub
			}
			made[verb+" "+resource] += int(metric.GetCounter().GetValue())
		}
	}
	return made
}

func label(metric *dto.Metric, name string) string {
	for _, pair := range metric.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// since returns what was done between two counts, most first, and the sum.
func since(before, after map[string]int) (kinds []count, sum int) {
	for what, times := range after {
		if times -= before[what]; times > 0 {
			kinds = append(kinds, count{what, times})
			sum += times
		}
	}
	slices.SortFunc(kinds, func(a, b count) int { return cmp.Or(cmp.Compare(b.Times, a.Times), cmp.Compare(a.What, b.What)) })
	return kinds, sum
}

// cpuSeconds is the CPU time that this process has used.
func cpuSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// peakMB is the most memory that this process has had resident, in MB.
func peakMB() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				kib, err := strconv.Atoi(string(fields[0]))
				return kib / 1000, err
			}
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
