package volume

import (
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// access is what the group gets of the files of a volume; of its directories it
// gets the right to enter them as well.
type access fs.FileMode

const (
	readable access = 0o440
	writable access = 0o660

	enterable = fs.FileMode(0o110)
)

// fsGroup is the group that a pod's volumes belong to, -1 for none.
func fsGroup(pod *corev1.Pod) int {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return int(*sc.FSGroup)
	}
	return -1
}

// runAsUser is the user that all containers of a pod run as, nil if they differ
// or one does not say.
func runAsUser(pod *corev1.Pod) *int64 {
	var all *int64
	same := true
	look := func(sc *corev1.SecurityContext) {
		user := (*int64)(nil)
		if pod.Spec.SecurityContext != nil {
			user = pod.Spec.SecurityContext.RunAsUser
		}
		if sc != nil && sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
		if user == nil || all != nil && *all != *user {
			same = false
			return
		}
		all = user
	}
	for i := range pod.Spec.InitContainers {
		look(pod.Spec.InitContainers[i].SecurityContext)
	}
	for i := range pod.Spec.Containers {
		look(pod.Spec.Containers[i].SecurityContext)
	}
	if !same {
		return nil
	}
	return all
}

// own has everything in a directory belong to the pod's fsGroup, as the pod's
// fsGroupChangePolicy says.
func own(dir string, pod *corev1.Pod) error {
	group := fsGroup(pod)
	if group < 0 {
		return nil
	}
	policy := pod.Spec.SecurityContext.FSGroupChangePolicy
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch {
		fits, err := owned(dir, group)
		if err != nil || fits {
			return err
		}
	}
	return ownAll(dir, group, writable)
}

// owned: the directory itself is as own would leave it.
func owned(dir string, group int) (bool, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	wanted := fs.FileMode(writable) | enterable
	return groupOf(info) == group && info.Mode()&wanted == wanted && info.Mode()&fs.ModeSetgid != 0, nil
}

// ownAll gives everything in a directory to a group. The root goes last, so that
// an interrupted walk is not taken for a whole one.
func ownAll(dir string, group int, grant access) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return ownOne(root, path, group, grant)
	})
	if err != nil {
		return err
	}
	return ownOne(root, ".", group, grant)
}

func ownOne(root *os.Root, path string, group int, grant access) error {
	info, err := root.Lstat(path)
	if err != nil {
		return err
	}
	if err := root.Lchown(path, -1, group); err != nil {
		return fmt.Errorf("give %s to group %d: %w", path, group, err)
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	mode |= fs.FileMode(grant)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return nil
	case info.IsDir():
		mode |= enterable | fs.ModeSetgid
	}
	return root.Chmod(path, mode)
}
