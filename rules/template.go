package rules

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// template is a text with {{.name}} in it. It is not text/template, which would
// cost the program the linker's removal of unused methods.
type template []templatePart

// templatePart is a literal, or the name of a field.
type templatePart struct{ literal, field string }

// templateError is a mistake in a template.
type templateError struct {
	offset int
	text   string
}

func (e *templateError) Error() string { return e.text }

// Offset returns where the mistake begins, in bytes from the start of the text.
func (e *templateError) Offset() int { return e.offset }

// parseTemplate splits a text and checks that every field is known.
func parseTemplate(s string, known func(field string) bool) (template, error) {
	if len(s) > edgeagent.MaxEventText {
		return nil, fmt.Errorf("text of %d bytes is over %d", len(s), edgeagent.MaxEventText)
	}
	var t template
	for pos := 0; ; {
		literal, rest, found := strings.Cut(s[pos:], "{{")
		if literal != "" {
			t = append(t, templatePart{literal: literal})
		}
		if !found {
			return t, nil
		}
		open := pos + len(literal)
		inner, _, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, &templateError{open, "{{ is not closed with }}"}
		}
		field, dot := strings.CutPrefix(strings.TrimSpace(inner), ".")
		switch {
		case !dot:
			return nil, &templateError{open, fmt.Sprintf("{{%s}} is not a field, want {{.name}}", inner)}
		case !known(field):
			return nil, &templateError{open, fmt.Sprintf("unknown field {{.%s}}, want an input, .rule, .instance or .series", field)}
		}
		t = append(t, templatePart{field: field})
		pos = open + len("{{") + len(inner) + len("}}")
	}
}

// fill puts values in place of the fields and cuts the text at
// [edgeagent.MaxEventText] bytes.
func (t template) fill(value func(field string) string) string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.literal)
		if p.field != "" {
			b.WriteString(value(p.field))
		}
	}
	return shorten(b.String(), edgeagent.MaxEventText)
}

// shorten cuts s to at most limit bytes, between runes, and marks the cut.
func shorten(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// forPeople writes a value with six significant digits, integers in full.
func forPeople(v float64) string {
	switch {
	case math.IsNaN(v):
		return "unknown"
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if abs := math.Abs(v); err != nil || abs >= 1e15 || abs < 1e-5 {
		return strconv.FormatFloat(v, 'g', 6, 64)
	}
	return strconv.FormatFloat(short, 'f', -1, 64)
}

// exact writes a value so that it can be read back.
func exact(v float64) string {
	if math.IsNaN(v) {
		return "unknown"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
