package payload

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Point is one line of line protocol.
type Point struct {
	Measurement string
	Tags        map[string]string
	Fields      []Field
	// Time as it is written; in which unit is up to the sender. Without one HasTime
	// is false.
	Time    int64
	HasTime bool
}

// Field is one field of a point.
type Field struct {
	Key   string
	Value Value
}

// maxFields bounds the tags and the fields of a line.
const maxFields = 256

var errLine = errors.New(`not line protocol, want "measurement,tag=value field=1.5 time"`)

// Line reads one line of line protocol, without its line end: measurement, tags, fields
// (floats, 12i, 12u, t, true, "text"), time. A comment or an empty line is an error.
func Line(line string) (Point, error) {
	var p Point
	head, rest, ok := cutSpace(line)
	if !ok || head == "" || head[0] == '#' {
		return p, errLine
	}
	parts := split(head, ',')
	p.Measurement = unescape(parts[0])
	if p.Measurement == "" || len(parts) > maxFields {
		return p, errLine
	}
	for _, tag := range parts[1:] {
		k, v, ok := cut(tag, '=')
		if !ok || k == "" || v == "" {
			return p, fmt.Errorf("bad tag %q: %w", tag, errLine)
		}
		if p.Tags == nil {
			p.Tags = map[string]string{}
		}
		p.Tags[unescape(k)] = unescape(v)
	}
	fields, when, hasTime := cutSpace(rest)
	list := split(fields, ',')
	if len(list) > maxFields {
		return p, fmt.Errorf("more than %d fields", maxFields)
	}
	for _, f := range list {
		k, v, ok := cut(f, '=')
		if !ok || k == "" {
			return p, fmt.Errorf("bad field %q: %w", f, errLine)
		}
		value, err := fieldValue(v)
		if err != nil {
			return p, fmt.Errorf("field %s: %w", unescape(k), err)
		}
		p.Fields = append(p.Fields, Field{unescape(k), value})
	}
	when = strings.Trim(when, " ")
	if !hasTime || when == "" {
		return p, nil
	}
	t, err := strconv.ParseInt(when, 10, 64)
	if err != nil {
		return p, fmt.Errorf("bad time %q: %w", when, errLine)
	}
	p.Time, p.HasTime = t, true
	return p, nil
}

// cutSpace cuts at the first space that is neither escaped nor within quotes.
func cutSpace(s string) (before, after string, found bool) {
	i := index(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimLeft(s[i:], " "), true
}

func cut(s string, at byte) (before, after string, found bool) {
	i := index(s, at)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func split(s string, at byte) []string {
	var out []string
	for len(out) <= maxFields {
		before, after, found := cut(s, at)
		out = append(out, before)
		if !found {
			break
		}
		s = after
	}
	return out
}

// index finds at where it is neither escaped nor within the quotes of a field, which
// begin behind "=".
func index(s string, at byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '"' && (quoted || i > 0 && s[i-1] == '='):
			quoted = !quoted
		case s[i] == at && !quoted:
			return i
		}
	}
	return -1
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`,= "\`, s[i+1]) >= 0 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

var errValue = errors.New(`not a value, want 1.5, 12i, 12u, true, false or "text"`)

func fieldValue(s string) (Value, error) {
	switch s {
	case "t", "T", "true", "True", "TRUE":
		return number(1), nil
	case "f", "F", "false", "False", "FALSE":
		return number(0), nil
	case "":
		return Value{}, errValue
	}
	if s[0] == '"' {
		if len(s) < 2 || s[len(s)-1] != '"' {
			return Value{}, errValue
		}
		return Value{Text: unescape(s[1 : len(s)-1]), IsText: true}, nil
	}
	last := s[len(s)-1]
	if last == 'i' || last == 'u' {
		if last == 'i' {
			v, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
			return number(float64(v)), orValue(err)
		}
		v, err := strconv.ParseUint(s[:len(s)-1], 10, 64)
		return number(float64(v)), orValue(err)
	}
	return Number(s)
}

// Number reads a decimal number as people and programs write it: no hexadecimal, no
// underscores, no NaN, nothing infinite.
func Number(s string) (Value, error) {
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return Value{}, errValue
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return Value{}, errValue
	}
	return number(v), nil
}

func orValue(err error) error {
	if err != nil {
		return errValue
	}
	return nil
}
