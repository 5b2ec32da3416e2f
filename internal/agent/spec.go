package agent

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
)

// containerSpec resolves everything that one attempt of a container needs. What
// it refers to and is missing gives a configError.
func (a *Agent) containerSpec(ctx context.Context, pod *corev1.Pod, c *corev1.Container, act Act, image *Image, network *PodNetwork) (ContainerSpec, error) {
	ip, netns := a.cfg.NodeIP.String(), ""
	if network != nil {
		ip, netns = network.IP.String(), network.NetNS
	}
	services, err := a.services(ctx, pod)
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	files := a.volumesDir(pod)
	if a.cfg.NoFiles {
		files = ""
	}
	env, err := environment.Build(pod, c, image.Env, services, apiSource{ctx, a.cfg.Client, pod.Namespace, files}, a.facts(ip))
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	hostname, err := kernelNameOf(pod, a.cfg.Domain)
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	env = withDefaults(env, hostname)
	lookup := environment.Lookup(env)
	user, group, err := userOf(pod, c, image)
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	security, err := a.security(pod, c, group)
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	mounts, err := a.mounts(ctx, pod, c, act.Attempt, ip, lookup)
	if err != nil {
		return ContainerSpec{}, err
	}
	users, err := a.usersOf(pod)
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	return ContainerSpec{
		ID: act.ID, PodUID: string(pod.UID), Name: c.Name, Attempt: act.Attempt,
		Image: c.Image, ImageID: image.ID, Layers: image.Layers,
		Hostname: hostname, NetNS: netns, Users: users,
		PID: pidScope(pod), IPC: ipcScope(pod),
		LogPath:    filepath.Join(a.podLogDir(pod), c.Name, strconv.Itoa(act.Attempt)+".log"),
		Ports:      tcpPorts(c),
		Args:       argsOf(c, image, lookup),
		Env:        env,
		WorkingDir: workingDirOf(c, image),
		User:       user,
		Mounts:     mounts,
		Resources:  resourcesOf(pod, c, a.node.memory),
		Granted:    c.Resources,
		Security:   security,
		TTY:        c.TTY,
		Stdin:      c.Stdin,
		StdinOnce:  c.StdinOnce,
	}, nil
}

// withDefaults adds the variables that every process may expect, where nothing
// else has set them.
func withDefaults(env []string, hostname string) []string {
	for _, variable := range []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + hostname} {
		name, _, _ := strings.Cut(variable, "=")
		if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			env = append(env, variable)
		}
	}
	return env
}

// argsOf is the process that a container runs: command replaces the image's
// entrypoint and its arguments, args the latter only.
func argsOf(c *corev1.Container, image *Image, lookup func(string) (string, bool)) []string {
	var args []string
	add := func(list []string, expand bool) {
		for _, text := range list {
			if expand {
				text = environment.Expand(text, lookup)
			}
			args = append(args, text)
		}
	}
	if len(c.Command) > 0 {
		add(c.Command, true)
	} else {
		add(image.Entrypoint, false)
	}
	if len(c.Args) > 0 {
		add(c.Args, true)
	} else if len(c.Command) == 0 {
		add(image.Cmd, false)
	}
	return args
}

func workingDirOf(c *corev1.Container, image *Image) string {
	for _, dir := range []string{c.WorkingDir, image.WorkingDir} {
		if dir != "" {
			return dir
		}
	}
	return "/"
}
