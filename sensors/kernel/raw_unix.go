//go:build unix

package kernel

import "syscall"

// rawFile is a file that is read by system calls only. os.File would hand a file
// of /sys to the poller and then wait for ever for one whose driver says EAGAIN.
type rawFile struct {
	fd int // one more than the descriptor, so that zero means closed
}

func (f *rawFile) isOpen() bool { return f.fd != 0 }

func (f *rawFile) open(path string) error {
	for {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == syscall.EINTR {
			continue
		}
		if err == nil {
			f.fd = fd + 1
		}
		return err
	}
}

// readAt reads at an offset; 0 bytes without an error are the end of the file.
func (f *rawFile) readAt(b []byte, offset int64) (int, error) {
	for {
		n, err := syscall.Pread(f.fd-1, b, offset)
		if err == syscall.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

func (f *rawFile) close() {
	_ = syscall.Close(f.fd - 1) // read only: nothing to lose
	f.fd = 0
}
