//go:build !linux

package i2c

import "syscall"

func errnos() []syscall.Errno { return []syscall.Errno{syscall.ENXIO, syscall.EIO, syscall.EBUSY} }

func isNobody(err error) bool { return isErrno(err, syscall.ENXIO) }
