package configs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// invalid places the errors of a validation in the file. It leaves out what
// follows from a mistake that is reported already.
func (d *decoder) invalid(root *node, err error) {
	for _, f := range flatten(err, "", "") {
		if d.reported(f.path) {
			continue
		}
		n, found := locate(root, f.path)
		if d.isMisspelt(found, f.path) {
			continue
		}
		at := n.pos
		var offset interface{ Offset() int }
		if found == f.path && n.kind == scalarNode && errors.As(f.err, &offset) {
			at = d.src.within(n, offset.Offset())
		}
		message := f.err.Error()
		if twice, ok := errors.AsType[*duplicate](f.err); ok {
			first, _ := locate(root, twice.first)
			message += fmt.Sprintf(" on line %d", first.pos.line)
		}
		d.report(at, f.err, inPath(f.path, message), f.hint)
	}
}

// reported tells whether the value at path, or one that holds it, could not be
// read.
func (d *decoder) reported(path string) bool {
	if d.failed[path] || d.failed[""] {
		return true
	}
	for i := range path {
		if (path[i] == '.' || path[i] == '[') && d.failed[path[:i]] {
			return true
		}
	}
	return false
}

// isMisspelt tells whether an error about path may come from a key under a wrong
// name: found is the part of path that exists.
func (d *decoder) isMisspelt(found, path string) bool {
	missing := strings.TrimPrefix(path[len(found):], ".")
	if missing == "" { // an error about the mapping itself: a key too many or too few
		return len(d.misspelt[found]) > 0
	}
	if i := strings.IndexAny(missing, ".["); i > 0 {
		missing = missing[:i]
	}
	return slices.ContainsFunc(d.misspelt[found], func(s string) bool { return s == "" || s == missing })
}

// duplicate is a name that is used a second time; first is the path of the first.
type duplicate struct{ name, first string }

func (e *duplicate) Error() string {
	return fmt.Sprintf("%s is already used by %s", quote(e.name), e.first)
}

// fieldError is one error about one key.
type fieldError struct {
	path, hint string
	err        error
}

// flatten takes joined and nested field errors apart. A hint that wraps several
// errors is the hint of each that has none of its own.
func flatten(err error, path, hint string) []fieldError {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []fieldError
		for _, e := range joined.Unwrap() {
			out = append(out, flatten(e, path, hint)...)
		}
		return out
	}
	if f, ok := err.(*edgeagent.FieldError); ok { //nolint:errorlint // one layer at a time
		return flatten(f.Err, joinPath(path, f.Path), hint)
	}
	if h, ok := err.(edgeagent.Hinter); ok { //nolint:errorlint // one layer at a time
		if inner := errors.Unwrap(err); inner != nil && h.Error() == inner.Error() {
			return flatten(inner, path, h.Hint())
		}
	}
	if own := hintOf(err); own != "" {
		hint = own
	}
	return []fieldError{{path, hint, err}}
}

func joinPath(a, b string) string {
	if a == "" || b == "" || b[0] == '[' {
		return a + b
	}
	return a + "." + b
}

// locate walks a path such as "links[0].url" and returns the value there, or the
// nearest value that holds it, and the part of the path that exists.
func locate(root *node, path string) (n *node, found string) {
	n = root
	for found != path {
		rest := strings.TrimPrefix(path[len(found):], ".")
		skipped := len(path) - len(found) - len(rest)
		child, used := step(n, rest)
		if child == nil {
			break
		}
		n, found = child, path[:len(found)+skipped+used]
	}
	return n, found
}

// step takes the first element of a path. Keys may hold dots and brackets
// themselves: the longest key that fits wins.
func step(n *node, path string) (child *node, used int) {
	if n.kind == sequenceNode {
		number, _, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		i, err := strconv.Atoi(number)
		if !ok || err != nil || path[0] != '[' || i < 0 || i >= len(n.items) {
			return nil, 0
		}
		return n.items[i], len(number) + 2
	}
	for _, e := range n.entries {
		rest, ok := strings.CutPrefix(path, e.key)
		if ok && (rest == "" || rest[0] == '.' || rest[0] == '[') && (child == nil || len(e.key) > used) {
			child, used = e.value, len(e.key)
		}
	}
	return child, used
}

// within returns the place of the byte at offset of a scalar's value, or the start
// of the scalar where its bytes have no place of their own.
func (s *source) within(n *node, offset int) pos {
	if offset < 0 || offset > len(n.text) {
		return n.pos
	}
	line := []rune(s.line(n.pos.line))
	if n.pos.col < 1 || n.pos.col > len(line) {
		return n.pos
	}
	raw := line[n.pos.col-1:]
	switch n.style {
	case plain:
		if strings.HasPrefix(string(raw), n.text[:offset]) {
			return pos{n.pos.line, n.pos.col + utf8.RuneCountInString(n.text[:offset])}
		}
	case singleQuoted, doubleQuoted:
		if i, ok := behindQuote(raw, n.text[:offset], n.style == doubleQuoted); ok {
			return pos{n.pos.line, n.pos.col + i}
		}
	case literal:
		return s.withinLiteral(n, offset)
	case elsewhere:
	}
	return n.pos
}

// behindQuote counts the characters that write value at the start of a quoted
// scalar, its first quote included. ok is false when the scalar is broken over
// lines before value ends, or is written in a way this does not know.
func behindQuote(raw []rune, value string, escapes bool) (count int, ok bool) {
	i := 1
	for _, want := range value {
		if i >= len(raw) {
			return 0, false
		}
		switch {
		case escapes && raw[i] == '\\':
			n, r := escape(raw[i:])
			if r != want {
				return 0, false
			}
			i += n
		case !escapes && raw[i] == '\'':
			i += 2
		case raw[i] != want:
			return 0, false
		default:
			i++
		}
	}
	return i, true
}

// escape reads one escape sequence of a double-quoted scalar: how many characters
// it has and what it stands for, 0 if this does not know it.
func escape(raw []rune) (length int, r rune) {
	if len(raw) < 2 {
		return 0, 0
	}
	if i := strings.IndexRune(`"\/0abtnvfre`, raw[1]); i >= 0 {
		return 2, rune("\"\\/\x00\a\b\t\n\v\f\r\x1b"[i])
	}
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[raw[1]]
	if digits == 0 || len(raw) < 2+digits {
		return 0, 0
	}
	v, err := strconv.ParseUint(string(raw[2:2+digits]), 16, 32)
	if err != nil {
		return 0, 0
	}
	return 2 + digits, rune(v)
}

// withinLiteral places a byte of a block scalar "|": its lines stand in the source
// as they are, behind an indentation.
func (s *source) withinLiteral(n *node, offset int) pos {
	before := n.text[:offset]
	number := n.pos.line + 1 + strings.Count(before, "\n")
	column := before[strings.LastIndexByte(before, '\n')+1:]
	whole, _, _ := strings.Cut(n.text[len(before)-len(column):], "\n")
	line := s.line(number)
	indent, ok := strings.CutSuffix(line, whole)
	if !ok || strings.Trim(indent, " ") != "" {
		return n.pos
	}
	return pos{number, len(indent) + utf8.RuneCountInString(column) + 1}
}
