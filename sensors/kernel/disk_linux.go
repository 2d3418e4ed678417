package kernel

import (
	"io/fs"
	"syscall"
)

func statfs(path string) (space, error) {
	var st syscall.Statfs_t
	for {
		err := syscall.Statfs(path, &st)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
		}
		break
	}
	block := uint64(st.Bsize) //nolint:gosec,unconvert // int32 or int64 by architecture, never negative
	if st.Frsize > 0 {
		block = uint64(st.Frsize) //nolint:gosec,unconvert // as above
	}
	return space{total: st.Blocks * block, free: st.Bfree * block, available: st.Bavail * block}, nil
}
