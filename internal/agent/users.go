package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// UserRange is the users and groups of the node that those of a user namespace are,
// the first as its 0 (user_namespaces(7)).
type UserRange struct {
	First uint32
	Size  uint32
}

// usersPerPod is how many users a pod with a user namespace of its own has, and how
// many the node keeps to itself.
const usersPerPod = 1 << 16

// ownUsers: the pod has a user namespace of its own.
func ownUsers(pod *corev1.Pod) bool {
	return !ptr.Deref(pod.Spec.HostUsers, true)
}

// userRanges keeps which pod has which users, in a file of each pod's directory: they
// are its own for as long as anything of it is on the node.
type userRanges struct {
	mu  sync.Mutex
	dir string // of the pods' directories
}

func (r *userRanges) file(uid string) string { return filepath.Join(r.dir, uid, "users") }

// take returns the range of a pod: the one that it has, else the first that no other has.
func (r *userRanges) take(uid string) (UserRange, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if own, err := readUsers(r.file(uid)); err == nil || !errors.Is(err, os.ErrNotExist) {
		return own, err
	}
	files, err := filepath.Glob(r.file("*"))
	if err != nil {
		return UserRange{}, err
	}
	taken := map[uint32]bool{}
	for _, file := range files {
		other, err := readUsers(file)
		if err != nil {
			return UserRange{}, err
		}
		taken[other.First] = true
	}
	first := uint32(usersPerPod)
	for taken[first] {
		if first += usersPerPod; first == 0 {
			return UserRange{}, errors.New("every range of users is taken by a pod")
		}
	}
	if err := os.MkdirAll(filepath.Dir(r.file(uid)), 0o755); err != nil {
		return UserRange{}, err
	}
	next := r.file(uid) + ".new"
	if err := os.WriteFile(next, []byte(strconv.FormatUint(uint64(first), 10)+"\n"), 0o600); err != nil {
		return UserRange{}, err
	}
	return UserRange{First: first, Size: usersPerPod}, os.Rename(next, r.file(uid))
}

func readUsers(file string) (UserRange, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return UserRange{}, err
	}
	users, err := parseUsers(string(content))
	if err != nil {
		return UserRange{}, fmt.Errorf("%s: %w", file, err)
	}
	return users, nil
}

// parseUsers reads the first user of a pod's range.
func parseUsers(content string) (UserRange, error) {
	first, err := strconv.ParseUint(strings.TrimSpace(content), 10, 32)
	if err != nil {
		return UserRange{}, err
	}
	if first == 0 || first%usersPerPod != 0 {
		return UserRange{}, fmt.Errorf("%d begins no range of %d users", first, usersPerPod)
	}
	return UserRange{First: uint32(first), Size: usersPerPod}, nil
}

// usersOf returns the users of a pod that has a user namespace of its own, nil for
// one that has the node's.
func (a *Agent) usersOf(pod *corev1.Pod) (*UserRange, error) {
	if !ownUsers(pod) {
		return nil, nil
	}
	if a.cfg.NoFiles {
		return &UserRange{First: usersPerPod, Size: usersPerPod}, nil
	}
	users, err := a.users.take(string(pod.UID))
	if err != nil {
		return nil, fmt.Errorf("users of the pod: %w", err)
	}
	return &users, nil
}
