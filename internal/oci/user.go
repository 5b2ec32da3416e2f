package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// identity is who a container's process runs as.
type identity struct {
	uid, gid uint32
	groups   []uint32
}

// lookupUser resolves "uid[:gid]" or "name[:group]" as Docker does: names, the
// primary group and the further groups are those of the image's /etc/passwd and
// /etc/group. Numbers need not be listed there. An empty spec is root.
func lookupUser(rootfs, spec string) (identity, error) {
	passwd, err := openInRoot(rootfs, "etc/passwd")
	if err != nil {
		return identity{}, err
	}
	defer passwd.Close()
	group, err := openInRoot(rootfs, "etc/group")
	if err != nil {
		return identity{}, err
	}
	defer group.Close()
	return resolveUser(spec, io.LimitReader(passwd, 4<<20), io.LimitReader(group, 4<<20))
}

// resolveUser is lookupUser on the contents of the two files.
func resolveUser(spec string, passwd, group io.Reader) (identity, error) {
	found, err := user.GetExecUser(spec, &user.ExecUser{}, passwd, group)
	if err != nil {
		return identity{}, fmt.Errorf("user %q: %w", spec, err)
	}
	id := identity{uid: uint32(found.Uid), gid: uint32(found.Gid)}
	for _, g := range found.Sgids {
		id.groups = append(id.groups, uint32(g))
	}
	return id, nil
}

// openInRoot opens a file of the image for reading, resolving every link inside
// the image. An absent file reads as empty.
func openInRoot(rootfs, name string) (io.ReadCloser, error) {
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", rootfs, err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		// Not to hang on what is a FIFO.
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open /%s of the image: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("/%s of the image is not a regular file", name), err, f.Close())
	}
	return f, nil
}

// userOf is a process' user as the API tells it.
func userOf(u specs.User) *corev1.LinuxContainerUser {
	told := &corev1.LinuxContainerUser{UID: int64(u.UID), GID: int64(u.GID)}
	for _, g := range u.AdditionalGids {
		told.SupplementalGroups = append(told.SupplementalGroups, int64(g))
	}
	return told
}
