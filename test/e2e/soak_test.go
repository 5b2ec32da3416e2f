package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// soak is a fleet in everyday trouble: what it should be, and who is in trouble.
type soak struct {
	*testing.T
	f     *harness.Fleet
	c     *harness.Cluster
	dice  *rand.Rand
	sizes map[string]int // replicas of deployment/web, statefulset/db and statefulset/store
	round int
}

// TestSoak does to a fleet of three machines for as long as WINDLASS_SOAK says
// ("20m") what operators and fate do to one, in an order that WINDLASS_SEED decides:
// rollouts, scaling, deletions, drains, changes of configuration, killed agents and
// servers, cut and powerless machines. After each round all is as it was asked for;
// clients lose no request while no machine is lost; never are there two pods of a
// name of a StatefulSet; and when all is deleted, nothing is left on the machines.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("WINDLASS_SOAK"))
	if err != nil {
		t.Skip("WINDLASS_SOAK does not say for how long, such as 20m")
	}
	seed, err := strconv.ParseUint(os.Getenv("WINDLASS_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("WINDLASS_SEED=%d", seed)
	f := newFleet(t, 2, "--node-lease=12s")
	s := &soak{T: t, f: f, c: f.Server, dice: rand.New(rand.NewPCG(seed, 0)), sizes: map[string]int{"deployment/web": 6, "statefulset/db": 3, "statefulset/store": 3}}
	newWitness(t)
	t.Cleanup(s.keepLogs)
	apply(t, s.c, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {round: '0'}\n")
	apply(t, s.c, soaked())
	s.settle()
	before := s.traces()
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		s.round++
		if s.dice.IntN(3) == 0 {
			s.lose()
		} else {
			s.work()
		}
	}
	for what := range s.sizes {
		s.do("scale", what, "--replicas=0")
	}
	eventually(t, 2*time.Minute, func() string { return strings.Join(strings.Fields(s.do("get", "pods", "-o", "name")), " ") })
	eventually(t, time.Minute, func() string {
		left := slices.DeleteFunc(s.traces(), func(trace string) bool { return slices.Contains(before, trace) })
		return strings.Join(left, "\n")
	})
}

// soaked are the fleet's workloads: two StatefulSets, one with data, and a
// Deployment with a Service, whose pods read a ConfigMap that changes.
func soaked() string {
	web := strings.Replace(rolled("v1"), "spec: {terminationGracePeriodSeconds: 20, containers: [{", `spec:
      volumes: [{name: settings, configMap: {name: settings}}]
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]
      terminationGracePeriodSeconds: 20
      containers: [{volumeMounts: [{name: settings, mountPath: /settings}], `, 1)
	web = strings.Replace(web, "containerPort: 8080}]}]}", "containerPort: 8080}]}]", 1)
	return keepers() + web
}

func (s *soak) do(args ...string) string {
	s.Helper()
	return kubectl(s.T, s.c, args...)
}

// note tells what is done, so that a failure can be understood.
func (s *soak) note(format string, args ...any) {
	s.Logf("%s round %d: %s", time.Now().Format("15:04:05"), s.round, fmt.Sprintf(format, args...))
}

func (s *soak) machine() *harness.Machine { return s.f.Agents[s.dice.IntN(len(s.f.Agents))] }

func (s *soak) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// work does up to four things that no client may notice, under load at every
// machine's node port.
func (s *soak) work() {
	var loads []*harness.Load
	for i := range 3 {
		loads = append(loads, loadAt(s.T, s.f, i, 1))
	}
	for i, load := range loads {
		waitRequests(s.T, load, 20)
		defer s.watch(load, i)()
	}
	for range 1 + s.dice.IntN(4) {
		if s.dice.IntN(8) == 0 {
			s.renew()
		} else {
			s.change()
		}
		if s.dice.IntN(2) == 0 {
			s.trouble()
		}
		time.Sleep(time.Duration(s.dice.IntN(2000)) * time.Millisecond) // changes meet each other at any moment
	}
	s.settle()
	for i, load := range loads {
		waitRequests(s.T, load, load.Requests()+20)
		if report := load.Stop(); report.Lost != 0 {
			s.Errorf("round %d: at the node port of node-%d %d of %d requests were lost: %v", s.round, i, report.Lost, report.Requests, report.Reasons)
		}
	}
}

// watch gathers what is to be seen on a machine at the moment when the first
// request is lost there, until the returned function is called.
func (s *soak) watch(load *harness.Load, index int) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for load.Lost() == 0 {
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
		s.evidence(index)
	}()
	return func() { close(ended); <-done }
}

// evidence writes what is to be seen on a machine into the test's artifacts.
func (s *soak) evidence(index int) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s round %d, node-%d\n", time.Now().Format(time.RFC3339Nano), s.round, index)
	for _, command := range [][]string{{"ip", "neighbour"}, {"bridge", "fdb"}, {"ip", "route"}, {"conntrack", "-L"}, {"nft", "list", "ruleset"}} {
		fmt.Fprintf(&b, "\n# %s\n%s", strings.Join(command, " "), onMachine(s.T, s.f, index, command...))
	}
	for _, args := range [][]string{{"get", "nodes,pods", "-o", "wide"}, {"get", "endpointslices,leases", "-A", "-o", "yaml"}} {
		out, err := s.c.KubectlRun(s.Context(), args...)
		fmt.Fprintf(&b, "\n# kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	name := filepath.Join(s.ArtifactDir(), fmt.Sprintf("round-%d-node-%d.txt", s.round, index))
	if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
		s.Error(err)
	}
}

// change asks for something else.
func (s *soak) change() {
	sets := []string{"statefulset/db", "statefulset/store"}
	set := sets[s.dice.IntN(2)]
	switch s.dice.IntN(8) {
	case 0:
		image := fmt.Sprintf("web=luksa/kubia:v%d", 1+s.dice.IntN(2))
		s.note("set image %s", image)
		s.do("set", "image", "deployment/web", image)
	case 1:
		s.restart("deployment/web")
	case 2:
		s.sizes["deployment/web"] = 3 + s.dice.IntN(7)
		s.note("scale deployment/web to %d", s.sizes["deployment/web"])
		s.do("scale", "deployment/web", fmt.Sprintf("--replicas=%d", s.sizes["deployment/web"]))
	case 3:
		s.sizes[set] = 1 + s.dice.IntN(3)
		s.note("scale %s to %d", set, s.sizes[set])
		s.do("scale", set, fmt.Sprintf("--replicas=%d", s.sizes[set]))
	case 4:
		s.restart(set)
	case 5:
		pods := strings.Fields(s.do("get", "pods", "-o", "name"))
		pod := pods[s.dice.IntN(len(pods))]
		s.note("delete %s", pod)
		s.do("delete", pod, "--wait=false", "--ignore-not-found")
	case 6:
		s.note("change the settings")
		s.do("patch", "configmap", "settings", "--type=merge", "-p", fmt.Sprintf(`{"data":{"round":"%d"}}`, s.dice.Int()))
	case 7:
		s.note("a version that does not exist, and back")
		s.do("set", "image", "deployment/web", "web=luksa/kubia:none")
		time.Sleep(time.Duration(s.dice.IntN(3000)) * time.Millisecond)
		s.do("rollout", "undo", "deployment/web")
	}
}

// renew makes the StatefulSets again, without their data. It needs all machines: the
// data stays until the pods that use it are known to be gone.
func (s *soak) renew() {
	s.note("delete the StatefulSets with their data, and make them again")
	s.do("delete", "statefulset", "db", "store")
	s.do("delete", "pvc", "-l", "app=store")
	apply(s.T, s.c, keepers())
	s.sizes["statefulset/db"], s.sizes["statefulset/store"] = 3, 3
}

// restart makes new pods of the same version; kubectl does that once a second at most.
func (s *soak) restart(what string) {
	s.note("restart %s", what)
	eventually(s.T, time.Minute, func() string {
		if out, err := s.c.KubectlRun(s.Context(), "rollout", "restart", what); err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return ""
	})
}

// trouble befalls what serves the pods, and not the pods.
func (s *soak) trouble() {
	m := s.machine()
	switch s.dice.IntN(5) {
	case 0:
		s.note("kill the agent of %s", m.Name)
		s.must(m.Kill())
		s.must(m.Start())
	case 1:
		s.note("restart the agent of %s", m.Name)
		s.must(m.Stop())
		s.must(m.Start())
	case 2:
		s.note("kill the server")
		s.must(s.c.Kill())
		s.must(s.c.Start(within(s.T, time.Minute)))
	case 3:
		s.note("restart the server")
		s.must(s.c.Stop())
		s.must(s.c.Start(within(s.T, time.Minute)))
	case 4:
		s.note("drain %s", m.Name)
		s.do("drain", m.Name, "--delete-emptydir-data", "--force", "--timeout=100s", "--pod-selector=app=web")
		s.do("uncordon", m.Name)
	}
}

// lose loses a machine for a while, in the middle of changes.
func (s *soak) lose() {
	m := s.machine()
	index := slices.Index(s.f.Agents, m) + 1
	pause := func() { time.Sleep(time.Duration(s.dice.IntN(24)) * time.Second) } // shorter and longer than its Lease
	s.change()
	if s.dice.IntN(2) == 0 {
		s.note("cut %s off", m.Name)
		s.must(s.f.Cut(index))
		s.change()
		pause()
		s.note("heal %s", m.Name)
		s.must(s.f.Heal(index))
	} else {
		s.note("power %s off", m.Name)
		s.must(m.PowerOff())
		s.change()
		pause()
		s.note("power %s on", m.Name)
		s.must(m.PowerOn())
	}
	s.change()
	s.settle()
}

// settle waits until all is as it was asked for.
func (s *soak) settle() {
	s.Helper()
	began := time.Now()
	eventually(s.T, 4*time.Minute, func() string {
		var wrong []string
		for _, line := range lines(s.do("get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name}|{.status.conditions[?(@.type=="Ready")].status}|{.spec.taints}|{.spec.unschedulable}{"\n"}{end}`)) {
			if !strings.HasSuffix(line, "|True||") {
				wrong = append(wrong, line)
			}
		}
		asked := 0
		for what, size := range s.sizes {
			asked += size
			got := s.do("get", what, "-o", "jsonpath={.metadata.generation} {.status.observedGeneration} {.spec.replicas} {.status.replicas} {.status.readyReplicas} {.status.updatedReplicas}")
			f := strings.Fields(got)
			if n := strconv.Itoa(size); len(f) != 6 || f[0] != f[1] || f[2] != n || f[3] != n || f[4] != n || f[5] != n {
				wrong = append(wrong, what+" is "+got)
			}
		}
		if pods := strings.Fields(s.do("get", "pods", "-o", "name")); len(pods) != asked {
			wrong = append(wrong, fmt.Sprintf("there are %d pods, want %d", len(pods), asked))
		}
		return strings.Join(wrong, "; ")
	})
	s.note("settled after %s", time.Since(began).Round(time.Millisecond))
}

// keepLogs copies the machines' logs into the test's artifacts.
func (s *soak) keepLogs() {
	for _, path := range []string{s.c.LogPath(), s.f.Agents[0].LogPath(), s.f.Agents[1].LogPath()} {
		log, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(s.ArtifactDir(), filepath.Base(path)), log, 0o644)
		}
		if err != nil {
			s.Error(err)
		}
	}
}

// traces are what pods leave on the machines, but for their files and rules.
func (s *soak) traces() (all []string) {
	for index, dir := range append([]string{s.c.Dir}, s.f.Agents[0].Dir, s.f.Agents[1].Dir) {
		c := &harness.Cluster{Dir: dir}
		for _, mount := range mountsBelow(s.T, dir) {
			all = append(all, "mount "+mount)
		}
		for _, group := range controlGroups(s.T, c) {
			all = append(all, "cgroup "+group)
		}
		for _, pid := range conmons(s.T, c) {
			all = append(all, fmt.Sprintf("conmon %d on node-%d", pid, index))
		}
		for _, link := range lines(onMachine(s.T, s.f, index, "ip", "-o", "link", "show", "type", "veth")) {
			if !strings.Contains(link, " eth0@") {
				all = append(all, fmt.Sprintf("link on node-%d: %s", index, link))
			}
		}
	}
	return all
}
