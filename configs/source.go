package configs

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a file, checked before the YAML parser sees it: parts of the parser
// take time that grows with the square of what is bounded here.
const (
	maxBytes     = 1 << 20
	maxBlankRun  = 100 // blank lines in a row
	maxTokens    = 30_000
	maxDepth     = 64
	maxNodes     = 100_000 // with every alias written out
	maxAliasSize = 10_000  // nodes behind one alias
)

// pos is a place in a source; lines and columns count from 1.
type pos struct{ line, col int }

// source is the text of a file as lines that match what an editor shows.
type source struct {
	name  string
	text  string // UTF-8, "\n" line ends, no byte order mark
	lines []string
}

// readSource checks that text is text. The problem it returns stands alone.
func readSource(name string, text []byte) (*source, *Problem) {
	s := &source{name: name}
	if len(text) > maxBytes {
		return nil, s.problem(pos{}, fmt.Sprintf("the file has %d bytes, more than 1 MiB", len(text)), "")
	}
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		return nil, s.problem(pos{}, "the file is in UTF-16", "save it as UTF-8")
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	s.text = strings.ReplaceAll(string(text), "\r\n", "\n")
	s.lines = strings.Split(s.text, "\n")
	blank := 0
	for i, line := range s.lines {
		if p := s.badCharacter(i+1, line); p != nil {
			return nil, p
		}
		blank++
		if strings.TrimSpace(line) != "" {
			blank = 0
		}
		if blank > maxBlankRun && i+1 < len(s.lines) {
			return nil, s.problem(pos{i + 1, 1}, fmt.Sprintf("more than %d blank lines in a row", maxBlankRun), "remove them")
		}
	}
	return s, nil
}

// badCharacter finds bytes that are not UTF-8 and control characters.
func (s *source) badCharacter(number int, line string) *Problem {
	col := 0
	for i, r := range line {
		col++
		at := pos{number, col}
		switch {
		case r == utf8.RuneError && !utf8.FullRuneInString(line[i:]), r == utf8.RuneError && line[i] != 0xef:
			return s.problem(at, fmt.Sprintf("byte 0x%02x is not UTF-8 text", line[i]), "save the file as UTF-8")
		case r < ' ' && r != '\t', r == 0x7f:
			return s.problem(at, fmt.Sprintf("control character %U", r), "remove it")
		}
	}
	return nil
}

// line returns a line by number, or nothing outside the file.
func (s *source) line(number int) string {
	if number < 1 || number > len(s.lines) {
		return ""
	}
	return s.lines[number-1]
}

// problem makes a problem at a place.
func (s *source) problem(at pos, message, hint string) *Problem {
	if at.line > len(s.lines) {
		at = pos{}
	}
	return &Problem{File: s.name, Line: at.line, Col: at.col, Message: oneLine(message), Hint: oneLine(hint), src: s}
}

// oneLine makes a message that may quote a file safe to print: one line, no control
// sequences.
func oneLine(message string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, message)
}

// mask hides a value, and what it continues on the lines below, from every snippet:
// somebody wrote a password where the name of one belongs.
func (s *source) mask(n *node) {
	if n.kind != scalarNode || n.pos.line < 1 || n.pos.line > len(s.lines) {
		return
	}
	first := []rune(s.lines[n.pos.line-1])
	from := min(max(n.pos.col-1, 0), len(first))
	to := len(first)
	switch i, ok := behindQuote(first[from:], n.text, n.style == doubleQuoted); {
	case n.style == plain && strings.HasPrefix(string(first[from:]), n.text):
		to = from + utf8.RuneCountInString(n.text)
	case n.quoted() && ok:
		to = min(from+i+1, len(first))
	default:
		s.maskBelow(n.pos.line, indentOf(s.lines[n.pos.line-1]))
	}
	s.lines[n.pos.line-1] = string(first[:from]) + strings.Repeat("*", to-from) + string(first[to:])
}

// maskBelow hides the lines after a line that are blank or indented further than
// indent.
func (s *source) maskBelow(number, indent int) {
	for i := number; i < len(s.lines); i++ {
		deep := indentOf(s.lines[i])
		if deep <= indent && strings.TrimSpace(s.lines[i]) != "" {
			return
		}
		s.lines[i] = s.lines[i][:deep] + strings.Repeat("*", utf8.RuneCountInString(s.lines[i][deep:]))
	}
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
