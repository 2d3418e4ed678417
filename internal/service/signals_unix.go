//go:build !windows

package service

import (
	"os"
	"syscall"
)

func otherSignals() []os.Signal { return []os.Signal{syscall.SIGTERM, syscall.SIGHUP} }

func isHangup(s os.Signal) bool { return s == syscall.SIGHUP }

// isRoot reports whether this process may install services.
func isRoot() bool { return os.Geteuid() == 0 }
