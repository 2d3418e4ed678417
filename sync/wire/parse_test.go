package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// point is one line of line protocol.
type point struct {
	measurement string
	tags        map[string]string
	fields      map[string]any // float64, int64 or string
	ns          int64
}

// parseLines is a small reader of line protocol, strict where stock tools are: a
// delimiter is escaped by exactly the one backslash before it.
func parseLines(s string) ([]point, error) {
	var out []point
	for s != "" {
		line, rest, ok := strings.Cut(s, "\n")
		if !ok {
			return nil, fmt.Errorf("last line has no end: %q", s)
		}
		p, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		out, s = append(out, p), rest
	}
	return out, nil
}

func parseLine(s string) (point, error) {
	p := point{tags: map[string]string{}, fields: map[string]any{}}
	var stop byte
	p.measurement, stop, s = token(s, ", ")
	if p.measurement == "" || p.measurement[0] == '#' {
		return p, fmt.Errorf("bad measurement %q", p.measurement)
	}
	for stop == ',' {
		var k, v string
		k, _, s = token(s, "=")
		v, stop, s = token(s, ", ")
		if k == "" || v == "" {
			return p, fmt.Errorf("empty tag %q=%q", k, v)
		}
		if _, twice := p.tags[k]; twice {
			return p, fmt.Errorf("tag %q twice", k)
		}
		p.tags[k] = v
	}
	for stop = ','; stop == ','; {
		var k string
		var err error
		k, _, s = token(s, "=")
		if _, twice := p.fields[k]; twice || k == "" {
			return p, fmt.Errorf("field %q twice or empty", k)
		}
		if p.fields[k], s, err = field(s); err != nil {
			return p, err
		}
		if s == "" {
			return p, fmt.Errorf("no time")
		}
		stop, s = s[0], s[1:]
	}
	var err error
	p.ns, err = strconv.ParseInt(s, 10, 64)
	return p, err
}

// token reads up to an unescaped delimiter and resolves the escapes.
func token(s, delimiters string) (tok string, stop byte, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(",= ", s[i+1]) >= 0 {
			i++
			b.WriteByte(s[i])
			continue
		}
		if strings.IndexByte(delimiters, s[i]) >= 0 {
			return b.String(), s[i], s[i+1:]
		}
		b.WriteByte(s[i])
	}
	return b.String(), 0, ""
}

func field(s string) (any, string, error) {
	if s == "" || s[0] != '"' {
		end := strings.IndexAny(s, ", ")
		if end < 0 {
			return nil, "", fmt.Errorf("field %q has no end", s)
		}
		if n, ok := strings.CutSuffix(s[:end], "i"); ok {
			v, err := strconv.ParseInt(n, 10, 64)
			return v, s[end:], err
		}
		v, err := strconv.ParseFloat(s[:end], 64)
		return v, s[end:], err
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return nil, "", fmt.Errorf("string %q has no end", s)
}
