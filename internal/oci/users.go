package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"windlass.dev/windlass/internal/agent"
)

// openUsers opens the user namespace of a container that has other users than the
// node: the one to which its network namespace belongs.
func openUsers(spec *agent.ContainerSpec) (*os.File, error) {
	if spec.Users == nil {
		return nil, nil
	}
	net, err := os.Open(spec.NetNS)
	if err != nil {
		return nil, fmt.Errorf("the pod's user namespace: %w", err)
	}
	defer net.Close()
	fd, err := unix.IoctlRetInt(int(net.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil, fmt.Errorf("the user namespace of %s: %w", spec.NetNS, err)
	}
	return os.NewFile(uintptr(fd), "user namespace"), nil
}

func userMappings(users *agent.UserRange) []specs.LinuxIDMapping {
	if users == nil {
		return nil
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: users.First, Size: users.Size}}
}

// mountMapped mounts source at target with the owners of its files as a user namespace
// has them: what belongs to the node's user 0 belongs to that of the namespace
// (mount_setattr(2)). Whether that can be is the file system's matter.
func mountMapped(source, target string, users *os.File, recursive bool) error {
	tree, err := openMapped(source, users, recursive)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s with the pod's users: %w", source, err)
	}
	return nil
}

// openMapped is mountMapped without a place.
func openMapped(source string, users *os.File, recursive bool) (*os.File, error) {
	flags, attrFlags := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags, attrFlags = flags|unix.AT_RECURSIVE, attrFlags|unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return nil, fmt.Errorf("mount %s with the pod's users: %w", source, err)
	}
	tree := os.NewFile(uintptr(fd), source)
	err = unix.MountSetattr(fd, "", attrFlags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(users.Fd())})
	if err == nil {
		return tree, nil
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = fmt.Errorf("the file system there, or the kernel, cannot mount it so for `hostUsers: false` (%w)", err)
	}
	return nil, errors.Join(fmt.Errorf("mount %s with the pod's users: %w", source, err), tree.Close())
}

// mapLayers returns the layers of an image as a user namespace has them, and mounts
// what that takes below dir: one mount for all layers of one directory.
func mapLayers(dir string, layers []string, users *os.File) ([]string, error) {
	mounted := map[string]string{}
	mapped := make([]string, len(layers))
	for i, layer := range layers {
		parent := filepath.Dir(filepath.Dir(layer)) // the image store's, which has DIR/ID/diff
		if mounted[parent] == "" {
			at, err := mountPoint(dir, "layers"+strconv.Itoa(len(mounted)))
			if err == nil {
				err = mountMapped(parent, at, users, false)
			}
			if err != nil {
				return nil, err
			}
			mounted[parent] = at
		}
		mapped[i] = filepath.Join(mounted[parent], strings.TrimPrefix(layer, parent))
	}
	return mapped, nil
}

// mapMounts returns the mounts of a container with sources that are as its user
// namespace has them, mounted below dir.
func mapMounts(dir string, mounts []agent.Mount, users *os.File) ([]agent.Mount, error) {
	mapped := make([]agent.Mount, len(mounts))
	for i, m := range mounts {
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, err
		}
		at, err := mountPoint(dir, "mount"+strconv.Itoa(i))
		if err == nil && !info.IsDir() {
			at = filepath.Join(at, "file")
			err = os.WriteFile(at, nil, 0o600)
		}
		if err == nil {
			err = mountMapped(m.Source, at, users, true)
		}
		if err != nil {
			return nil, err
		}
		m.Source = at
		mapped[i] = m
	}
	return mapped, nil
}

// mappedDir is where a container's directory has what is mounted with other users. It
// is a mount itself, so that taking it away takes them all.
const mappedDir = "mapped"

func mountPoint(dir, name string) (string, error) {
	at := filepath.Join(dir, mappedDir, name)
	return at, os.Mkdir(at, 0o700)
}

// prepareMapped makes the place for what is mounted with other users.
func prepareMapped(dir string) error {
	at := filepath.Join(dir, mappedDir)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700,size=1m"); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return unix.Mount("", at, "", unix.MS_PRIVATE, "")
}

// withUsers is what a container with users of its own needs beside what others do: its
// user namespace, and all that it sees of the node's files mounted as that has them.
func (r *Runtime) withUsers(spec *agent.ContainerSpec, dir string, shared *joined) (own *agent.ContainerSpec, at string, done func(), err error) {
	users, err := openUsers(spec)
	if err != nil {
		return nil, "", nil, err
	}
	defer func() {
		if err != nil {
			users.Close()
		}
	}()
	if at, err = r.makeOpenPlace(spec.ID); err != nil {
		return nil, "", nil, err
	}
	if err = prepareMapped(dir); err != nil {
		return nil, "", nil, err
	}
	mapped := *spec
	if mapped.Layers, err = mapLayers(dir, spec.Layers, users); err != nil {
		return nil, "", nil, err
	}
	if mapped.Mounts, err = mapMounts(dir, spec.Mounts, users); err != nil {
		return nil, "", nil, err
	}
	shared.users = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), users.Fd())
	return &mapped, at, func() { users.Close() }, nil
}

// openPlace is where the root of a container with users of its own is mounted while it
// is created: its first steps are made as one of them, who does not get through the
// data directory. The directory, empty by then, stays with the container: the OCI
// runtime begins commands there.
func (r *Runtime) openPlace(id string) string { return filepath.Join("/run", r.cgroups.prefix, id) }

func (r *Runtime) makeOpenPlace(id string) (string, error) {
	at := r.openPlace(id)
	if err := os.MkdirAll(at, 0o711); err != nil {
		return "", err
	}
	for _, dir := range []string{at, filepath.Dir(at), filepath.Dir(filepath.Dir(at))} {
		if err := os.Chmod(dir, 0o711); err != nil { // whatever the umask
			return "", err
		}
	}
	return at, nil
}
