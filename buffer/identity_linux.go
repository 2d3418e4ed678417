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
	err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_MNT_ID, &st)
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
	if st.Mask&unix.STATX_MNT_ID != 0 { // Linux 5.8
		id.Mount = strconv.FormatUint(st.Mnt_id, 10)
	}
	id.Lock = birth(filepath.Join(dir, lockName))
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		id.FS = fmt.Sprintf("%x-%08x%08x", fs.Type, uint32(fs.Fsid.Val[0]), uint32(fs.Fsid.Val[1]))
	}
	return id, nil
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
