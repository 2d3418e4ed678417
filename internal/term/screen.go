package term

import (
	"io"
	"strconv"
	"strings"
)

// Screen redraws a few lines in place, on a terminal. What stood above it stays,
// the last frame stays when the program ends, and nothing has to be restored: the
// cursor is left on the line below, visible. On anything but a terminal each
// frame is printed in full; callers print one line from time to time instead.
//
// A Screen belongs to one goroutine, and nobody else writes to its terminal
// between the first and the last frame.
type Screen struct {
	w     io.Writer
	size  func() (columns, rows int) // rows 0: no terminal
	drawn int                        // lines of the last frame
	err   error
}

// NewScreen returns a screen on w.
func NewScreen(w io.Writer) *Screen {
	return &Screen{w: w, size: func() (int, int) { return dimensions(w) }}
}

// Draw shows frame in place of the one before. Lines that are wider than the
// terminal are clipped and frames that are higher lose their end, because a line
// that wraps or scrolls could not be found again.
func (s *Screen) Draw(frame string) {
	columns, rows := s.size()
	lines := strings.Split(strings.TrimRight(frame, "\n"), "\n")
	if rows == 0 {
		s.write(strings.Join(lines, "\n") + "\n")
		return
	}
	if limit := max(rows-1, 1); len(lines) > limit {
		lines = lines[:limit]
	}
	// One write per frame: a terminal shows it whole, without flicker.
	var b strings.Builder
	if up := min(s.drawn, rows-1); up > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(up) + "A")
	}
	b.WriteByte('\r')
	for _, l := range lines {
		b.WriteString(Clip(l, columns-1))
		b.WriteString("\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	s.write(b.String())
	s.drawn = len(lines)
}

// Err returns the first error of writing. After it Draw does nothing.
func (s *Screen) Err() error { return s.err }

func (s *Screen) write(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.w, text)
	}
}
