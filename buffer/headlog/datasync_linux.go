package headlog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Datasync spares the journal: the length of a head file never changes, so its
// pages are all that a cut could take.
func (f diskFile) Datasync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
