package hollow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"syscall"
	"time"

	"windlass.dev/windlass/internal/agent"
)

// Runtime returns the node's runtime.
func (n *Node) Runtime() agent.Runtime { return fakeRuntime{n} }

type fakeRuntime struct{ n *Node }

func (r fakeRuntime) List(context.Context) ([]agent.Container, error) { return r.n.Containers(), nil }

func (r fakeRuntime) Start(ctx context.Context, spec agent.ContainerSpec) (agent.Container, error) {
	n := r.n
	if len(spec.Args) == 0 {
		return agent.Container{}, errors.New("no command specified")
	}
	program, err := n.program(spec)
	if err != nil {
		return agent.Container{}, err
	}
	if err := sleep(ctx, n.StartTakes+program.StartTakes); err != nil {
		return agent.Container{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.containers[spec.ID]; c != nil {
		return c.Container, nil
	}
	n.called("start %s#%d", spec.Name, spec.Attempt)
	if program.StartError != nil {
		return agent.Container{}, program.StartError
	}
	c := &container{program: program, Container: agent.Container{
		ID: spec.ID, PodUID: spec.PodUID, Name: spec.Name, Attempt: spec.Attempt, ImageID: spec.ImageID, Image: spec.Image,
		LogPath: spec.LogPath, Granted: &spec.Granted, VolumeImageIDs: spec.VolumeImageIDs, Phase: agent.ContainerRunning, Pid: 1000 + len(n.containers), StartedAt: time.Now(),
	}}
	n.containers[spec.ID] = c
	if program.ExitAfter > 0 {
		n.endLater(c, program.ExitAfter, program.ExitCode)
	}
	return c.Container, nil
}

// program is how the process of a container will behave.
func (n *Node) program(spec agent.ContainerSpec) (Program, error) {
	if n.boundless {
		return programOf(spec)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.programs[spec.Image], nil
}

func (r fakeRuntime) Signal(_ context.Context, id string, signal syscall.Signal) error {
	n := r.n
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.containers[id]
	if c == nil || c.Phase == agent.ContainerExited {
		return nil
	}
	n.called("signal %s#%d %s", c.Name, c.Attempt, signal)
	switch {
	case signal == syscall.SIGKILL:
		n.end(c, exitKilled)
	case c.program.IgnoresStop:
	case c.program.StopTakes > 0:
		n.endLater(c, c.program.StopTakes, 0)
	default:
		n.end(c, 0)
	}
	return nil
}

// Resize puts on record what the containers are granted.
func (r fakeRuntime) Resize(_ context.Context, podUID string, pod agent.PodGroup, grants map[string]agent.Grant) ([]string, error) {
	n := r.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.called("resize %d", pod.Resources.MemoryLimit)
	var done []string
	for id, grant := range grants {
		if c := n.containers[id]; c != nil && c.Phase == agent.ContainerRunning {
			c.Granted = &grant.Granted
		}
		done = append(done, id)
	}
	return done, nil
}

func (r fakeRuntime) Remove(_ context.Context, id string) error {
	n := r.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.containers[id]; c != nil {
		n.called("remove %s#%d", c.Name, c.Attempt)
		n.end(c, exitKilled)
		delete(n.containers, id)
	}
	return nil
}

func (r fakeRuntime) Exec(_ context.Context, id string, command []string) (int, []byte, error) {
	r.n.mu.Lock()
	c := r.n.containers[id]
	r.n.mu.Unlock()
	if c == nil || c.Phase == agent.ContainerExited {
		return exitNotRunning, nil, fmt.Errorf("container %s does not run", id)
	}
	if c.program.Exec == nil {
		return 0, nil, nil
	}
	code, output := c.program.Exec(command)
	return code, output, nil
}

// ExecStream runs a command as Exec does, and writes its output to the client.
func (r fakeRuntime) ExecStream(ctx context.Context, id string, command []string, streams agent.Streams) (int, error) {
	code, output, err := r.Exec(ctx, id, command)
	if err == nil && streams.Out != nil {
		_, err = streams.Out.Write(output)
	}
	return code, err
}

// Attach refuses: nothing in memory has streams.
func (r fakeRuntime) Attach(_ context.Context, id string, _ agent.Streams) error {
	return fmt.Errorf("container %s runs no process", id)
}

func (r fakeRuntime) Exits() <-chan agent.Container { return r.n.exits }

// Images returns the node's image store.
func (n *Node) Images() agent.Images { return fakeImages{n} }

type fakeImages struct{ n *Node }

func (f fakeImages) Find(_ context.Context, ref string) (*agent.Image, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if f.n.boundless {
		return f.n.anyImage(ref)
	}
	for name, image := range f.n.images {
		if name == ref || image.ID == ref {
			return &image, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", ref, agent.ErrImageNotFound)
}

func (f fakeImages) Pull(_ context.Context, ref string, options agent.PullOptions) (*agent.Image, error) {
	if options.Progress != nil {
		options.Progress(agent.PullProgress{})
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	f.n.called("pull %s", ref)
	if f.n.boundless {
		image, err := f.n.anyImage(ref)
		if err != nil {
			return nil, fmt.Errorf("reading manifest of %s: manifest unknown", ref)
		}
		return image, nil
	}
	image, ok := f.n.remote[ref]
	if !ok {
		return nil, fmt.Errorf("reading manifest of %s: manifest unknown", ref)
	}
	if err := f.n.pulls[ref]; err != nil {
		return nil, err
	}
	f.n.images[ref] = image
	return &image, nil
}

func (f fakeImages) List(context.Context) ([]agent.Image, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	var list []agent.Image
	for _, image := range f.n.images {
		list = append(list, image)
	}
	return list, nil
}

// Free implements agent.Images: images of this node take no room.
func (f fakeImages) Free(context.Context, int64) (int64, error) { return 0, nil }

// Collect implements agent.Images.
func (f fakeImages) Collect(context.Context) error { return nil }

// anyImage returns the image of a reference, unless its tag says that there is none.
func (n *Node) anyImage(ref string) (*agent.Image, error) {
	if tagWord(ref) == wordAbsent {
		return nil, fmt.Errorf("%s: %w", ref, agent.ErrImageNotFound)
	}
	image, ok := n.images[ref]
	if !ok {
		sum := sha256.Sum256([]byte(ref))
		image = agent.Image{ID: "sha256:" + hex.EncodeToString(sum[:]), Names: []string{ref}, Size: 1 << 20, Cmd: []string{"/hollow"}}
		n.images[ref] = image
	}
	return &image, nil
}
