package term

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table lays out cells in columns that are as wide as their widest cell, two
// spaces apart. The zero Table is empty and ready to use.
type Table struct {
	// Right lists the columns, from 0, that are aligned to the right: numbers.
	Right []int
	// Indent is put before every line.
	Indent string
	rows   [][]string
}

// Row adds a row; rows may differ in length. Line ends inside a cell become
// spaces.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\t", " ").Replace(c)
	}
	t.rows = append(t.rows, row)
}

// String returns the table, a line per row, without spaces at line ends.
func (t *Table) String() string {
	widths := t.widths()
	right := make(map[int]bool, len(t.Right))
	for _, c := range t.Right {
		right[c] = true
	}
	var b strings.Builder
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-visible(cell))
			if right[i] {
				cells[i] = pad + cell
			} else {
				cells[i] = cell + pad
			}
		}
		b.WriteString(strings.TrimRight(t.Indent+strings.Join(cells, "  "), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// Write prints the table to w.
func (t *Table) Write(w io.Writer) error {
	_, err := io.WriteString(w, t.String())
	return err
}

func (t *Table) widths() []int {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], visible(cell))
		}
	}
	return widths
}

// visible counts the runes of s that take space: escape sequences do not.
func visible(s string) int {
	n := 0
	for s != "" {
		if l := escapeLen(s); l > 0 {
			s = s[l:]
			continue
		}
		_, size := utf8.DecodeRuneInString(s)
		s, n = s[size:], n+1
	}
	return n
}

// escapeLen returns the length of the CSI sequence that s starts with, 0 if none.
func escapeLen(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s); i++ {
		if s[i] >= 0x40 && s[i] <= 0x7e {
			return i + 1
		}
	}
	return 0
}

// Clip shortens s to width columns; what was cut is marked by "..." where there
// is space for it. Escape sequences take no space and are all kept.
func Clip(s string, width int) string {
	if visible(s) <= width {
		return s
	}
	mark := "..."
	if width < 2*len(mark) {
		mark = ""
	}
	keep := max(width-len(mark), 0)
	var b strings.Builder
	for n := 0; s != ""; {
		if l := escapeLen(s); l > 0 {
			b.WriteString(s[:l])
			s = s[l:]
			continue
		}
		_, size := utf8.DecodeRuneInString(s)
		if n < keep {
			b.WriteString(s[:size])
		} else if n == keep {
			b.WriteString(mark)
		}
		s, n = s[size:], n+1
	}
	return b.String()
}
