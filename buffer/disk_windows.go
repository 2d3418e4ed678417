package buffer

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

func allocated(fi fs.FileInfo) int64 { return fi.Size() }

func freeSpace(dir string) (free, total uint64, known bool) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, false
	}
	err = windows.GetDiskFreeSpaceEx(p, &free, &total, nil)
	return free, total, err == nil
}

func lockFile(f *os.File) (held bool, err error) {
	const exclusive = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	// The range lies behind the contents, which others may read.
	at := &windows.Overlapped{Offset: 1 << 30}
	err = windows.LockFileEx(windows.Handle(f.Fd()), exclusive, 0, 1, 0, at)
	return errors.Is(err, windows.ERROR_LOCK_VIOLATION), err
}

func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// unlockFile leaves it to Close.
func unlockFile(*os.File) error { return nil }
