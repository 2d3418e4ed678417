package wire

import (
	"fmt"

	"github.com/edgeagent/edgeagent"
)

// Format writes batches as text. Implementations are not safe for concurrent use.
type Format interface {
	// Name is the format's name in the configuration.
	Name() string
	// ContentType is the media type of the payload.
	ContentType() string
	// Encode appends the records of b to dst. On an error dst comes back without a
	// partial batch.
	Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error)
}

// New returns the text format with that name: line, json, senml-json or senml-cbor.
func New(name string) (Format, error) {
	switch name {
	case "line":
		return NewLine(), nil
	case "json":
		return NewJSON(), nil
	case "senml-json":
		return NewSenMLJSON(), nil
	case "senml-cbor":
		return NewSenMLCBOR(), nil
	}
	return nil, fmt.Errorf("unknown text format %q, want line, json, senml-json or senml-cbor", name)
}

// text is the part that the formats share: they differ in how a record looks.
type text struct {
	style    style
	readings []edgeagent.Reading // scratch
	rollups  []edgeagent.Rollup  // scratch
	events   []edgeagent.Event   // scratch
	identity []byte              // scratch
	device   string              // what fixed was made for
	fixed    map[edgeagent.Series]fixed
	bytes    int // held by fixed
}

// fixed is what stays the same in every record of a series. Line protocol names
// the fields of a rollup after the metric.
type fixed struct {
	head, tail []byte
	summary    [6][]byte
}

// summarized are the fields of a rollup, in the order in which they are written.
var summarized = [6]string{"count", "sum", "min", "max", "first", "last"}

func values(r *edgeagent.Rollup) [6]float64 {
	return [6]float64{float64(r.Count), r.Sum, r.Min, r.Max, r.First, r.Last}
}

// style is how one format writes records.
type style interface {
	fixed(device string, key edgeagent.SeriesKey) fixed
	// identity appends what stays the same in every record of a batch.
	identity(dst []byte, b edgeagent.BatchHeader) []byte
	// reading appends one line; quality is what to say of it.
	reading(dst []byte, f fixed, r *edgeagent.Reading, quality string, identity []byte, seq edgeagent.Seq) []byte
	rollup(dst []byte, f fixed, r *edgeagent.Rollup, quality string, identity []byte, seq edgeagent.Seq) []byte
	event(dst []byte, device string, e *edgeagent.Event, identity []byte, seq edgeagent.Seq) []byte
}

// Bounds of the fixed parts kept; beyond, they are all made anew.
const (
	maxFixed      = 10_000
	maxFixedBytes = 4 << 20
)

// unsynced is the quality of good readings in a batch without a trusted clock.
const unsynced = "unsynced"

func (t *text) encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error) {
	if device != t.device || t.fixed == nil {
		t.forget(device)
	}
	t.identity = t.style.identity(t.identity[:0], b.BatchHeader)
	switch b.Stream {
	case edgeagent.StreamTelemetry:
		return t.encodeReadings(dst, b)
	case edgeagent.StreamAlarm, edgeagent.StreamEvent:
		return t.encodeEvents(dst, b)
	case edgeagent.StreamRollup:
		return t.encodeRollups(dst, b)
	}
	return dst, fmt.Errorf("encode: unknown stream %d", b.Stream)
}

func (t *text) encodeReadings(dst []byte, b edgeagent.Batch) ([]byte, error) {
	var err error
	if t.readings, err = b.Readings(t.readings[:0]); err != nil {
		return dst, fmt.Errorf("decode readings: %w", err)
	}
	if len(t.readings) != b.Count {
		return dst, fmt.Errorf("batch of %d readings holds %d", b.Count, len(t.readings))
	}
	for i := range t.readings {
		r := &t.readings[i]
		q := r.Quality.String()
		if b.Unsynced && r.Quality == edgeagent.Good {
			q = unsynced
		}
		dst = t.style.reading(dst, t.parts(r.Series), r, q, t.identity, b.First+edgeagent.Seq(i))
	}
	return dst, nil
}

func (t *text) encodeRollups(dst []byte, b edgeagent.Batch) ([]byte, error) {
	var err error
	if t.rollups, err = b.Rollups(t.rollups[:0]); err != nil {
		return dst, fmt.Errorf("decode rollups: %w", err)
	}
	if len(t.rollups) != b.Count {
		return dst, fmt.Errorf("batch of %d rollups holds %d", b.Count, len(t.rollups))
	}
	q := edgeagent.Good.String()
	if b.Unsynced {
		q = unsynced
	}
	for i := range t.rollups {
		r := &t.rollups[i]
		dst = t.style.rollup(dst, t.parts(r.Series), r, q, t.identity, b.First+edgeagent.Seq(i))
	}
	return dst, nil
}

func (t *text) encodeEvents(dst []byte, b edgeagent.Batch) ([]byte, error) {
	var err error
	if t.events, err = b.Events(t.events[:0]); err != nil {
		return dst, fmt.Errorf("decode events: %w", err)
	}
	if len(t.events) != b.Count {
		return dst, fmt.Errorf("batch of %d events holds %d", b.Count, len(t.events))
	}
	for i := range t.events {
		dst = t.style.event(dst, t.device, &t.events[i], t.identity, b.First+edgeagent.Seq(i))
	}
	return dst, nil
}

func (t *text) parts(s edgeagent.Series) fixed {
	if f, ok := t.fixed[s]; ok {
		return f
	}
	if len(t.fixed) >= maxFixed || t.bytes >= maxFixedBytes {
		t.forget(t.device)
	}
	f := t.style.fixed(t.device, s.Key())
	t.fixed[s] = f
	t.bytes += len(f.head) + len(f.tail)
	for _, name := range f.summary {
		t.bytes += len(name)
	}
	return f
}

func (t *text) forget(device string) {
	t.device, t.bytes, t.fixed = device, 0, map[edgeagent.Series]fixed{}
}
