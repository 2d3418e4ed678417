package term

import (
	"io"
	"os"
	"strconv"
)

// DefaultWidth is the width, in columns, of output that is not a terminal.
const DefaultWidth = 100

// IsTerminal reports whether f is a terminal that a person looks at.
func IsTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, _, ok := size(f)
	return ok
}

// Width returns the columns of w: of the terminal behind it, else of $COLUMNS,
// else [DefaultWidth]. It is at least 20.
func Width(w io.Writer) int {
	columns, _ := dimensions(w)
	return columns
}

// dimensions returns the columns and rows of w; rows is 0 when w is no terminal.
func dimensions(w io.Writer) (columns, rows int) {
	if f, ok := w.(*os.File); ok && f != nil {
		columns, rows, _ = size(f)
	}
	if columns <= 0 {
		columns, _ = strconv.Atoi(os.Getenv("COLUMNS"))
	}
	if columns <= 0 {
		columns = DefaultWidth
	}
	return max(columns, 20), rows
}

// HasColor reports whether to colour what is written to w: it is a terminal, and
// neither NO_COLOR nor TERM=dumb says otherwise.
func HasColor(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && colorAllowed(os.Getenv) && IsTerminal(f)
}

// colorAllowed follows no-color.org: any value but the empty one switches colour
// off.
func colorAllowed(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// Color is an SGR sequence of the terminal.
type Color string

// The colours in use. They stand beside a word that says the same.
const (
	Bold   Color = "\x1b[1m"
	Red    Color = "\x1b[31m"
	Green  Color = "\x1b[32m"
	Yellow Color = "\x1b[33m"
)

// Paint returns text in color c, or as it is when on is false.
func Paint(on bool, c Color, text string) string {
	if !on || text == "" {
		return text
	}
	return string(c) + text + "\x1b[0m"
}
