//go:build unix

package term

import (
	"os"

	"golang.org/x/sys/unix"
)

// size asks the kernel; ok is false for everything that is not a terminal. It
// does not use f.Fd, which would put the file into blocking mode.
func size(f *os.File) (columns, rows int, ok bool) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	err = conn.Control(func(fd uintptr) {
		ws, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
		if err == nil {
			columns, rows, ok = int(ws.Col), int(ws.Row), true
		}
	})
	return columns, rows, ok && err == nil
}
