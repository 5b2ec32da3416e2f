package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

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

// security is what a container may do on this node, with the profile that it
// names read from the node's directory of them.
func (a *Agent) security(pod *corev1.Pod, c *corev1.Container, group *int64) (Security, error) {
	s := securityOf(pod, c, group)
	profile := seccompOf(pod, c)
	if s.Privileged || profile == nil || profile.Type != corev1.SeccompProfileTypeLocalhost || profile.LocalhostProfile == nil {
		return s, nil
	}
	var err error
	if s.SeccompProfile, err = readProfile(a.seccompDir(), *profile.LocalhostProfile); err != nil {
		return s, fmt.Errorf("cannot load seccomp profile %q (profiles are below %s): %w", *profile.LocalhostProfile, a.seccompDir(), err)
	}
	return s, nil
}

// seccompDir is where the profiles are that pods name as localhostProfile.
func (a *Agent) seccompDir() string { return filepath.Join(a.cfg.DataDir, "seccomp") }

// maxProfile is the size in bytes of the largest seccomp profile that is read.
const maxProfile = 1 << 20

// readProfile reads a file below dir; no link leads out of there.
func readProfile(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxProfile+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) == 0:
		return nil, errors.New("the file is empty")
	case len(content) > maxProfile:
		return nil, fmt.Errorf("the file has more than %d bytes", maxProfile)
	}
	return content, nil
}

func securityOf(pod *corev1.Pod, c *corev1.Container, group *int64) Security {
	s := Security{RunAsGroup: group, AppArmor: appArmorOf(pod, c)}
	if sc := pod.Spec.SecurityContext; sc != nil {
		s.SupplementalGroups = slices.Clone(sc.SupplementalGroups)
		if sc.FSGroup != nil {
			s.SupplementalGroups = append(s.SupplementalGroups, *sc.FSGroup)
		}
		s.StrictGroups = sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
		s.Sysctls = sysctlsOf(sc)
	}
	if sc := c.SecurityContext; sc != nil {
		s.Privileged = sc.Privileged != nil && *sc.Privileged
		s.ReadOnlyRootFilesystem = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
		s.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
		s.UnmaskedProc = sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount
		if caps := sc.Capabilities; caps != nil {
			s.AddCapabilities, s.DropCapabilities = capabilityNames(caps.Add), capabilityNames(caps.Drop)
		}
	}
	profile := seccompOf(pod, c)
	s.SeccompUnconfined = s.Privileged || profile != nil && profile.Type == corev1.SeccompProfileTypeUnconfined
	return s
}

// seccompOf is the profile that a container asks for, the pod's if it names none.
// Without one it has the runtime's default.
func seccompOf(pod *corev1.Pod, c *corev1.Container) *corev1.SeccompProfile {
	if sc := c.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		return sc.SeccompProfile
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.SeccompProfile
	}
	return nil
}

// appArmorOf is the profile that a container asks for, the pod's if it names none;
// nil if neither does.
func appArmorOf(pod *corev1.Pod, c *corev1.Container) *corev1.AppArmorProfile {
	if sc := c.SecurityContext; sc != nil && sc.AppArmorProfile != nil {
		return sc.AppArmorProfile
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.AppArmorProfile
	}
	return nil
}

func capabilityNames(list []corev1.Capability) []string {
	var names []string
	for _, name := range list {
		names = append(names, strings.TrimPrefix(strings.ToUpper(string(name)), "CAP_"))
	}
	return names
}
