package wire

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// Line is InfluxDB line protocol; see the package documentation for the exact form.
type Line struct{ text }

var _ Partial = (*Line)(nil)

// NewLine returns an encoder of line protocol.
func NewLine() *Line { return &Line{text{style: &lineStyle{}}} }

// Name returns "line".
func (*Line) Name() string { return "line" }

// ContentType returns the media type.
func (*Line) ContentType() string { return "text/plain; charset=utf-8" }

// Encode implements [Format].
func (l *Line) Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	dst, _, err := l.encode(dst, b, device, math.MaxInt)
	return dst, err
}

// EncodeUpTo implements [Partial].
func (l *Line) EncodeUpTo(dst []byte, b edgeagent.Batch, device string, size int) ([]byte, int, error) {
	return l.encode(dst, b, device, size)
}

type lineStyle struct{ nanos nanos }

// fixed is "measurement,tags ", "field=" and the fields of a rollup.
func (*lineStyle) fixed(device string, key edgeagent.SeriesKey) fixed {
	head := appendMeasurement(nil, key.Sensor)
	head = appendTag(head, "device", device)
	for k, v := range key.Tags.All {
		head = appendTag(head, unreserved(k, "sensor_"+k, "device", "time"), v)
	}
	tail := appendName(nil, unreserved(key.Metric, key.Metric+"_value", "quality", "time"))
	f := fixed{head: append(head, ' '), tail: append(tail, '=')}
	for i, name := range summarized {
		f.summary[i] = append(appendName(nil, key.Metric+"_"+name), '=')
	}
	return f
}

// identity is nothing: it has no place in line protocol.
func (*lineStyle) identity(dst []byte, _ edgeagent.BatchHeader) []byte { return dst }

func (l *lineStyle) reading(dst []byte, f *fixed, r *edgeagent.Reading, quality string, _ []byte, _ edgeagent.Seq) []byte {
	dst = append(dst, f.head...)
	valued := finite(r.Value)
	if valued {
		dst = append(dst, f.tail...)
		dst = appendFloat(dst, r.Value)
	} else if r.Quality == edgeagent.Good { // a line needs a field, and this one is true
		quality = edgeagent.Bad.String()
	}
	if quality != edgeagent.Good.String() {
		if valued {
			dst = append(dst, ',')
		}
		dst = append(dst, `quality="`...)
		dst = append(dst, quality...)
		dst = append(dst, '"')
	}
	dst = append(dst, ' ')
	dst = l.nanos.append(dst, r.At.Wall)
	return append(dst, '\n')
}

func (l *lineStyle) rollup(dst []byte, f *fixed, r *edgeagent.Rollup, quality string, _ []byte, _ edgeagent.Seq) []byte {
	dst = append(dst, f.head...)
	dst = append(dst, f.summary[0]...)
	dst = strconv.AppendUint(dst, r.Count, 10)
	dst = append(dst, 'i')
	v := values(r)
	for i := 1; i < len(v); i++ {
		if finite(v[i]) {
			dst = append(dst, ',')
			dst = append(dst, f.summary[i]...)
			dst = appendFloat(dst, v[i])
		}
	}
	if quality != edgeagent.Good.String() {
		dst = append(dst, `,quality="`...)
		dst = append(dst, quality...)
		dst = append(dst, '"')
	}
	dst = append(dst, ' ')
	dst = l.nanos.append(dst, r.At.Wall)
	return append(dst, '\n')
}

func (l *lineStyle) event(dst []byte, device string, e *edgeagent.Event, _ []byte, _ edgeagent.Seq) []byte {
	dst = append(dst, "edge_event"...)
	dst = appendTag(dst, "device", device)
	dst = appendTag(dst, "kind", e.Kind)
	dst = appendTag(dst, "sev", e.Severity.String())
	dst = append(dst, ` id="`...)
	dst = appendText(dst, e.ID)
	dst = append(dst, `",n=`...)
	dst = strconv.AppendUint(dst, uint64(e.N), 10)
	dst = append(dst, `i,text="`...)
	dst = appendText(dst, e.Text)
	dst = append(dst, `" `...)
	dst = l.nanos.append(dst, e.At.Wall)
	return append(dst, '\n')
}

// unreserved returns name, or other when name is one of those that the format
// keeps for itself.
func unreserved(name, other string, reserved ...string) string {
	if slices.Contains(reserved, name) {
		return other
	}
	return name
}

func appendMeasurement(dst []byte, name string) []byte {
	if name == "" {
		name = "sensor"
	}
	if name[0] == '#' { // would be a comment
		name = "_" + name[1:]
	}
	return appendEscaped(dst, name, ", ")
}

func appendTag(dst []byte, key, value string) []byte {
	if key == "" || value == "" { // not allowed
		return dst
	}
	dst = append(dst, ',')
	dst = appendName(dst, key)
	dst = append(dst, '=')
	return appendName(dst, value)
}

// appendName appends a tag key, tag value or field key.
func appendName(dst []byte, s string) []byte {
	if s == "" {
		s = "value"
	}
	return appendEscaped(dst, s, ",= ")
}

// appendEscaped puts a backslash before each delimiter. Readers do not agree on
// what two backslashes before a delimiter mean, so there are never two.
func appendEscaped(dst []byte, s, delimiters string) []byte {
	for i := range len(s) {
		c := plain(s[i])
		switch {
		case strings.IndexByte(delimiters, c) >= 0:
			dst = append(dst, '\\', c)
		case c == '\\' && beforeDelimiter(s, i):
			dst = append(dst, '/')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// beforeDelimiter reports whether the byte after i will be a delimiter, a backslash
// or the end of the name, which a delimiter follows.
func beforeDelimiter(s string, i int) bool {
	return i+1 == len(s) || strings.IndexByte(`\,= `, plain(s[i+1])) >= 0
}

// plain replaces control characters, which no name may hold, by a space.
func plain(c byte) byte {
	if c < ' ' || c == 0x7f {
		return ' '
	}
	return c
}

// appendText appends the inside of a quoted string.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\\n`...) // read back as the two characters \n
		case '\r':
		default:
			dst = append(dst, plain(c))
		}
	}
	return dst
}
