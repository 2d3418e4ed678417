//go:build linux || darwin || freebsd

package buffer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockShared takes the lock beside others who only read, or fails at once.
func lockShared(f *os.File) (held bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return errors.Is(err, unix.EWOULDBLOCK), err
}
