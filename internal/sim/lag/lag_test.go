package lag

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"windlass.dev/windlass/internal/controller/persistentvolume"
	"windlass.dev/windlass/internal/controller/podgc"
	"windlass.dev/windlass/internal/controller/replicaset"
	"windlass.dev/windlass/internal/controller/statefulset"
	"windlass.dev/windlass/internal/controller/tainteviction"
	"windlass.dev/windlass/internal/scheduler"
)

var (
	worlds  = flag.Int("worlds", 6, "how many worlds to live through")
	first   = flag.Int("first", 1, "the seed of the first")
	verbose = flag.Bool("waiting", false, "say of the pods that wait why")
	trace   = flag.Bool("trace", false, "print what is written in a world that fails")
)

// world is a cluster: its API, its machines, its processes, and what its users do.
type world struct {
	network
	t        *testing.T
	machines []*machine
	faults   []string
	remade   map[string]bool         // claims that a user deleted, by name
	since    map[types.UID]time.Time // that pods have their nodes
	began    time.Time

	scheduler, controllers func() // end them
}

// TestWhatCanRunRuns: however late each cache shows what is written, whatever becomes
// of writes, of nodes, pods and claims meanwhile: no node is given more than it has, no
// two pods that repel each other come together, a pod goes where its volumes are, and
// at rest whatever fits runs, each claim has one volume, and none is left over.
func TestWhatCanRunRuns(t *testing.T) {
	utilruntime.ErrorHandlers = nil // they wait, by a clock that all share
	for seed := *first; seed < *first+*worlds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { live(t, uint64(seed)) })
		})
	}
}

func live(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, m := range w.machines {
		running.Go(func() { must(m.run(ctx)) })
	}
	running.Go(func() { w.collect(ctx) })
	w.begin()
	for range 20 + w.api.draw(60) {
		time.Sleep(time.Duration(w.api.draw(1500)) * time.Millisecond)
		w.something()
	}
	w.calm.Store(true)
	time.Sleep(10 * time.Second)
	for _, m := range w.machines {
		m.cut.Store(false)
		m.register()
	}
	time.Sleep(5 * time.Minute)
	w.atRest()
	w.scheduler()
	w.controllers()
	cancel()
	running.Wait()
	if len(w.faults) > 0 {
		if *trace {
			w.print()
		}
		t.Errorf("seed %d:\n%s", seed, strings.Join(w.faults, "\n"))
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	a := newAPI(rand.New(rand.NewPCG(seed, 1)))
	w := &world{t: t, network: network{api: a, calm: &atomic.Bool{}, cut: &atomic.Bool{}}, remade: map[string]bool{}, since: map[types.UID]time.Time{}, began: time.Now()}
	a.bound = w.bound
	waits := storagev1.VolumeBindingWaitForFirstConsumer
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: "windlass.dev/local", VolumeBindingMode: &waits, ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete)},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "hand"}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &waits},
	} {
		must(a.create(o))
	}
	for i, cpu := range []string{"2", "1500m", "1"} {
		m := &machine{name: string(rune('a' + i)), cpu: cpu, disk: disk{dirs: map[string]bool{}}}
		m.network = network{api: a, calm: w.calm, cut: &m.cut}
		m.register()
		w.machines = append(w.machines, m)
	}
	for i := range 3 {
		w.make(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("hand-", i)}, Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: "hand", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain, VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/disk"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{w.machines[i].name}}}}}}},
		}})
	}
	w.make(w.set("db", "local"))
	w.make(w.replicas("web", 3, "200m", func(spec *corev1.PodSpec) {
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	}))
	w.make(w.replicas("lone", 2, "100m", func(spec *corev1.PodSpec) {
		spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "lone"}}}}}}
	}))
	return w
}

func (w *world) make(o client.Object) {
	if err := w.api.create(o); client.IgnoreAlreadyExists(err) != nil {
		panic(err)
	}
}

func template(app, cpu string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "i:0", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}}}
}

func (w *world) replicas(app string, n int32, cpu string, change func(*corev1.PodSpec)) *appsv1.ReplicaSet {
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app}, Spec: appsv1.ReplicaSetSpec{
		Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, Template: template(app, cpu)}}
	change(&set.Spec.Template.Spec)
	return set
}

func claim(name, class string) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}
}

func (w *world) set(app, class string) *appsv1.StatefulSet {
	data := claim("data", class)
	data.Namespace = ""
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app}, Spec: appsv1.StatefulSetSpec{
		Replicas: ptr.To[int32](3), ServiceName: app, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, Template: template(app, "600m"),
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{data},
		UpdateStrategy:       appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		PodManagementPolicy:  []appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement}[w.api.draw(2)],
	}}
	if w.api.draw(3) == 0 {
		set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenScaled: appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
	}
	if w.api.draw(2) == 0 { // one on each node
		set.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
	}
	return set
}

// begin starts the processes that are not on a machine.
func (w *world) begin() {
	nobody := &record.FakeRecorder{}
	w.startScheduler()
	end, err := w.start(
		func(m ctrl.Manager) error { return persistentvolume.Setup(m, nobody) },
		func(m ctrl.Manager) error { return statefulset.Setup(m, nobody) },
		func(m ctrl.Manager) error { return replicaset.Setup(m, nobody, nobody) },
		func(m ctrl.Manager) error { return tainteviction.Setup(m, nobody) },
		podgc.Setup,
	)
	must(err)
	w.controllers = end
}

func (w *world) startScheduler() {
	end, err := w.start(func(m ctrl.Manager) error { return scheduler.Setup(m, &record.FakeRecorder{}) })
	must(err)
	w.scheduler = end
}

// collect deletes the claims that belong to pods which are gone, as the collector of
// garbage does.
func (w *world) collect(ctx context.Context) {
	for pause(ctx, time.Duration(100+w.api.draw(1000))*time.Millisecond) == nil {
		for _, c := range objects[*corev1.PersistentVolumeClaim](w.api) {
			if c.DeletionTimestamp == nil && len(c.OwnerReferences) > 0 && !slices.ContainsFunc(objects[*corev1.Pod](w.api), func(p *corev1.Pod) bool { return p.UID == c.OwnerReferences[0].UID }) {
				w.forget(c.Name)
				_ = w.api.remove(c, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &c.UID}})
			}
		}
	}
}

// forget notes that a claim is deleted.
func (w *world) forget(name string) {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	w.remade[name] = true
}

// something happens.
func (w *world) something() {
	m := w.machines[w.api.draw(len(w.machines))]
	switch w.api.draw(16) {
	case 0, 1:
		m.cut.Store(true)
		w.later(3000, func() {
			if m.cut.Load() {
				m.say(corev1.ConditionUnknown)
			}
		})
	case 2, 3, 4:
		m.cut.Store(false)
		w.later(1000, func() {
			if !m.cut.Load() {
				m.register()
			}
		})
	case 5:
		if node := find[*corev1.Node](w.api, "", m.name); node != nil {
			m.cut.Store(true)
			must(w.api.remove(node, &client.DeleteOptions{}))
		}
	case 6, 7, 8:
		w.deletePod()
	case 9:
		w.deleteClaim()
	case 10, 11:
		w.user()
	case 12:
		w.edit(find[*appsv1.StatefulSet](w.api, "default", "db").DeepCopy())
	case 13:
		set := find[*appsv1.ReplicaSet](w.api, "default", "web").DeepCopy()
		set.Spec.Replicas = ptr.To(int32(w.api.draw(6)))
		must(w.api.change(set, false))
	case 14:
		w.scheduler()
		w.startScheduler()
	case 15:
		w.urgent()
	}
}

func (w *world) later(most int, do func()) {
	d := time.Duration(w.api.draw(most)) * time.Millisecond
	if !w.calm.Load() {
		time.AfterFunc(d, func() {
			if !w.calm.Load() {
				do()
			}
		})
	}
}

func (w *world) edit(set *appsv1.StatefulSet) {
	if w.api.draw(2) == 0 {
		set.Spec.Replicas = ptr.To(int32(w.api.draw(4)))
	} else {
		set.Spec.Template.Spec.Containers[0].Image = fmt.Sprint("i:", w.api.draw(3))
	}
	must(w.api.change(set, false))
}

func (w *world) deletePod() {
	pods := objects[*corev1.Pod](w.api)
	if len(pods) == 0 {
		return
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(string(a.UID), string(b.UID)) })
	must(w.api.remove(pods[w.api.draw(len(pods))], &client.DeleteOptions{}))
}

func (w *world) deleteClaim() {
	claims := objects[*corev1.PersistentVolumeClaim](w.api)
	if len(claims) == 0 {
		return
	}
	slices.SortFunc(claims, func(a, b *corev1.PersistentVolumeClaim) int { return strings.Compare(a.Name, b.Name) })
	c := claims[w.api.draw(len(claims))]
	w.forget(c.Name)
	must(w.api.remove(c, &client.DeleteOptions{}))
}

// user makes a claim and a pod that uses it, with one that may be there already.
func (w *world) user() {
	i := w.api.draw(4)
	name := fmt.Sprint("own-", i)
	c := claim(name, []string{"local", "hand"}[i%2])
	w.make(&c)
	t := template("own", "100m")
	t.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}}
	if w.api.draw(3) == 0 {
		t.Spec.NodeSelector = map[string]string{corev1.LabelHostname: w.machines[w.api.draw(len(w.machines))].name}
	}
	w.make(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("own-", i), Labels: t.Labels}, Spec: t.Spec})
}

// urgent makes a pod before which others make way.
func (w *world) urgent() {
	t := template("urgent", []string{"700m", "900m"}[w.api.draw(2)])
	t.Spec.Priority = ptr.To[int32](1000)
	w.make(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("urgent-", w.api.draw(2)), Labels: t.Labels}, Spec: t.Spec})
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf("%8.3fs ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) print() {
	for _, c := range w.api.log {
		what := ""
		switch o := c.object.(type) {
		case *corev1.Pod:
			what = fmt.Sprint("node=", o.Spec.NodeName, " ", o.Status.Phase, " nominated=", o.Status.NominatedNodeName)
			for _, s := range o.Status.Conditions {
				if s.Type == corev1.PodScheduled {
					what += " " + s.Message
				}
			}
		case *corev1.PersistentVolumeClaim:
			what = fmt.Sprint("volume=", o.Spec.VolumeName, " ", o.Status.Phase, " selected=", o.Annotations["volume.kubernetes.io/selected-node"])
		case *corev1.PersistentVolume:
			what = fmt.Sprint("node=", nodeOf(o), " ", o.Status.Phase, " claim=", ptr.Deref(o.Spec.ClaimRef, corev1.ObjectReference{}).UID)
		case *corev1.Node:
			what = fmt.Sprint("taints=", len(o.Spec.Taints), " ", o.Status.Conditions)
		case *appsv1.StatefulSet:
			what = fmt.Sprint("replicas=", *o.Spec.Replicas, " ", o.Spec.Template.Spec.Containers[0].Image)
		default:
			continue
		}
		fmt.Printf("%8.3fs %d %s %s %s (%s) %s\n", c.at.Sub(w.began).Seconds(), c.version, c.event, c.kind, c.object.GetName(), map[bool]string{true: "going"}[c.object.GetDeletionTimestamp() != nil], what)
	}
}
