package term

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// hinter is an error that tells its reader what to do about it.
type hinter interface {
	error
	Hint() string
}

// PrintError writes err to w as "error: …" and, below it, "hint: …" where the
// error has a hint. Errors that were put together by errors.Join are printed one
// after the other, each with its own hint. It returns how many it printed; a nil
// error prints nothing.
func PrintError(w io.Writer, err error) int {
	errs := flatten(err)
	for _, e := range errs {
		fmt.Fprintf(w, "error: %s\n", indentRest(e.text))
		for _, h := range e.hints {
			fmt.Fprintf(w, "hint: %s\n", indentRest(h))
		}
	}
	return len(errs)
}

type printed struct {
	text  string
	hints []string
}

// flatten splits joined errors. It looks at each error itself, not down its chain
// as errors.As does: the any(…) says so. A hint that was given to a whole join is printed
// once, below its last part.
func flatten(err error) []printed {
	if err == nil {
		return nil
	}
	if h, ok := any(err).(hinter); ok && errors.Unwrap(err) != nil && h.Error() == errors.Unwrap(err).Error() {
		parts := flatten(errors.Unwrap(err))
		if len(parts) > 1 {
			last := &parts[len(parts)-1]
			last.hints = appendNew(last.hints, h.Hint())
			return parts
		}
	}
	if parts, ok := joined(err); ok {
		var out []printed
		for _, e := range parts {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []printed{{strings.TrimRight(err.Error(), "\n"), hintsOf(err)}}
}

// joined reports whether err is a plain join: its text is nothing but that of its
// parts, a line each.
func joined(err error) ([]error, bool) {
	j, ok := any(err).(interface{ Unwrap() []error })
	if !ok {
		return nil, false
	}
	var texts []string
	for _, e := range j.Unwrap() {
		texts = append(texts, e.Error())
	}
	return j.Unwrap(), len(texts) > 0 && err.Error() == strings.Join(texts, "\n")
}

// hintsOf returns the hint nearest to the reader on every branch of the tree:
// whoever wraps an error knows better what was being done.
func hintsOf(err error) []string {
	if h, ok := any(err).(hinter); ok && h.Hint() != "" {
		return []string{h.Hint()}
	}
	switch u := any(err).(type) {
	case interface{ Unwrap() error }:
		if inner := u.Unwrap(); inner != nil {
			return hintsOf(inner)
		}
	case interface{ Unwrap() []error }:
		var out []string
		for _, e := range u.Unwrap() {
			for _, h := range hintsOf(e) {
				out = appendNew(out, h)
			}
		}
		return out
	}
	return nil
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// indentRest sets the second and later lines of s off from the next error;
// snippets, which are indented already, stay as they are.
func indentRest(s string) string {
	lines := strings.Split(s, "\n")
	for i := 1; i < len(lines); i++ {
		if lines[i] != "" && lines[i][0] != ' ' {
			lines[i] = "  " + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
