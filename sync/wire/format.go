package wire

import (
	"fmt"
	"math"

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

// Partial is a format that can stop where a message is full.
type Partial interface {
	Format
	// EncodeUpTo appends the first records of b to dst, as many as take up to size
	// bytes, but at least one, and returns how many those are.
	EncodeUpTo(dst []byte, b edgeagent.Batch, device string, size int) (_ []byte, records int, _ error)
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
	fixed    map[edgeagent.Series]*fixed
	bytes    int    // held by fixed
	last     *fixed // of the reading before, in this batch
}

// fixed is what stays the same in every record of a series. Line protocol names
// the fields of a rollup after the metric.
type fixed struct {
	head, tail []byte
	summary    [6][]byte

	// What came after this series the last time: sensors are read in turns.
	after edgeagent.Series
	next  *fixed
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
	reading(dst []byte, f *fixed, r *edgeagent.Reading, quality string, identity []byte, seq edgeagent.Seq) []byte
	rollup(dst []byte, f *fixed, r *edgeagent.Rollup, quality string, identity []byte, seq edgeagent.Seq) []byte
	event(dst []byte, device string, e *edgeagent.Event, identity []byte, seq edgeagent.Seq) []byte
}

// Bounds of the fixed parts kept; beyond, they are all made anew.
const (
	maxFixed      = 10_000
	maxFixedBytes = 4 << 20
)

// unsynced is the quality of good readings in a batch without a trusted clock.
const unsynced = "unsynced"

// encode appends the records of b that take up to size bytes, but at least one, and
// returns how many those are.
func (t *text) encode(dst []byte, b edgeagent.Batch, device string, size int) ([]byte, int, error) {
	if device != t.device || t.fixed == nil {
		t.forget(device)
	}
	t.identity = t.style.identity(t.identity[:0], b.BatchHeader)
	if err := t.load(&b); err != nil {
		return dst, 0, err
	}
	t.last = nil
	limit := len(dst) + min(size, math.MaxInt-len(dst))
	for i := range b.Count {
		end := len(dst)
		if dst = t.record(dst, &b, i); len(dst) > limit && i > 0 {
			return dst[:end], i, nil
		}
	}
	return dst, b.Count, nil
}

// load decodes the records of b.
func (t *text) load(b *edgeagent.Batch) (err error) {
	what, n := "", 0
	switch b.Stream {
	case edgeagent.StreamTelemetry:
		what = "readings"
		t.readings, err = b.Readings(t.readings[:0])
		n = len(t.readings)
	case edgeagent.StreamAlarm, edgeagent.StreamEvent:
		what = "events"
		t.events, err = b.Events(t.events[:0])
		n = len(t.events)
	case edgeagent.StreamRollup:
		what = "rollups"
		t.rollups, err = b.Rollups(t.rollups[:0])
		n = len(t.rollups)
	default:
		return fmt.Errorf("encode: unknown stream %d", b.Stream)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	if n != b.Count {
		return fmt.Errorf("batch of %d %s holds %d", b.Count, what, n)
	}
	return nil
}

// record appends record i of those that were loaded from b.
func (t *text) record(dst []byte, b *edgeagent.Batch, i int) []byte {
	seq := b.First + edgeagent.Seq(i)
	switch b.Stream {
	case edgeagent.StreamTelemetry:
		r := &t.readings[i]
		t.last = t.following(t.last, r.Series)
		q := r.Quality.String()
		if b.Unsynced && r.Quality == edgeagent.Good {
			q = unsynced
		}
		return t.style.reading(dst, t.last, r, q, t.identity, seq)
	case edgeagent.StreamRollup:
		r := &t.rollups[i]
		q := edgeagent.Good.String()
		if b.Unsynced {
			q = unsynced
		}
		return t.style.rollup(dst, t.parts(r.Series), r, q, t.identity, seq)
	}
	return t.style.event(dst, t.device, &t.events[i], t.identity, seq)
}

// following returns the fixed part of a series that comes after the one of f, which
// may be nil.
func (t *text) following(f *fixed, s edgeagent.Series) *fixed {
	if f != nil && f.next != nil && f.after == s {
		return f.next
	}
	next := t.parts(s)
	if f != nil {
		f.after, f.next = s, next
	}
	return next
}

func (t *text) parts(s edgeagent.Series) *fixed {
	if f, ok := t.fixed[s]; ok {
		return f
	}
	if len(t.fixed) >= maxFixed || t.bytes >= maxFixedBytes {
		t.forget(t.device)
	}
	f := t.style.fixed(t.device, s.Key())
	t.fixed[s] = &f
	t.bytes += len(f.head) + len(f.tail)
	for _, name := range f.summary {
		t.bytes += len(name)
	}
	return &f
}

func (t *text) forget(device string) {
	t.device, t.bytes, t.fixed = device, 0, map[edgeagent.Series]*fixed{}
}
