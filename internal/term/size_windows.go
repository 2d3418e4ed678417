package term

import (
	"os"

	"golang.org/x/sys/windows"
)

// size asks the console and lets it understand escape sequences; ok is false for
// everything that is not a console.
func size(f *os.File) (columns, rows int, ok bool) {
	h := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return 0, 0, false
	}
	// A console that cannot do this prints the sequences; that is what it does
	// for every other program too.
	_ = windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(h, &info) != nil {
		return 0, 0, true
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1, true
}
