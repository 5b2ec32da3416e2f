package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass.dev/windlass/test/harness"
)

// newFleet makes a fleet for one test: the server's machine and so many others,
// with these flags, all Ready, with the tests' images.
func newFleet(t *testing.T, agents int, agentArgs ...string) *harness.Fleet {
	t.Helper()
	f, err := harness.NewFleet(harness.FleetConfig{Binary: setup.binary, Kubectl: setup.kubectl, Dir: t.TempDir(), Agents: agents,
		ServerArgs: otherDisk, AgentArgs: slices.Concat(otherDisk, agentArgs)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what is wrong:\n%s", f.Trouble(context.Background()))
		}
		if err := f.Destroy(context.Background()); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	if err := f.Start(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := f.LoadImages(within(t, 2*time.Minute), images()...); err != nil {
		t.Fatal(err)
	}
	return f
}

// onEachNode is a manifest of one web server, and one busybox, on each node of a
// fleet of three, with a Service over the web servers.
func onEachNode(image string) string {
	var b strings.Builder
	for i := range 3 {
		fmt.Fprintf(&b, `
apiVersion: v1
kind: Pod
metadata: {name: web-%[1]d, labels: {app: web}}
spec: {nodeName: node-%[1]d, terminationGracePeriodSeconds: 5, containers: [{name: web, image: '%[2]s', ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: box-%[1]d, labels: {app: box}}
spec: {nodeName: node-%[1]d, terminationGracePeriodSeconds: 1, containers: [{name: box, image: 'busybox:1', args: ['-c', 'echo box on node-%[1]d; sleep 86400']}]}
---`, i, image)
	}
	return b.String() + `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30081}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {type: NodePort, selector: {app: web}, externalTrafficPolicy: Local, ports: [{port: 80, targetPort: http, nodePort: 30082}]}
`
}

// TestThreeNodes: machines join by a token; pods on different nodes reach each
// other with their own addresses, by Services, by names and by node ports; the
// API server reaches the pods of every node.
func TestThreeNodes(t *testing.T) {
	f := newFleet(t, 2)
	c := f.Server
	apply(t, c, onEachNode("luksa/kubia:v1"))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")

	ranges := map[string]bool{}
	for i := range 3 {
		ranges[kubectl(t, c, "get", "node", fmt.Sprintf("node-%d", i), "-o", "jsonpath={.spec.podCIDR}")] = true
	}
	if len(ranges) != 3 || !ranges["10.42.0.0/24"] {
		t.Errorf("the nodes' pod ranges are %v", ranges)
	}
	ips := map[int]string{}
	for i := range 3 {
		ips[i] = kubectl(t, c, "get", "pod", fmt.Sprintf("web-%d", i), "-o", "jsonpath={.status.podIP}")
	}
	service := kubectl(t, c, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	for from := range 3 {
		box := inPod(t, f, fmt.Sprintf("box-%d", from))
		for to := range 3 {
			if got := box("wget", "-qO-", "-T5", "-t1", "http://"+ips[to]+":8080/"); !strings.Contains(got, fmt.Sprintf("on web-%d", to)) {
				t.Errorf("from a pod on node-%d the web server on node-%d says %q", from, to, got)
			}
			// The server's machine and the others, as hosts.
			if got := onMachine(t, f, from, "wget", "-qO-", "-T5", "-t1", "http://"+ips[to]+":8080/"); !strings.Contains(got, fmt.Sprintf("on web-%d", to)) {
				t.Errorf("from node-%d itself the web server on node-%d says %q", from, to, got)
			}
		}
		if got := box("nslookup", "web.default.svc.cluster.local", "10.43.0.10"); !strings.Contains(got, service) {
			t.Errorf("on node-%d the name of the Service is %q", from, got)
		}
		for _, ask := range []func(...string) string{box, func(command ...string) string { return onMachine(t, f, from, command...) }} {
			answered := map[string]bool{}
			eventually(t, time.Minute, func() string {
				answered[strings.TrimSpace(ask("wget", "-qO-", "-T5", "-t1", "http://"+service+"/"))] = true
				if len(answered) < 3 {
					return fmt.Sprintf("by the Service, from node-%d, answered %v", from, answered)
				}
				return ""
			})
		}
		// From outside, by the node port of any machine.
		get := func(port int) (string, error) {
			out, err := exec.Command("wget", "-qO-", "-T5", "-t1", fmt.Sprintf("http://%s:%d/", f.IP(from), port)).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
		answered := map[string]bool{}
		eventually(t, time.Minute, func() string {
			got, err := get(30081)
			answered[got] = true
			if err != nil || len(answered) < 3 {
				return fmt.Sprintf("at the node port of node-%d answered %v, %v", from, answered, err)
			}
			return ""
		})
		for range 5 { // a policy Local leads to the machine's own pods only
			if got, err := get(30082); err != nil || !strings.Contains(got, fmt.Sprintf("on web-%d", from)) {
				t.Errorf("at the local node port of node-%d answers %q, %v", from, got, err)
			}
		}
	}
}

// TestAgentsServeTheAPI: logs, port forwarding, the proxy and the metrics of a
// pod and its node, wherever it is; and all that can be done with a pod on a node
// that joined.
func TestAgentsServeTheAPI(t *testing.T) {
	f := newFleet(t, 2)
	c := f.Server
	apply(t, c, onEachNode("luksa/kubia:v1"))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
	for i := range 3 {
		if got := kubectl(t, c, "logs", fmt.Sprintf("box-%d", i)); got != fmt.Sprintf("box on node-%d\n", i) {
			t.Errorf("the log of box-%d is %q", i, got)
		}
		if got := kubectl(t, c, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/default/pods/web-%d/proxy/", i)); !strings.Contains(got, fmt.Sprintf("on web-%d", i)) {
			t.Errorf("by the proxy web-%d says %q", i, got)
		}
		if got := kubectl(t, c, "get", "--raw", fmt.Sprintf("/api/v1/nodes/node-%d/proxy/metrics", i)); !strings.Contains(got, "windlass_service_") {
			t.Errorf("the metrics of node-%d are %.200q", i, got)
		}
		if got := forwarded(t, c, fmt.Sprintf("pod/web-%d", i)); !strings.Contains(got, fmt.Sprintf("on web-%d", i)) {
			t.Errorf("by a forwarded port web-%d says %q", i, got)
		}
	}
	if got := kubectl(t, c, "get", "--raw", "/api/v1/namespaces/default/services/web:80/proxy/"); !strings.Contains(got, "on web-") {
		t.Errorf("by the proxy the Service says %q", got)
	}
	farNode(t, f)
	serverMoves(t, f)
}

// serverMoves: the server has another address from now on. Nodes do their work as
// they did, without it, and are told by --server where it is.
func serverMoves(t *testing.T, f *harness.Fleet) {
	c := f.Server
	box := inPod(t, f, "box-1")
	ips := map[int]string{}
	for i := range 3 {
		ips[i] = kubectl(t, c, "get", "pod", fmt.Sprintf("web-%d", i), "-o", "jsonpath={.status.podIP}")
	}
	service := kubectl(t, c, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	moved := strings.TrimSuffix(f.IP(0), ".1") + ".101"
	for _, command := range [][]string{{"delete", f.IP(0)}, {"add", moved}} {
		if out := onMachine(t, f, 0, "ip", "address", command[0], command[1]+"/24", "dev", "eth0"); out != "" {
			t.Fatal(out)
		}
	}
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	says(t, f.Agents[0].Log, "the API server does not answer: this node's containers and Services go on as they are")
	for to := 1; to < 3; to++ {
		if got := box("wget", "-qO-", "-T5", "-t1", "http://"+ips[to]+":8080/"); !strings.Contains(got, fmt.Sprintf("on web-%d", to)) {
			t.Errorf("without the server, from node-1 web-%d says %q", to, got)
		}
	}
	says(t, func() string { return box("wget", "-qO-", "-T2", "-t1", "http://"+service+"/") }, "on web-")
	for _, m := range f.Agents {
		if err := m.Stop(); err != nil {
			t.Fatal(err)
		}
		m.Args = []string{"--server", "https://" + moved + ":6443"}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range f.Agents {
		if err := m.WaitReady(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	says(t, func() string { return box("wget", "-qO-", "-T2", "-t1", "http://"+ips[0]+":8080/") }, "on web-0")
	says(t, func() string { return kubectl(t, c, "logs", "box-2") }, "box on node-2")
}

// TestRolloutOverThreeNodes: a rolling update of pods on three nodes loses no
// request, whichever node port the clients use, while an agent is restarted, one
// is killed, and the control plane is killed and started again.
func TestRolloutOverThreeNodes(t *testing.T) {
	for _, test := range []struct {
		name    string
		disturb func(*testing.T, *harness.Fleet)
	}{
		{"undisturbed", func(*testing.T, *harness.Fleet) {}},
		{"an agent restarts", func(t *testing.T, f *harness.Fleet) {
			if err := f.Agents[0].Stop(); err != nil {
				t.Error(err)
			}
			if err := f.Agents[0].Start(); err != nil {
				t.Fatal(err)
			}
		}},
		{"an agent is killed", func(t *testing.T, f *harness.Fleet) {
			if err := f.Agents[1].Kill(); err != nil {
				t.Error(err)
			}
			if err := f.Agents[1].Start(); err != nil {
				t.Fatal(err)
			}
		}},
		{"the control plane is killed", func(t *testing.T, f *harness.Fleet) {
			if err := f.Server.Kill(); err != nil {
				t.Error(err)
			}
			if err := f.Server.Start(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFleet(t, 2)
			c := f.Server
			apply(t, c, rolled("v1"))
			kubectl(t, c, "rollout", "status", "deployment/web", "--timeout=120s")
			nodes := lines(kubectl(t, c, "get", "pods", "-l", "app=web", "-o", `jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}`))
			slices.Sort(nodes)
			if len(slices.Compact(nodes)) != 3 {
				t.Errorf("six pods are on %v", nodes)
			}
			var loads []*harness.Load
			for i := range 3 {
				loads = append(loads, loadAt(t, f, i, 3))
			}
			for _, load := range loads {
				waitRequests(t, load, 50)
			}
			apply(t, c, rolled("v2"))
			eventually(t, time.Minute, func() string {
				if updated := kubectl(t, c, "get", "deployment", "web", "-o", "jsonpath={.status.updatedReplicas}"); updated == "" || updated == "0" || updated == "1" {
					return "the rollout is not in its middle: " + updated
				}
				return ""
			})
			test.disturb(t, f)
			kubectl(t, c, "rollout", "status", "deployment/web", "--timeout=120s")
			eventually(t, 2*time.Minute, func() string {
				if left := lines(kubectl(t, c, "get", "pods", "-l", "app=web", "-o", "name")); len(left) != 6 {
					return fmt.Sprintf("%d pods are there", len(left))
				}
				return ""
			})
			for i, load := range loads {
				waitRequests(t, load, load.Requests()+50)
				report := load.Stop()
				if report.Lost != 0 {
					t.Errorf("at the node port of node-%d %d of %d requests were lost: %v", i, report.Lost, report.Requests, report.Reasons)
				}
			}
		})
	}
}

func rolled(version string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 20, containers: [{name: web, image: 'luksa/kubia:%s', ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30083}]}
`, version)
}

// loadAt begins traffic of so many clients to what rolled makes, at the node port of a
// machine: until it is stopped, but ten minutes at most.
func loadAt(t *testing.T, f *harness.Fleet, index, clients int) *harness.Load {
	return harness.StartLoad(t.Context(), fmt.Sprintf("http://%s:30083/", f.IP(index)), clients, 1<<40, 10*time.Minute)
}

// TestJoin: who may join and who may not, and what a machine that joined needs.
func TestJoin(t *testing.T) {
	f, err := harness.NewFleet(harness.FleetConfig{Binary: setup.binary, Kubectl: setup.kubectl, Dir: t.TempDir(), Agents: 2,
		ServerArgs: []string{"--node-certificate-life=20s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what is wrong:\n%s", f.Trouble(context.Background()))
		}
		if err := f.Destroy(context.Background()); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	c, first, second := f.Server, f.Agents[0], f.Agents[1]
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	token := func(args ...string) string {
		t.Helper()
		text, err := f.Token(within(t, time.Minute), args...)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	refused := func(m *harness.Machine, token, want string) {
		t.Helper()
		if err := m.Join(token); err != nil {
			t.Fatal(err)
		}
		if log, err := m.Ended(within(t, time.Minute)); err != nil || !strings.Contains(log, want) {
			t.Errorf("want %q of an agent that ends; %v, it says\n%s", want, err, log)
		}
	}
	good := token("--description=the test's")
	refused(first, "abcdef.0123456789abcdef", "does not begin with WL1")
	refused(first, good[:len(good)-16]+"0000000000000000", "the secret of token")
	refused(first, "WL1"+strings.Repeat("0", 64)+good[67:], "the server's authority is not the one that the token names")
	short := token("--ttl=1ms")
	refused(first, short, "ended at")
	revoked := token()
	if out, err := c.Run(within(t, time.Minute), setup.binary, "token", "revoke", revoked); err != nil || !strings.Contains(out, "revoked") {
		t.Errorf("%v: %s", err, out)
	}
	refused(first, revoked, "is not known here: it has ended, was revoked")

	if err := first.Join(good); err != nil {
		t.Fatal(err)
	}
	if err := first.WaitReady(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	list, err := c.Run(within(t, time.Minute), setup.binary, "token", "list")
	if err != nil || !strings.Contains(list, "the test's") || !strings.Contains(list, "ended") {
		t.Errorf("%v: %s", err, list)
	}
	if out := kubectl(t, c, "get", "secrets", "-n", "kube-system", "--field-selector=type=bootstrap.kubernetes.io/token", "-o", "name"); len(lines(out)) != 2 {
		t.Errorf("the tokens' Secrets are %s", out)
	}

	// Another machine may not take the name of a live node.
	name := second.Name
	second.Name = first.Name
	refused(second, good, "is there and lives")
	second.Name = name

	// The token is gone; the machine is known by its certificate, which it renews,
	// also when the server is down as it starts.
	if _, err := c.Run(within(t, time.Minute), setup.binary, "token", "revoke", good); err != nil {
		t.Error(err)
	}
	renewals := func() int { return strings.Count(first.Log(), "this node's certificate is renewed") }
	renewedTimes := func(times int) {
		t.Helper()
		eventually(t, 2*time.Minute, func() string {
			if renewals() < times {
				return first.LogTail()
			}
			return ""
		})
	}
	renewedTimes(renewals() + 1) // so that the certificate lives long enough for a slow machine to start the server
	if err := first.Stop(); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string {
		if !strings.Contains(first.Log(), "the API server does not answer") {
			return first.LogTail()
		}
		return ""
	})
	before := renewals()
	if err := c.Start(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	renewedTimes(before + 1)
	// It goes on: the node's Lease is renewed by the new certificate.
	renewed := kubectl(t, c, "get", "lease", "-n", "kube-node-lease", first.Name, "-o", "jsonpath={.spec.renewTime}")
	eventually(t, time.Minute, func() string {
		if now := kubectl(t, c, "get", "lease", "-n", "kube-node-lease", first.Name, "-o", "jsonpath={.spec.renewTime}"); now == renewed {
			return "the lease of the node is still of " + now
		}
		return ""
	})
}

// TestPowerCut: a machine that loses power comes back as it was: its pods run
// again with their addresses.
func TestPowerCut(t *testing.T) {
	f := newFleet(t, 2)
	c, m := f.Server, f.Agents[0]
	apply(t, c, onEachNode("luksa/kubia:v1"))
	kubectl(t, c, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s")
	ip := kubectl(t, c, "get", "pod", "web-1", "-o", "jsonpath={.status.podIP}")
	if err := m.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("wget", "-qO-", "-T1", "-t1", "http://"+m.IP+":30082/").CombinedOutput(); err == nil {
		t.Errorf("a machine without power answers %s", out)
	}
	if err := m.PowerOn(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() string {
		got := kubectl(t, c, "get", "pod", "web-1", "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready} {.status.podIP}")
		if got != "1 true "+ip {
			return got + "\n" + m.LogTail()
		}
		return ""
	})
	box := inPod(t, f, "box-2")
	if got := box("wget", "-qO-", "-T5", "-t1", "http://"+ip+":8080/"); !strings.Contains(got, "on web-1") {
		t.Errorf("from another node web-1 says %q", got)
	}
}

// onMachine runs a command on a machine; what it says includes its complaints.
func onMachine(t *testing.T, f *harness.Fleet, index int, command ...string) string {
	t.Helper()
	run := f.Server.Run
	if index > 0 {
		run = f.Agents[index-1].Run
	}
	out, err := run(within(t, time.Minute), command...)
	if err != nil {
		return err.Error()
	}
	return out
}

// inPod returns a function that runs commands of this machine, busybox's or wget,
// in the network of a pod.
func inPod(t *testing.T, f *harness.Fleet, pod string) func(command ...string) string {
	t.Helper()
	facts := strings.Fields(kubectl(t, f.Server, "get", "pod", pod, "-o", "jsonpath={.metadata.uid} {.spec.nodeName}"))
	dir := f.Server.Dir
	for _, m := range f.Agents {
		if m.Name == facts[1] {
			dir = m.Dir
		}
	}
	return func(command ...string) string {
		if command[0] != "wget" {
			command = append([]string{"busybox"}, command...)
		}
		out, err := exec.CommandContext(within(t, time.Minute), "nsenter", append([]string{"--net=" + filepath.Join(dir, "run", "netns", facts[0])}, command...)...).CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
}

// forwarded gets the page of a pod by a port that kubectl forwards.
func forwarded(t *testing.T, c *harness.Cluster, target string) string {
	t.Helper()
	args := append(append([]string{}, c.Wrap...), c.Kubectl, "port-forward", target, "18080:8080")
	forward := exec.Command(args[0], args[1:]...)
	forward.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait()
	}()
	var got string
	eventually(t, time.Minute, func() string {
		var err error
		if got, err = c.Run(within(t, 10*time.Second), "wget", "-qO-", "-T5", "-t1", "http://127.0.0.1:18080/"); err != nil {
			return err.Error()
		}
		return ""
	})
	return got
}
