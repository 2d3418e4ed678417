package wire

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/edgeagent/edgeagent"
)

// JSON is one JSON object a line; see the package documentation for the fields.
type JSON struct{ text }

var _ Partial = (*JSON)(nil)

// NewJSON returns an encoder of JSON lines.
func NewJSON() *JSON { return &JSON{text{style: &jsonStyle{}}} }

// Name returns "json".
func (*JSON) Name() string { return "json" }

// ContentType returns the media type.
func (*JSON) ContentType() string { return "application/x-ndjson" }

// Encode implements [Format].
func (j *JSON) Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	dst, _, err := j.encode(dst, b, device, math.MaxInt)
	return dst, err
}

// EncodeUpTo implements [Partial].
func (j *JSON) EncodeUpTo(dst []byte, b edgeagent.Batch, device string, size int) ([]byte, int, error) {
	return j.encode(dst, b, device, size)
}

type jsonStyle struct {
	stamp stamp
	keys  []string // scratch
}

// fixed is `,"device":…,"sensor":…,"metric":…,"unit":…` and `[,"tags":{…}]`.
func (*jsonStyle) fixed(device string, key edgeagent.SeriesKey) fixed {
	head := appendField(nil, "device", device)
	head = appendField(head, "sensor", key.Sensor)
	head = appendField(head, "metric", key.Metric)
	head = appendField(head, "unit", key.Unit)
	if key.Tags.Len() == 0 {
		return fixed{head: head}
	}
	tail, open := []byte(`,"tags":`), byte('{')
	for k, v := range key.Tags.All {
		tail = append(tail, open)
		tail = appendString(tail, k)
		tail = append(tail, ':')
		tail = appendString(tail, v)
		open = ','
	}
	return fixed{head: head, tail: append(tail, '}')}
}

// identity is `,"epoch":…,"run":…,"stream":…,"seq":`.
func (*jsonStyle) identity(dst []byte, b edgeagent.BatchHeader) []byte {
	dst = append(dst, `,"epoch":"`...)
	dst = appendHex(dst, uint64(b.Epoch), 16)
	dst = append(dst, `","run":"`...)
	dst = appendHex(dst, uint64(b.Run), 8)
	dst = append(dst, `","stream":"`...)
	dst = append(dst, b.Stream.String()...)
	return append(dst, `","seq":`...)
}

func (j *jsonStyle) reading(dst []byte, f *fixed, r *edgeagent.Reading, quality string, identity []byte, seq edgeagent.Seq) []byte {
	dst = append(dst, `{"t":"`...)
	dst = j.stamp.append(dst, r.At.Wall)
	dst = append(dst, '"')
	dst = append(dst, f.head...)
	dst = appendNumber(dst, "value", r.Value)
	return appendEnd(dst, f, quality, identity, seq)
}

func (j *jsonStyle) rollup(dst []byte, f *fixed, r *edgeagent.Rollup, quality string, identity []byte, seq edgeagent.Seq) []byte {
	dst = append(dst, `{"t":"`...)
	dst = j.stamp.append(dst, r.At.Wall)
	dst = append(dst, '"')
	dst = append(dst, f.head...)
	for i, v := range values(r) {
		dst = appendNumber(dst, summarized[i], v)
	}
	dst = append(dst, `,"bucket_s":`...)
	dst = strconv.AppendInt(dst, int64(r.Bucket/time.Second), 10)
	return appendEnd(dst, f, quality, identity, seq)
}

// appendEnd appends what stands behind the values.
func appendEnd(dst []byte, f *fixed, quality string, identity []byte, seq edgeagent.Seq) []byte {
	dst = append(dst, `,"q":"`...)
	dst = append(dst, quality...)
	dst = append(dst, '"')
	dst = append(dst, f.tail...)
	return appendSeq(dst, identity, seq)
}

// appendNumber appends a field, null if v has no decimal form.
func appendNumber(dst []byte, name string, v float64) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	if !finite(v) {
		return append(dst, "null"...)
	}
	return appendFloat(dst, v)
}

func (j *jsonStyle) event(dst []byte, device string, e *edgeagent.Event, identity []byte, seq edgeagent.Seq) []byte {
	dst = append(dst, `{"t":"`...)
	dst = j.stamp.append(dst, e.At.Wall)
	dst = append(dst, '"')
	dst = appendField(dst, "device", device)
	dst = appendField(dst, "kind", e.Kind)
	dst = appendField(dst, "sev", e.Severity.String())
	dst = appendField(dst, "id", e.ID)
	dst = append(dst, `,"n":`...)
	dst = strconv.AppendUint(dst, uint64(e.N), 10)
	dst = appendField(dst, "series", e.Series)
	dst = appendField(dst, "text", e.Text)
	dst = append(dst, `,"attrs":{`...)
	dst = j.appendAttrs(dst, e.Attrs)
	dst = append(dst, '}')
	if len(e.Data) > 0 {
		dst = append(dst, `,"data":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, e.Data)
		dst = append(dst, '"')
	}
	return appendSeq(dst, identity, seq)
}

func (j *jsonStyle) appendAttrs(dst []byte, attrs map[string]string) []byte {
	j.keys = j.keys[:0]
	for k := range attrs {
		j.keys = append(j.keys, k)
	}
	slices.Sort(j.keys)
	for i, k := range j.keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, k)
		dst = append(dst, ':')
		dst = appendString(dst, attrs[k])
	}
	return dst
}

// appendSeq ends an object with what makes its record this one.
func appendSeq(dst, identity []byte, seq edgeagent.Seq) []byte {
	dst = append(dst, identity...)
	dst = strconv.AppendUint(dst, uint64(seq), 10)
	return append(dst, '}', '\n')
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return appendString(dst, value)
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			dst = appendASCII(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, `\ufffd`...)
		} else {
			dst = append(dst, s[i:i+size]...)
		}
		i += size
	}
	return append(dst, '"')
}

func appendASCII(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, '\\', 'n')
	case c == '\t':
		return append(dst, '\\', 't')
	case c < ' ' || c == 0x7f:
		dst = append(dst, `\u00`...)
		return appendHex(dst, uint64(c), 2)
	}
	return append(dst, c)
}
