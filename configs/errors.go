package configs

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	// Line and Col count from 1; Col counts characters, not bytes. Both are 0
	// when the problem is the file as a whole.
	Line, Col int
	Message   string // lower case, without place and hint
	Hint      string // what to do, or empty
	// Err is the cause when another package found the problem, else nil.
	Err error

	src *source // for the lines shown, nil when there is no place
}

// Error returns "file:line:col: message (hint)" on one line.
func (p *Problem) Error() string {
	s := p.place() + ": " + p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Unwrap returns the cause, if another package found the problem.
func (p *Problem) Unwrap() error { return p.Err }

func (p *Problem) place() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// render appends the long form: message, place, the line with a caret, hint.
func (p *Problem) render(b *strings.Builder) {
	fmt.Fprintf(b, "error: %s\n  %s\n", p.Message, p.place())
	if p.Line > 0 && p.src != nil {
		width := len(strconv.Itoa(p.Line))
		if p.Line > 1 {
			writeLine(b, fmt.Sprintf("   %*d | ", width, p.Line-1), p.src.line(p.Line-1), 0)
		}
		writeLine(b, fmt.Sprintf(" > %*d | ", width, p.Line), p.src.line(p.Line), p.Col)
	}
	if p.Hint != "" {
		fmt.Fprintf(b, "hint: %s\n", p.Hint)
	}
}

// maxShown is how many characters of a source line are shown.
const maxShown = 110

// writeLine prints one source line and, when col is not 0, a caret below it. A
// long line is shown around col. What a terminal would not print as one
// character is replaced, so that the caret stays true and no file can send
// control sequences to a terminal.
func writeLine(b *strings.Builder, margin, line string, col int) {
	text := []rune(line)
	for i, r := range text {
		switch {
		case r == '\t':
			text[i] = ' '
		case !unicode.IsPrint(r):
			text[i] = '\uFFFD'
		}
	}
	if len(text) > maxShown {
		from := max(0, min(col-maxShown/2, len(text)-maxShown))
		to := from + maxShown
		if to < len(text) {
			text[to-1] = '…'
		}
		if from > 0 {
			text[from] = '…'
		}
		text, col = text[from:to], max(col-from, min(col, 1))
	}
	b.WriteString(strings.TrimRight(margin+string(text), " ") + "\n")
	if col > 0 {
		b.WriteString(strings.Repeat(" ", len(margin)+min(col-1, len(text))) + "^\n")
	}
}

// Errors is everything wrong with a file and the files it names, in reading
// order, the first file first.
type Errors []*Problem

// Error returns one line per problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems, for [errors.Is] and [errors.As].
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, p := range e {
		errs[i] = p
	}
	return errs
}

// Render writes the form for people: each problem with the source line, a caret
// and a hint, and their number at the end.
func (e Errors) Render(w io.Writer) error {
	var b strings.Builder
	for i, p := range e {
		if i > 0 {
			b.WriteString("\n")
		}
		p.render(&b)
	}
	if len(e) == 1 {
		b.WriteString("1 error\n")
	} else {
		fmt.Fprintf(&b, "%d errors\n", len(e))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxProblems bounds what one file can say: beyond it a person reads no further.
const maxProblems = 100

// asError sorts problems of one file by place and returns them as an error, or
// nil when there are none.
func asError(problems []*Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b *Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	if more := len(problems) - maxProblems; more > 0 {
		last := &Problem{File: problems[0].File, Message: fmt.Sprintf("too many errors, %d more are not shown", more)}
		problems = append(problems[:maxProblems:maxProblems], last)
	}
	return Errors(problems)
}

// joinErrors appends the problems of err to those of a file read before it.
func joinErrors(first, err error) error {
	switch {
	case first == nil:
		return err
	case err == nil:
		return first
	}
	var a, b Errors
	if errors.As(first, &a) && errors.As(err, &b) {
		return slices.Concat(a, b)
	}
	return errors.Join(first, err)
}
