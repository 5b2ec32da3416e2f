package localvolume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNoQuota is that the file system does not keep to project quotas.
var errNoQuota = errors.New("the file system has no project quotas (ext4 or xfs mounted with prjquota has)")

// What linux/fs.h, linux/quota.h and linux/dqblk_xfs.h say.
const (
	getXattr       = 0x801c581f // FS_IOC_FSGETXATTR
	setXattr       = 0x401c5820 // FS_IOC_FSSETXATTR
	projectInherit = 0x200      // FS_XFLAG_PROJINHERIT

	setQuota     = 0x800008<<8 | 2 // Q_SETQUOTA of PRJQUOTA
	getStatus    = 0x5808<<8 | 2   // Q_XGETQSTATV of PRJQUOTA
	blockLimits  = 1               // QIF_BLIMITS
	enforced     = 1 << 5          // FS_QUOTA_PDQ_ENFD
	quotaBlock   = 1 << 10         // bytes, of limits
	firstProject = 1 << 20         // below it are other people's
)

// xattr is struct fsxattr.
type xattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// dqblk is struct if_dqblk.
type dqblk struct {
	hardBlocks, softBlocks, space, hardInodes, softInodes, inodes, blockTime, inodeTime uint64
	valid                                                                               uint32
	_                                                                                   uint32
}

// status is struct fs_quota_statv.
type status struct {
	version int8
	_       uint8
	flags   uint16
	_       [164]byte
}

// limit gives a directory a project of its own, if it has none, and bounds what
// the project may hold to size bytes. The error is errNoQuota where that is not
// possible.
func limit(path string, size int64) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	state := status{version: 1}
	if err := quotactl(dir, getStatus, 0, unsafe.Pointer(&state)); err != nil || state.flags&enforced == 0 {
		return errNoQuota
	}
	project, err := projectOf(dir)
	if err != nil {
		return err
	}
	if project < firstProject {
		if project, err = freeProject(filepath.Dir(path)); err != nil {
			return err
		}
		if err := setProject(dir, project); err != nil {
			return err
		}
	}
	blocks := uint64(size+quotaBlock-1) / quotaBlock
	err = quotactl(dir, setQuota, project, unsafe.Pointer(&dqblk{hardBlocks: blocks, softBlocks: blocks, valid: blockLimits}))
	if err != nil {
		return fmt.Errorf("set the quota of project %d: %w", project, err)
	}
	return nil
}

// freeProject is one above the highest of the directories in dir.
func freeProject(dir string) (uint32, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	free := uint32(firstProject)
	for _, entry := range entries {
		sibling, err := os.Open(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue
		}
		project, err := projectOf(sibling)
		_ = sibling.Close()
		if err == nil && project >= free {
			free = project + 1
		}
	}
	return free, nil
}

func projectOf(dir *os.File) (uint32, error) {
	var x xattr
	if err := ioctl(dir, getXattr, &x); err != nil {
		return 0, fmt.Errorf("get the project of %s: %w", dir.Name(), err)
	}
	return x.project, nil
}

func setProject(dir *os.File, project uint32) error {
	var x xattr
	err := ioctl(dir, getXattr, &x)
	if err == nil {
		x.project, x.flags = project, x.flags|projectInherit
		err = ioctl(dir, setXattr, &x)
	}
	if err != nil {
		return fmt.Errorf("set the project of %s: %w", dir.Name(), err)
	}
	return nil
}

func ioctl(file *os.File, request uintptr, argument *xattr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
		return errno
	}
	return nil
}

func quotactl(file *os.File, command uintptr, id uint32, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, file.Fd(), command, uintptr(id), uintptr(argument), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
