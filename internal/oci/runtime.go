package oci

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// Config says where a Runtime keeps its state and what it runs.
type Config struct {
	DataDir     string       // an absolute path; whoever calls New holds it alone
	RuntimePath string       // the OCI runtime; "" is runc, looked up in PATH
	ConmonPath  string       // "" is conmon, looked up in PATH
	Stages      Stages       // told what each start consists of; nil: nobody
	Logs        LogLimits    // zero is DefaultLogLimits
	Log         *slog.Logger // nil is slog.Default()
}

// Stages is told how long each stage of a container's start took.
type Stages interface {
	Observe(stage string, took time.Duration)
}

// Runtime runs containers. It implements agent.Runtime.
type Runtime struct {
	dataDir     string
	runtimePath string
	conmonPath  string
	stages      Stages
	log         *slog.Logger
	cgroups     *cgroups
	boot        string // the ID of this boot
	held        uint64 // our capabilities
	oomScoreAdj int    // our own
	x32         bool   // the kernel has the x32 ABI
	logs        LogLimits

	mu         sync.Mutex // guards what follows
	containers map[string]*container
	shares     map[string]*podShare // by pod UID

	exits chan agent.Container
	ended queue
}

var _ agent.Runtime = (*Runtime)(nil)

// container is a record in memory. Its lock is held through every change, Start
// and Remove included; gone is set once the record is deleted.
type container struct {
	podUID string // never changes, as the record's

	mu   sync.Mutex
	rec  record
	gone bool
}

// New opens the state in a data directory, makes what is missing of it, and
// mounts the control group hierarchies where this mount namespace has none. It
// returns the error of Check when something that containers need is missing.
// It starts nothing: call Run for Exits to deliver.
func New(config Config) (*Runtime, error) {
	if err := Check(config); err != nil {
		return nil, err
	}
	r, err := open(config)
	if err != nil {
		return nil, err
	}
	if err := r.cgroups.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// open is New without the checks.
func open(config Config) (*Runtime, error) {
	dataDir, err := filepath.Abs(config.DataDir)
	if err != nil {
		return nil, err
	}
	if strings.Contains(dataDir, ":") {
		return nil, fmt.Errorf("data directory %s: conmon cannot log to a path with a colon", dataDir)
	}
	log := config.Log
	if log == nil {
		log = slog.Default()
	}
	r := &Runtime{dataDir: dataDir, stages: config.Stages, log: log, logs: cmp.Or(config.Logs, DefaultLogLimits), containers: map[string]*container{}, shares: map[string]*podShare{}, exits: make(chan agent.Container, 16)}
	for _, dir := range []string{r.containersDir(), r.exitDir(), r.stateDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	// One directory, one name: control groups are named after it.
	if r.dataDir, err = filepath.EvalSymlinks(dataDir); err != nil {
		return nil, err
	}
	if r.runtimePath, err = findProgram(config.RuntimePath, "runc"); err != nil {
		return nil, err
	}
	if r.conmonPath, err = findProgram(config.ConmonPath, "conmon"); err != nil {
		return nil, err
	}
	if r.cgroups, err = openCgroups(r.dataDir, log); err != nil {
		return nil, err
	}
	if r.boot, err = bootID(); err != nil {
		return nil, err
	}
	if r.held, err = heldCapabilities(); err != nil {
		return nil, err
	}
	if r.oomScoreAdj, err = ownOOMScoreAdj(); err != nil {
		return nil, err
	}
	r.x32 = kernelHasX32()
	if err := r.forgetCommands(); err != nil {
		return nil, err
	}
	return r, r.load()
}

// forgetCommands hangs up commands that still run in containers though the process
// that had started them was killed, and deletes their files.
func (r *Runtime) forgetCommands() error {
	left, err := filepath.Glob(filepath.Join(r.dataDir, "run", "exec-*"))
	errs := []error{err}
	for _, dir := range left {
		if pidFile := filepath.Join(dir, "pid"); r.inContainer(pidFile) {
			signalExec(pidFile, syscall.SIGHUP)
		}
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// inContainer: the process that a file names is in one of our control groups, so
// that it is no later one with its pid.
func (r *Runtime) inContainer(pidFile string) bool {
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return false
	}
	groups, err := os.ReadFile(filepath.Join("/proc", string(bytes.TrimSpace(pid)), "cgroup"))
	return err == nil && bytes.Contains(groups, []byte(r.cgroups.prefix+"/"))
}

func (r *Runtime) containersDir() string         { return filepath.Join(r.dataDir, "containers") }
func (r *Runtime) containerDir(id string) string { return filepath.Join(r.dataDir, "containers", id) }
func (r *Runtime) exitDir() string               { return filepath.Join(r.dataDir, "run", "exits") }
func (r *Runtime) stateDir() string              { return filepath.Join(r.dataDir, "run", "runc") }

// load reads the records on disk.
func (r *Runtime) load() error {
	entries, err := os.ReadDir(r.containersDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id := entry.Name()
		rec, err := readRecord(r.containerDir(id))
		if err != nil {
			// A Start that had barely begun, or a record cut short by a power
			// failure: List wipes it as half-made.
			r.log.Warn("A container's record cannot be read: removing the container", "container", id, "err", err)
			rec = record{Container: agent.Container{ID: id, Phase: phaseCreating}}
		}
		r.containers[id] = &container{podUID: rec.PodUID, rec: rec}
		r.takeOver(&rec)
	}
	return nil
}

// find returns a container and locks it, or nil. The caller unlocks it.
func (r *Runtime) find(id string) *container {
	r.mu.Lock()
	c := r.containers[id]
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil
	}
	return c
}

// forget takes a container off the list. Its lock is held.
func (r *Runtime) forget(c *container) {
	c.gone = true
	r.mu.Lock()
	delete(r.containers, c.rec.ID)
	r.unshare(c.podUID)
	r.mu.Unlock()
}

// List returns every container that has a record, in the order of their IDs,
// after looking at what became of each. Those that a crash left half-made are
// wiped; one that is being started is waited for.
func (r *Runtime) List(ctx context.Context) ([]agent.Container, error) {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.containers))
	r.mu.Unlock()
	var list []agent.Container
	for _, c := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		switch {
		case c.gone:
		case c.rec.Phase == phaseCreating: // and nobody holds its lock to create it
			r.log.Info("Removing a container whose creation was cut short", "container", c.rec.ID)
			if err := r.wipe(ctx, &c.rec); err != nil {
				c.mu.Unlock()
				return nil, fmt.Errorf("remove half-made container %s: %w", c.rec.ID, err)
			}
			r.forget(c)
		default:
			r.settle(c)
			if !isPause(c.rec.ID) {
				list = append(list, r.present(&c.rec))
			}
		}
		c.mu.Unlock()
	}
	for _, c := range all {
		if err := r.removePause(ctx, c.podUID, ""); err != nil {
			return nil, fmt.Errorf("remove the first process of a pod without containers: %w", err)
		}
	}
	slices.SortFunc(list, func(a, b agent.Container) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Signal sends a signal to the first process of a container. One that has ended
// or does not exist is no error.
func (r *Runtime) Signal(_ context.Context, id string, signal syscall.Signal) error {
	c := r.find(id)
	if c == nil {
		return nil
	}
	rec := c.rec
	c.mu.Unlock()
	fd, err := rec.openProcess(r.boot)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %v to container %s: %w", signal, id, err)
	}
	return nil
}

// Remove kills what is left of a container and deletes it: its control group,
// its mounts, what it wrote and its record. Its log stays. A container that does
// not exist is no error.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	c := r.find(id)
	if c == nil {
		return nil
	}
	defer c.mu.Unlock()
	if err := r.wipe(ctx, &c.rec); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	if !isPause(id) {
		if err := r.removePause(ctx, c.podUID, id); err != nil {
			return err
		}
	}
	r.forget(c)
	return nil
}

// Tidy takes the data directory's own control groups away where nothing is in
// them, and its place for roots. Call no Start after it.
func (r *Runtime) Tidy() {
	r.cgroups.tidy()
	for place := filepath.Dir(r.openPlace("x")); place != "/run"; place = filepath.Dir(place) {
		_ = os.Remove(place) // fails while something is in there
	}
}

// Pids returns the first processes of a pod's running containers: through them
// the namespaces that the containers share are found.
func (r *Runtime) Pids(podUID string) []int {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.containers))
	r.mu.Unlock()
	var pids []int
	for _, c := range all {
		if c.podUID != podUID {
			continue // and may be held for as long as its start takes
		}
		c.mu.Lock()
		if !c.gone && c.rec.Phase == agent.ContainerRunning && c.rec.alive(r.boot) {
			pids = append(pids, c.rec.Pid)
		}
		c.mu.Unlock()
	}
	return pids
}

// wipe undoes Start, however far that got and whichever process ran it. The
// record goes last, so that what is cut short is done again.
func (r *Runtime) wipe(ctx context.Context, rec *record) error {
	begin := time.Now()
	id, dir := rec.ID, r.containerDir(rec.ID)
	// A creation under way would go on making what is deleted here.
	if rec.Phase == phaseCreating {
		endConmon(dir, id, 0)
		endCreation(dir)
	}
	if fd, err := rec.openProcess(r.boot); err == nil && fd >= 0 {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		waitGone(fd, 10*time.Second)
		unix.Close(fd)
	}
	if rec.PodUID != "" {
		if err := r.cgroups.kill(r.cgroups.group(rec)); err != nil {
			return err
		}
	}
	// It writes the exit file, and would do so after the removal below.
	endConmon(dir, id, 2*time.Second)
	if err := r.deleteRuntimeState(ctx, id); err != nil {
		return err
	}
	if err := r.unmountRoot(id); err != nil {
		return err
	}
	if err := removeIfThere(r.openPlace(id)); err != nil {
		return err
	}
	if rec.PodUID != "" {
		if err := r.cgroups.remove(r.cgroups.group(rec)); err != nil {
			return err
		}
	}
	if err := removeIfThere(filepath.Join(r.exitDir(), id)); err != nil {
		return err
	}
	if err := removeContainerDir(dir); err != nil {
		return err
	}
	r.log.Debug("Removed container", "container", id, "took", time.Since(begin))
	return nil
}

// deleteRuntimeState has the OCI runtime forget a container whose processes have
// ended. What runc would do for it is to remove its state and the control groups,
// which wipe removes anyway: that is done without a process of its own, which takes
// longer than all the rest. Other OCI runtimes, which keep no state.json, are asked.
func (r *Runtime) deleteRuntimeState(ctx context.Context, id string) error {
	state := filepath.Join(r.stateDir(), id)
	if !exists(state) {
		return nil
	}
	if !exists(filepath.Join(state, "state.json")) {
		// Of a creation cut short there is no more than files, which it may not know.
		if out, err := r.command(ctx, "delete", "--force", id).CombinedOutput(); err != nil {
			r.log.Debug("The OCI runtime does not know a container", "container", id, "said", tidyRuntimeError(string(out)))
		}
	}
	return os.RemoveAll(state)
}

// removeContainerDir deletes a container's files, the record last.
func removeContainerDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != "container.json" {
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}

// command prepares a run of the OCI runtime on our state.
func (r *Runtime) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.runtimePath, append([]string{"--root", r.stateDir()}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	return cmd
}

// ownOOMScoreAdj reads the OOM score adjustment of this process.
func ownOOMScoreAdj() (int, error) {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Fscan(bytes.NewReader(data), &n)
	return n, err
}
