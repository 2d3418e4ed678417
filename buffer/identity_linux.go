package buffer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemIdentity reads what the kernel and the system say. Parts that cannot be
// read stay empty; only the directory itself must be there.
func systemIdentity(dir string) (Identity, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_MNT_ID|unix.STATX_MNT_ID_UNIQUE, &st)
	if errors.Is(err, unix.ENOSYS) { // before Linux 4.11
		var old unix.Stat_t
		if err = unix.Stat(dir, &old); err == nil {
			st.Ino, st.Mask = old.Ino, unix.STATX_INO
		}
	}
	if err != nil {
		return Identity{}, fmt.Errorf("identify %s: %w", dir, err)
	}
	id := Identity{
		Machine:  firstLine("/etc/machine-id"),
		Hardware: firstLine("/proc/device-tree/serial-number", "/sys/class/dmi/id/product_uuid"),
		Boot:     firstLine("/proc/sys/kernel/random/boot_id"),
		Inode:    strconv.FormatUint(st.Ino, 10),
	}
	id.Mount = mounted(&st, "/sys")
	id.Lock = birth(filepath.Join(dir, lockName))
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		id.FS = fmt.Sprintf("%x-%08x%08x", fs.Type, uint32(fs.Fsid.Val[0]), uint32(fs.Fsid.Val[1]))
	}
	return id, nil
}

// mounted names one life of the file system that a file is on, from its mount to its
// end. The id of a mount alone does not tell: the kernel gives it again to the next
// mount, such as that of a card that was pulled out and put back, and a service in a
// mount namespace of its own gets another one at each start. Most file systems for
// disks have a directory in sysfs for as long as they are mounted anywhere, whose inode
// is not given again. For others it is the mount id: since Linux 6.8 one that is not
// given again, before that one that may be.
func mounted(st *unix.Statx_t, sys string) string {
	if dev, err := os.Readlink(fmt.Sprintf("%s/dev/block/%d:%d", sys, st.Dev_major, st.Dev_minor)); err == nil {
		for _, kind := range []string{"ext4", "f2fs", "xfs"} {
			var fs unix.Stat_t
			if unix.Stat(filepath.Join(sys, "fs", kind, filepath.Base(dev)), &fs) == nil {
				return kind + "-" + strconv.FormatUint(fs.Ino, 10)
			}
		}
	}
	if st.Mask&(unix.STATX_MNT_ID|unix.STATX_MNT_ID_UNIQUE) != 0 { // Linux 5.8
		return strconv.FormatUint(st.Mnt_id, 10)
	}
	return ""
}

// birth names one life of a file: its inode, and when it was made, since inodes are
// given again. "" if the file cannot be looked at.
func birth(path string) string {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return ""
	}
	name := strconv.FormatUint(st.Ino, 10)
	if st.Mask&unix.STATX_BTIME != 0 {
		name += fmt.Sprintf("@%d.%09d", st.Btime.Sec, st.Btime.Nsec)
	}
	return name
}

// firstLine returns the first line of the first file that can be read.
func firstLine(paths ...string) string {
	for _, p := range paths {
		if b, err := os.ReadFile(p); err == nil {
			line, _, _ := strings.Cut(string(b), "\n")
			return strings.TrimSpace(strings.TrimRight(line, "\x00"))
		}
	}
	return ""
}
