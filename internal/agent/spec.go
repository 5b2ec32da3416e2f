package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"windlass.dev/windlass/internal/agent/environment"
	"windlass.dev/windlass/internal/agent/volume"
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
	env, err := environment.Build(pod, c, image.Env, services, apiSource{ctx, a.cfg.Client, pod.Namespace}, a.facts(ip))
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	env = withDefaults(env, hostnameOf(pod))
	lookup := environment.Lookup(env)
	user, group, err := userOf(pod, c, image)
	if err != nil {
		return ContainerSpec{}, &configError{err}
	}
	mounts, err := a.mounts(ctx, pod, c, ip, lookup)
	if err != nil {
		return ContainerSpec{}, err
	}
	return ContainerSpec{
		ID: act.ID, PodUID: string(pod.UID), Name: c.Name, Attempt: act.Attempt,
		Image: c.Image, ImageID: image.ID, Layers: image.Layers,
		Hostname: hostnameOf(pod), NetNS: netns,
		LogPath:    filepath.Join(a.podLogDir(pod), c.Name, strconv.Itoa(act.Attempt)+".log"),
		Ports:      tcpPorts(c),
		Args:       argsOf(c, image, lookup),
		Env:        env,
		WorkingDir: workingDirOf(c, image),
		User:       user,
		Mounts:     mounts,
		Resources:  resourcesOf(pod, c, a.node.memory),
		Security:   securityOf(pod, c, group),
		TTY:        c.TTY,
		Stdin:      c.Stdin,
	}, nil
}

// mounts makes the files that every container has and says where they and the
// volumes belong.
func (a *Agent) mounts(ctx context.Context, pod *corev1.Pod, c *corev1.Container, ip string, lookup func(string) (string, bool)) ([]Mount, error) {
	if a.cfg.NoFiles {
		return nil, nil
	}
	files, err := a.writePodFiles(pod, ip)
	if err != nil {
		return nil, &configError{fmt.Errorf("write the pod's files: %w", err)}
	}
	volumes, err := volume.Locate(a.volumesDir(pod), pod, a.claims(ctx, pod))
	if err != nil {
		return nil, &configError{err}
	}
	mounts, err := mountsOf(c, volumes, files, lookup)
	if err != nil {
		return nil, &configError{err}
	}
	return mounts, nil
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

func hostnameOf(pod *corev1.Pod) string {
	name := pod.Name
	switch {
	case pod.Spec.HostNetwork:
		return pod.Spec.NodeName
	case pod.Spec.Hostname != "":
		name = pod.Spec.Hostname
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// mountsOf places volumes and the pod's own files into a container. A mount of
// the container's at one of those files' places wins.
func mountsOf(c *corev1.Container, volumes map[string]volume.Directory, files []Mount, lookup func(string) (string, bool)) ([]Mount, error) {
	var mounts []Mount
	taken := map[string]bool{}
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		found, ok := volumes[m.Name]
		if !ok {
			return nil, fmt.Errorf("volume %q of mount %s is not in the pod", m.Name, m.MountPath)
		}
		source, sub := found.Path, m.SubPath
		if m.SubPathExpr != "" {
			sub = environment.Expand(m.SubPathExpr, lookup)
		}
		if sub != "" {
			path, err := volume.SubPath(source, sub)
			if err != nil {
				return nil, fmt.Errorf("mount %s of volume %q: %w", m.MountPath, m.Name, err)
			}
			source = path
		}
		destination := m.MountPath
		if !filepath.IsAbs(destination) {
			destination = "/" + destination
		}
		taken[filepath.Clean(destination)] = true
		mounts = append(mounts, Mount{Source: source, Destination: destination, ReadOnly: m.ReadOnly || found.ReadOnly})
	}
	for _, file := range files {
		if !taken[file.Destination] {
			mounts = append(mounts, file)
		}
	}
	return mounts, nil
}

// userOf is the user a container runs as, and its group if that is set apart.
func userOf(pod *corev1.Pod, c *corev1.Container, image *Image) (user string, group *int64, err error) {
	user = image.User
	var runAsUser *int64
	nonRoot := false
	if sc := pod.Spec.SecurityContext; sc != nil {
		runAsUser, group = sc.RunAsUser, sc.RunAsGroup
		nonRoot = sc.RunAsNonRoot != nil && *sc.RunAsNonRoot
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			runAsUser = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			group = sc.RunAsGroup
		}
		if sc.RunAsNonRoot != nil {
			nonRoot = *sc.RunAsNonRoot
		}
	}
	if runAsUser != nil {
		user = strconv.FormatInt(*runAsUser, 10)
	}
	if nonRoot {
		if err = checkNonRoot(user, runAsUser != nil); err != nil {
			err = fmt.Errorf("%w (pod: %q, container: %s)", err, podTitle(pod), c.Name)
		}
	}
	return user, group, err
}

func checkNonRoot(user string, asked bool) error {
	name, _, _ := strings.Cut(user, ":")
	uid, err := strconv.ParseInt(name, 10, 64)
	switch {
	case name == "" || err == nil && uid == 0 && !asked:
		return errors.New("container has runAsNonRoot and image will run as root")
	case err == nil && uid == 0:
		return errors.New("container's runAsUser breaks non-root policy")
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", name)
	}
	return nil
}

func securityOf(pod *corev1.Pod, c *corev1.Container, group *int64) Security {
	s := Security{RunAsGroup: group}
	profile := (*corev1.SeccompProfile)(nil)
	if sc := pod.Spec.SecurityContext; sc != nil {
		s.SupplementalGroups = slices.Clone(sc.SupplementalGroups)
		if sc.FSGroup != nil {
			s.SupplementalGroups = append(s.SupplementalGroups, *sc.FSGroup)
		}
		profile = sc.SeccompProfile
	}
	if sc := c.SecurityContext; sc != nil {
		s.Privileged = sc.Privileged != nil && *sc.Privileged
		s.ReadOnlyRootFilesystem = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
		s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
		if caps := sc.Capabilities; caps != nil {
			s.AddCapabilities, s.DropCapabilities = capabilityNames(caps.Add), capabilityNames(caps.Drop)
		}
		if sc.SeccompProfile != nil {
			profile = sc.SeccompProfile
		}
	}
	s.SeccompUnconfined = s.Privileged || profile != nil && profile.Type == corev1.SeccompProfileTypeUnconfined
	return s
}

func capabilityNames(list []corev1.Capability) []string {
	var names []string
	for _, name := range list {
		names = append(names, strings.TrimPrefix(strings.ToUpper(string(name)), "CAP_"))
	}
	return names
}
