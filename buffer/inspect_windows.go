package buffer

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockShared takes the lock beside others who only read, or fails at once.
func lockShared(f *os.File) (held bool, err error) {
	at := &windows.Overlapped{Offset: 1 << 30} // as lockFile
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	return errors.Is(err, windows.ERROR_LOCK_VIOLATION), err
}
