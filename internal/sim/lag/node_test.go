package lag

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/agent/localvolume"
)

// machine is a node: it starts and ends pods, and makes volumes, unless it is cut off.
type machine struct {
	network
	name string
	cpu  string
	cut  atomic.Bool
	disk disk
}

// disk is a machine's directories.
type disk struct {
	mu   sync.Mutex
	dirs map[string]bool
}

func (d *disk) Path(v string) string { return "/volumes/" + v }

func (d *disk) Make(v string, _ int64) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirs[v] = true
	return "enforced", nil
}

func (d *disk) Grow(string, int64) error { return nil }

func (d *disk) Remove(v string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.dirs, v)
	return nil
}

func (d *disk) Abandon(v string) error { return d.Remove(v) }

func (d *disk) Sweep() ([]string, error) { return nil, nil }

// run is the machine's agent.
func (m *machine) run(ctx context.Context) error {
	seen, err := m.newCache()
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = seen.Start(ctx) })
	makes := localvolume.New(localvolume.Config{
		NodeName: m.name, Client: &connection{network: m.network, cache: seen}, Cache: seen, Recorder: &record.FakeRecorder{},
		Directories: &m.disk, Log: slog.New(slog.DiscardHandler),
	})
	running.Go(func() { _ = makes.Run(ctx) })
	for {
		m.api.mu.Lock()
		more := m.api.more
		m.api.mu.Unlock()
		if !m.cut.Load() {
			m.look()
		}
		select {
		case <-more:
			if pause(ctx, time.Duration(20+m.api.draw(200))*time.Millisecond) != nil {
				return nil
			}
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// look starts those of its pods whose volumes are here, and ends those that are to go.
func (m *machine) look() {
	for _, pod := range objects[*corev1.Pod](m.api) {
		switch {
		case pod.Spec.NodeName != m.name:
		case pod.DeletionTimestamp != nil:
			_ = m.api.remove(pod.DeepCopy(), &client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		case pod.Status.Phase == corev1.PodPending && m.api.hasVolumes(pod, m.name):
			started := pod.DeepCopy()
			started.Status.Phase = corev1.PodRunning
			started.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			_ = m.api.change(started, true)
		}
	}
}

// objects returns all of a kind, which must not be changed.
func objects[T client.Object](a *api) []T {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []T
	for _, o := range a.objects {
		if one, is := o.(T); is {
			all = append(all, one)
		}
	}
	return all
}

func find[T client.Object](a *api, namespace, name string) (found T) {
	for _, o := range objects[T](a) {
		if o.GetNamespace() == namespace && o.GetName() == name {
			return o
		}
	}
	return found
}

// hasVolumes says whether all claims of a pod have volumes that are on a node.
func (a *api) hasVolumes(pod *corev1.Pod, node string) bool {
	for _, v := range pod.Spec.Volumes {
		claim := find[*corev1.PersistentVolumeClaim](a, pod.Namespace, v.PersistentVolumeClaim.ClaimName)
		if claim == nil || claim.Status.Phase != corev1.ClaimBound {
			return false
		}
		if is := find[*corev1.PersistentVolume](a, "", claim.Spec.VolumeName); is == nil || nodeOf(is) != node {
			return false
		}
	}
	return true
}

func nodeOf(v *corev1.PersistentVolume) string {
	return v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0]
}

// register makes or mends the machine's Node: it is ready and nothing keeps pods away.
func (m *machine) register() {
	node := find[*corev1.Node](m.api, "", m.name)
	if node == nil {
		node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name, Labels: map[string]string{corev1.LabelHostname: m.name}}}
		if err := m.api.create(node); err != nil {
			panic(err)
		}
	}
	m.say(corev1.ConditionTrue)
}

// say writes whether the machine is ready; one that is not is tainted.
func (m *machine) say(ready corev1.ConditionStatus) {
	node := find[*corev1.Node](m.api, "", m.name)
	if node == nil {
		return
	}
	node = node.DeepCopy()
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(m.cpu), corev1.ResourcePods: resource.MustParse("20")}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	must(m.api.change(node, true))
	node.Spec.Taints, node.Spec.Unschedulable = nil, false
	if ready != corev1.ConditionTrue {
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect, TimeAdded: ptr.To(metav1.Now())})
		}
	}
	must(m.api.change(node, false))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
