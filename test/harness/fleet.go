package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// fleets counts the fleets of this process: each has a network of its own.
var fleets atomic.Int32

// FleetConfig says what machines a Fleet is to have.
type FleetConfig struct {
	Binary     string   // path of windlass
	Kubectl    string   // command that kubectl is, a path or a name
	Dir        string   // the machines' data directories are made in it
	Agents     int      // machines beside the server's
	ServerArgs []string // for `windlass server`
	AgentArgs  []string // for `windlass agent`
}

// Fleet is several machines on one: each a network namespace with a data
// directory of its own, and all of them on one switch, to which this process is
// connected too, as a machine outside the cluster. Node 0, "node-0", runs the
// server; the others, "node-1" and on, run agents that joined by a token.
type Fleet struct {
	config  FleetConfig
	subnet  string // "192.168.71": the first three numbers of every machine's address
	hub     *namespace
	Server  *Cluster
	Agents  []*Machine
	outside string // interface of this process
}

// Machine is one that runs an agent.
type Machine struct {
	Name string
	IP   string
	Dir  string   // data directory
	Args []string // for its agent, after those of all

	fleet *Fleet
	index int
	space *namespace
	token string
	agent *exec.Cmd
	ended chan error
	gone  bool // the agent ended, and somebody knows
	off   bool // nothing runs, and the network is gone
}

// namespace is a network namespace, held by a process of ours that sleeps.
type namespace struct{ holder *exec.Cmd }

func newNamespace() (*namespace, error) {
	holder := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 86400")
	out, err := holder.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// With this process ends what it holds.
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		return nil, err
	}
	n := &namespace{holder}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		n.close()
		return nil, fmt.Errorf("make a network namespace: %w", errors.Join(ErrNoNamespace, err))
	}
	return n, nil
}

func (n *namespace) pid() string  { return fmt.Sprint(n.holder.Process.Pid) }
func (n *namespace) path() string { return "/proc/" + n.pid() + "/ns/net" }

func (n *namespace) wrap() []string { return []string{"nsenter", "--net=" + n.path()} }

func (n *namespace) close() {
	_ = n.holder.Process.Kill()
	_ = n.holder.Wait()
}

// ip runs ip(8) in the namespace, once for each line.
func (n *namespace) ip(lines ...string) error { return ip(n.wrap(), lines...) }

func ip(wrap []string, lines ...string) error {
	for _, line := range lines {
		args := append(append([]string{}, wrap...), append([]string{"ip"}, strings.Fields(line)...)...)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// NewFleet makes the machines and their network. Nothing runs on them before Start.
func NewFleet(config FleetConfig) (_ *Fleet, err error) {
	f := &Fleet{config: config}
	number := int(fleets.Add(1))
	f.subnet = fmt.Sprintf("192.168.%d", 70+number%100)
	f.outside = fmt.Sprintf("fleet%d", number)
	defer func() {
		if err != nil {
			f.closeNetwork()
		}
	}()
	if f.hub, err = newNamespace(); err != nil {
		return nil, err
	}
	err = errors.Join(
		f.hub.ip("link add switch type bridge", "link set switch up"),
		ip(nil, fmt.Sprintf("link add %s type veth peer name outside netns %s", f.outside, f.hub.pid()),
			fmt.Sprintf("address add %s.254/24 dev %s", f.subnet, f.outside), "link set "+f.outside+" up"),
		f.hub.ip("link set outside master switch up"))
	if err != nil {
		return nil, err
	}
	for index := range config.Agents + 1 {
		space, err := f.connect(index)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("node-%d", index)
		dir := filepath.Join(config.Dir, name)
		if index == 0 {
			f.Server = &Cluster{Binary: config.Binary, Dir: dir, Kubectl: config.Kubectl, Wrap: space.wrap(),
				Args: append([]string{"--node-name", name}, config.ServerArgs...), space: space}
			continue
		}
		f.Agents = append(f.Agents, &Machine{Name: name, IP: f.IP(index), Dir: dir, fleet: f, index: index, space: space})
	}
	return f, nil
}

// connect makes the namespace of a machine and plugs it into the switch.
func (f *Fleet) connect(index int) (*namespace, error) {
	space, err := newNamespace()
	if err != nil {
		return nil, err
	}
	port := fmt.Sprintf("port%d", index)
	_ = f.hub.ip("link delete " + port) // of a machine that was switched off
	err = errors.Join(
		f.hub.ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, space.pid()), "link set "+port+" master switch up"),
		space.ip(fmt.Sprintf("address add %s/24 dev eth0", f.IP(index)), "link set eth0 up"))
	if err != nil {
		space.close()
		return nil, err
	}
	return space, nil
}

// IP returns the address of a machine: 0 is the server's.
func (f *Fleet) IP(index int) string { return fmt.Sprintf("%s.%d", f.subnet, index+1) }

// Namespace is the path of the network namespace of a machine: 0 is the server's.
func (f *Fleet) Namespace(index int) string {
	if index == 0 {
		return f.Server.space.path()
	}
	return f.Agents[index-1].space.path()
}

// URL is where the API server is for the machines.
func (f *Fleet) URL() string { return "https://" + f.IP(0) + ":6443" }

// Start starts the server, has every machine join, and waits until all are Ready.
func (f *Fleet) Start(ctx context.Context) error {
	if err := f.Server.Start(ctx); err != nil {
		return err
	}
	token, err := f.Token(ctx)
	if err != nil {
		return err
	}
	for _, m := range f.Agents {
		if err := m.Join(token); err != nil {
			return err
		}
	}
	for _, m := range f.Agents {
		if err := m.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Token makes a join token.
func (f *Fleet) Token(ctx context.Context, args ...string) (string, error) {
	out, err := f.Server.Run(ctx, append([]string{f.config.Binary, "token", "create"}, args...)...)
	return strings.TrimSpace(out), err
}

// LoadImages packs the images and loads them into every machine.
func (f *Fleet) LoadImages(ctx context.Context, images ...Image) error {
	archive := filepath.Join(f.config.Dir, "images.tar")
	if err := SaveImages(archive, images...); err != nil {
		return err
	}
	defer os.Remove(archive)
	dirs := []string{f.Server.Dir}
	for _, m := range f.Agents {
		dirs = append(dirs, m.Dir)
	}
	for _, dir := range dirs {
		if _, err := f.Server.Run(ctx, f.config.Binary, "image", "load", "--data-dir", dir, archive); err != nil {
			return err
		}
	}
	return nil
}

// Cut takes a machine (0 is the server's) off the switch: what it sends and what
// is sent to it is lost without a word. Heal plugs it in again.
func (f *Fleet) Cut(index int) error {
	return f.hub.ip(fmt.Sprintf("link set port%d nomaster", index))
}

// Heal undoes Cut.
func (f *Fleet) Heal(index int) error {
	return f.hub.ip(fmt.Sprintf("link set port%d master switch", index))
}

// Destroy ends everything that runs on the machines, and the machines.
func (f *Fleet) Destroy(ctx context.Context) error {
	var failed []error
	for _, m := range f.Agents {
		failed = append(failed, m.destroy(ctx))
	}
	failed = append(failed, f.Server.Destroy(ctx))
	f.closeNetwork()
	return errors.Join(failed...)
}

func (f *Fleet) closeNetwork() {
	_ = ip(nil, "link delete "+f.outside)
	for _, m := range f.Agents {
		m.space.close()
	}
	if f.Server != nil {
		f.Server.space.close()
	}
	if f.hub != nil {
		f.hub.close()
	}
}

// LogPath is where the agent's standard error goes, of all its starts.
func (m *Machine) LogPath() string { return m.Dir + ".log" }

// Join starts the agent with a token.
func (m *Machine) Join(token string) error {
	m.token = token
	return m.Start()
}

// Start starts the agent, without waiting for anything. A machine that has joined
// needs no token.
func (m *Machine) Start() error {
	args := append(m.space.wrap(), m.fleet.config.Binary, "agent", "--data-dir", m.Dir, "--node-name", m.Name)
	if m.token != "" {
		args = append(args, "--server", m.fleet.URL(), "--token", m.token)
		m.token = ""
	}
	args = append(append(args, m.fleet.config.AgentArgs...), m.Args...)
	log, err := os.OpenFile(m.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.agent = exec.Command(args[0], args[1:]...)
	m.agent.Stdout, m.agent.Stderr = log, log
	if err := m.agent.Start(); err != nil {
		return fmt.Errorf("start the agent of %s: %w", m.Name, err)
	}
	m.ended, m.gone = make(chan error, 1), false
	go func(agent *exec.Cmd, ended chan<- error) { ended <- agent.Wait() }(m.agent, m.ended)
	return nil
}

// Pid is the process of the running agent.
func (m *Machine) Pid() int { return m.agent.Process.Pid }

// WaitReady waits until the node is Ready in the API.
func (m *Machine) WaitReady(ctx context.Context) error {
	for {
		out, err := m.fleet.Server.KubectlRun(ctx, "get", "node", m.Name, "--ignore-not-found", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out == "True" {
			return nil
		}
		select {
		case end := <-m.ended:
			m.ended <- end
			return fmt.Errorf("the agent of %s ended before it was ready: %w\n%s", m.Name, end, m.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not Ready (%q, %w): %w\n%s", m.Name, out, err, ctx.Err(), m.LogTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Ended waits until the agent has ended by itself and returns the end of its log.
func (m *Machine) Ended(ctx context.Context) (string, error) {
	select {
	case <-m.ended:
		m.gone = true
		return m.LogTail(), nil
	case <-ctx.Done():
		return m.LogTail(), ctx.Err()
	}
}

// Kill ends the agent alone by SIGKILL: its containers live on.
func (m *Machine) Kill() error {
	if err := m.agent.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !m.gone {
		<-m.ended
	}
	m.gone = true
	return nil
}

// Stop ends the agent in order; containers stay. It is an error of an agent that
// has ended before, unless by Kill, Ended or PowerOff.
func (m *Machine) Stop() error {
	if m.gone {
		return nil
	}
	if err := m.agent.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case end := <-m.ended:
		if m.gone = true; end != nil {
			return fmt.Errorf("the agent of %s ended: %w\n%s", m.Name, end, m.LogTail())
		}
		return nil
	case <-time.After(30 * time.Second):
		_ = m.Kill()
		return fmt.Errorf("the agent of %s did not end within 30 s of SIGTERM\n%s", m.Name, m.LogTail())
	}
}

// Run runs a command on the machine and returns its standard output.
func (m *Machine) Run(ctx context.Context, command ...string) (string, error) {
	c := Cluster{Dir: m.fleet.Server.Dir, Wrap: m.space.wrap()}
	return c.Run(ctx, command...)
}

// Log is the agent's log, of all its starts.
func (m *Machine) Log() string {
	log, _ := os.ReadFile(m.LogPath())
	return string(log)
}

// LogTail is the end of the agent's log.
func (m *Machine) LogTail() string { return tail(m.Log(), 4000) }

func (m *Machine) destroy(ctx context.Context) error {
	if m.agent == nil || m.off {
		return nil
	}
	stop := m.Stop()
	_, err := m.Run(ctx, m.fleet.config.Binary, "reset", "--data-dir", m.Dir)
	return errors.Join(stop, err)
}
