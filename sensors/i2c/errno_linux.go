package i2c

import "syscall"

// errnos are what adapters answer. periph formats them with %v.
func errnos() []syscall.Errno {
	return []syscall.Errno{
		syscall.ENXIO, syscall.EREMOTEIO, syscall.ETIMEDOUT, syscall.EIO, syscall.EBUSY,
		syscall.EAGAIN, syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENODEV, syscall.EPROTO,
	}
}

// isNobody reports whether err says that no chip answered at the address. Some
// adapters say so with EREMOTEIO (Raspberry Pi), others with ENXIO.
func isNobody(err error) bool { return isErrno(err, syscall.ENXIO, syscall.EREMOTEIO, syscall.ENODEV) }
