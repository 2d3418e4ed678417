package wire

import (
	"fmt"
	"strconv"

	"github.com/edgeagent/edgeagent"
)

// SenML is a pack of sensor measurements (RFC 8428): one array a batch.
type SenML struct {
	name, contentType string
	pack              pack
	names             map[edgeagent.Series]string // as SenML allows them
	readings          []edgeagent.Reading
	rollups           []edgeagent.Rollup
	events            []edgeagent.Event
	rec               record // of which one at a time is written
}

var _ Format = (*SenML)(nil)

// NewSenMLJSON returns an encoder of application/senml+json.
func NewSenMLJSON() *SenML {
	return &SenML{name: "senml-json", contentType: "application/senml+json", pack: &jsonPack{}}
}

// NewSenMLCBOR returns an encoder of application/senml+cbor.
func NewSenMLCBOR() *SenML {
	return &SenML{name: "senml-cbor", contentType: "application/senml+cbor", pack: &cborPack{}}
}

// Name returns "senml-json" or "senml-cbor".
func (s *SenML) Name() string { return s.name }

// ContentType returns the media type.
func (s *SenML) ContentType() string { return s.contentType }

// pack is how one representation of SenML is written.
type pack interface {
	open(dst []byte, records int) []byte
	record(dst []byte, r *record) []byte
	close(dst []byte) []byte
}

// record is one SenML record. Empty fields are left out.
type record struct {
	first    bool
	baseName string
	baseTime int64 // seconds
	name     string
	unit     string
	after    int64 // ns after baseTime
	hasValue bool
	value    float64
	text     *string
	quality  string
	tags     edgeagent.Pairs
	bucket   int64            // seconds, of a rollup
	event    *edgeagent.Event // what SenML has no words for
}

// absolute: RFC 8428 section 4.5.3 takes a time below 2^28 s as relative to now.
// Such times come from clocks that were never set; they are left out, which means
// "about now".
const absolute = 1 << 28 * int64(1e9)

// Encode implements [Format]. Each batch becomes a whole array, so batches cannot
// share a payload.
func (s *SenML) Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	switch b.Stream {
	case edgeagent.StreamTelemetry:
		return s.encodeReadings(dst, b, device)
	case edgeagent.StreamRollup:
		return s.encodeRollups(dst, b, device)
	case edgeagent.StreamAlarm, edgeagent.StreamEvent:
		return s.encodeEvents(dst, b, device)
	}
	return dst, fmt.Errorf("encode: unknown stream %d", b.Stream)
}

func (s *SenML) encodeReadings(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	var err error
	if s.readings, err = b.Readings(s.readings[:0]); err != nil {
		return dst, fmt.Errorf("decode readings: %w", err)
	}
	if len(s.readings) != b.Count {
		return dst, fmt.Errorf("batch of %d readings holds %d", b.Count, len(s.readings))
	}
	base := int64(0)
	for i := range s.readings {
		if base = baseTime(s.readings[i].At.Wall); base != 0 {
			break
		}
	}
	dst = s.pack.open(dst, len(s.readings))
	for i := range s.readings {
		r := &s.readings[i]
		key := r.Series.Key()
		x := s.begin(i, device, base, r.At.Wall)
		x.name, x.unit, x.tags = s.seriesName(r.Series), key.Unit, key.Tags
		x.value, x.hasValue = r.Value, finite(r.Value)
		x.quality = quality(r.Quality, b.Unsynced)
		if !x.hasValue && x.quality == "" { // a record says something
			x.quality = edgeagent.Bad.String()
		}
		dst = s.pack.record(dst, x)
	}
	return s.pack.close(dst), nil
}

func (s *SenML) encodeRollups(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	var err error
	if s.rollups, err = b.Rollups(s.rollups[:0]); err != nil {
		return dst, fmt.Errorf("decode rollups: %w", err)
	}
	if len(s.rollups) != b.Count {
		return dst, fmt.Errorf("batch of %d rollups holds %d", b.Count, len(s.rollups))
	}
	base := int64(0)
	for i := range s.rollups {
		if base = baseTime(s.rollups[i].At.Wall); base != 0 {
			break
		}
	}
	dst = s.pack.open(dst, len(s.rollups)*len(summarized))
	for i := range s.rollups {
		r := &s.rollups[i]
		key := r.Series.Key()
		name := s.seriesName(r.Series)
		for j, v := range values(r) {
			x := s.begin(i+j, device, base, r.At.Wall)
			x.name, x.unit, x.tags = name+"_"+summarized[j], key.Unit, key.Tags
			if j == 0 { // a count has no unit
				x.unit = ""
			}
			x.value, x.hasValue, x.bucket = v, finite(v), int64(r.Bucket/1e9)
			x.quality = quality(edgeagent.Good, b.Unsynced)
			dst = s.pack.record(dst, x)
		}
	}
	return s.pack.close(dst), nil
}

func (s *SenML) encodeEvents(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	var err error
	if s.events, err = b.Events(s.events[:0]); err != nil {
		return dst, fmt.Errorf("decode events: %w", err)
	}
	if len(s.events) != b.Count {
		return dst, fmt.Errorf("batch of %d events holds %d", b.Count, len(s.events))
	}
	base := int64(0)
	for i := range s.events {
		if base = baseTime(s.events[i].At.Wall); base != 0 {
			break
		}
	}
	dst = s.pack.open(dst, len(s.events))
	for i := range s.events {
		e := &s.events[i]
		x := s.begin(i, device, base, e.At.Wall)
		if x.name = allowed(e.Series); e.Series == "" {
			x.name = allowed("event/" + e.Kind)
		}
		x.text, x.event = &e.Text, e
		dst = s.pack.record(dst, x)
	}
	return s.pack.close(dst), nil
}

// begin returns record i with its names and times.
func (s *SenML) begin(i int, device string, base, wall int64) *record {
	x := &s.rec
	*x = record{first: i == 0, baseTime: base, after: wall - base*1e9}
	if i == 0 {
		x.baseName = allowed(device) + "/"
	}
	if wall < absolute {
		x.after = -base * 1e9
	}
	return x
}

// baseTime returns the whole second of a wall time, 0 if it cannot be a base.
func baseTime(wall int64) int64 {
	if wall < absolute {
		return 0
	}
	return wall / 1e9
}

func quality(q edgeagent.Quality, notSynced bool) string {
	switch {
	case q == edgeagent.Good && notSynced:
		return unsynced
	case q == edgeagent.Good:
		return ""
	}
	return q.String()
}

func (s *SenML) seriesName(series edgeagent.Series) string {
	if name, ok := s.names[series]; ok {
		return name
	}
	if s.names == nil || len(s.names) >= maxFixed {
		s.names = map[edgeagent.Series]string{}
	}
	name := allowed(series.Key().Name())
	s.names[series] = name
	return name
}

// allowed returns name with only the characters that a SenML name may have (RFC
// 8428 section 4.5.1): others become "_", and one that does not begin with a
// letter or a digit gets an "x" in front.
func allowed(name string) string {
	a := []byte(name)
	for i, c := range a {
		if !alphanumeric(c) && c != '-' && c != ':' && c != '.' && c != '/' && c != '_' {
			a[i] = '_'
		}
	}
	if len(a) == 0 || !alphanumeric(a[0]) {
		a = append([]byte{'x'}, a...)
	}
	return string(a)
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// jsonPack writes application/senml+json.
type jsonPack struct{ style jsonStyle }

func (*jsonPack) open(dst []byte, _ int) []byte { return append(dst, '[') }

func (*jsonPack) close(dst []byte) []byte { return append(dst, ']', '\n') }

func (p *jsonPack) record(dst []byte, r *record) []byte {
	if !r.first {
		dst = append(dst, ',')
	}
	dst = append(dst, '{')
	if r.first {
		dst = append(dst, `"bn":`...)
		dst = appendString(dst, r.baseName)
		if r.baseTime != 0 {
			dst = append(dst, `,"bt":`...)
			dst = strconv.AppendInt(dst, r.baseTime, 10)
		}
		dst = append(dst, ',')
	}
	dst = append(dst, `"n":`...)
	dst = appendString(dst, r.name)
	if r.unit != "" {
		dst = appendField(dst, "u", r.unit)
	}
	if r.after != 0 {
		dst = append(dst, `,"t":`...)
		dst = appendSeconds(dst, r.after)
	}
	if r.hasValue {
		dst = append(dst, `,"v":`...)
		dst = appendFloat(dst, r.value)
	}
	if r.text != nil {
		dst = appendField(dst, "vs", *r.text)
	}
	return append(p.extensions(dst, r), '}')
}

// extensions are fields that SenML leaves to others: readers skip those that they
// do not know.
func (p *jsonPack) extensions(dst []byte, r *record) []byte {
	if r.quality != "" {
		dst = appendField(dst, "quality", r.quality)
	}
	if r.bucket != 0 {
		dst = append(dst, `,"bucket_s":`...)
		dst = strconv.AppendInt(dst, r.bucket, 10)
	}
	if r.tags.Len() > 0 {
		dst = append(dst, `,"tags":`...)
		sep := byte('{')
		for k, v := range r.tags.All {
			dst = append(dst, sep)
			dst = appendString(dst, k)
			dst = append(dst, ':')
			dst = appendString(dst, v)
			sep = ','
		}
		dst = append(dst, '}')
	}
	if e := r.event; e != nil {
		dst = appendField(dst, "kind", e.Kind)
		dst = appendField(dst, "sev", e.Severity.String())
		dst = appendField(dst, "id", e.ID)
		dst = append(dst, `,"transition":`...)
		dst = strconv.AppendUint(dst, uint64(e.N), 10)
		dst = append(dst, `,"attrs":{`...)
		dst = append(p.style.appendAttrs(dst, e.Attrs), '}')
	}
	return dst
}

// appendSeconds appends ns as a decimal number of seconds, exactly.
func appendSeconds(dst []byte, ns int64) []byte {
	if ns < 0 {
		dst = append(dst, '-')
		ns = -ns
	}
	dst = strconv.AppendInt(dst, ns/1e9, 10)
	rest := ns % 1e9
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for digit := int64(1e8); rest > 0; digit /= 10 {
		dst = append(dst, byte('0'+rest/digit))
		rest %= digit
	}
	return dst
}
