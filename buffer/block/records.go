package block

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/edgeagent/edgeagent"
)

// Events, series and marks are few and long: their payload is a CBOR sequence
// (RFC 8742) of maps with text keys. Readers ignore keys that they do not know.

// encMode writes the same bytes for the same records.
var encMode = sync.OnceValue(func() cbor.EncMode {
	return must(cbor.CoreDetEncOptions().EncMode())
})

// decMode refuses what encMode never writes, but for unknown keys.
var decMode = sync.OnceValue(func() cbor.DecMode {
	return must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxElements,
	}.DecMode())
})

// maxElements bounds maps and arrays within a record.
const maxElements = 4096

// must unwraps what constant options decide.
func must[T any](v T, err error) T {
	if err != nil {
		panic("block: CBOR options: " + err.Error())
	}
	return v
}

type eventRecord struct {
	Time   int64             `cbor:"t"` // Unix ns
	Kind   string            `cbor:"kind"`
	Sev    string            `cbor:"sev"`
	ID     string            `cbor:"id,omitempty"`
	N      uint32            `cbor:"n,omitempty"`
	Series string            `cbor:"series,omitempty"`
	Text   string            `cbor:"text,omitempty"`
	Attrs  map[string]string `cbor:"attrs,omitempty"`
	Data   []byte            `cbor:"data,omitempty"`
}

// Events appends a block of events to dst. Of their times only the wall time is
// kept, at 1 ns whatever the id says. What is no valid UTF-8 is replaced by
// U+FFFD. It refuses no events ([ErrEmpty]) and more than [MaxRecords] or
// [MaxStored] bytes of them ([ErrTooLarge]).
func (e *Encoder) Events(dst []byte, id ID, evs []edgeagent.Event) ([]byte, error) {
	switch {
	case len(evs) == 0:
		return dst, ErrEmpty
	case len(evs) > MaxRecords:
		return dst, ErrTooLarge
	}
	id.Resolution = 0
	h := id.header(KindEvents, len(evs))
	h.MinTime, h.MaxTime = evs[0].At.Wall, evs[0].At.Wall
	e.raw = e.raw[:0]
	for i := range evs {
		ev := &evs[i]
		if ev.Severity > edgeagent.Critical || ev.Kind == "" || len(ev.Attrs) > maxElements {
			return dst, fmt.Errorf("%w: event of kind %q, %s, %d attributes", ErrInvalid, ev.Kind, ev.Severity, len(ev.Attrs))
		}
		h.MinTime, h.MaxTime = min(h.MinTime, ev.At.Wall), max(h.MaxTime, ev.At.Wall)
		if err := e.appendRecord(newEventRecord(ev)); err != nil {
			return dst, err
		}
	}
	return e.seal(dst, h, e.raw)
}

func newEventRecord(ev *edgeagent.Event) eventRecord {
	return eventRecord{
		Time: ev.At.Wall, Kind: valid(ev.Kind), Sev: ev.Severity.String(), ID: valid(ev.ID), N: ev.N,
		Series: valid(ev.Series), Text: valid(ev.Text), Attrs: validMap(ev.Attrs), Data: ev.Data,
	}
}

func (r eventRecord) event() (edgeagent.Event, error) {
	sev, err := edgeagent.ParseSeverity(r.Sev)
	return edgeagent.Event{
		At: edgeagent.Instant{Wall: r.Time}, Kind: r.Kind, Severity: sev, ID: r.ID, N: r.N,
		Series: r.Series, Text: r.Text, Attrs: r.Attrs, Data: r.Data,
	}, err
}

// appendRecord appends one map to the payload.
func (e *Encoder) appendRecord(v any) error {
	b, err := encMode().Marshal(v)
	if err != nil {
		return fmt.Errorf("block: encode record: %w", err)
	}
	e.raw = append(e.raw, b...)
	if len(e.raw) > MaxRawRecords {
		return ErrTooLarge
	}
	return nil
}

// Text in CBOR is UTF-8, or the block could not be read back.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func validMap(m map[string]string) map[string]string {
	for k, v := range m {
		if valid(k) != k || valid(v) != v {
			return cleanMap(m)
		}
	}
	return m
}

func cleanMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[valid(k)] = valid(v)
	}
	return out
}

// Events checks blk and appends its events to dst, in the order in which they
// were appended.
func (d *Decoder) Events(dst []edgeagent.Event, blk []byte) ([]edgeagent.Event, Header, error) {
	h, r, err := d.open(blk, KindEvents)
	if err != nil {
		return dst, Header{}, err
	}
	mark := len(dst)
	lo, hi := h.MaxTime, h.MinTime
	for range h.Count {
		var rec eventRecord
		if !r.record(&rec) {
			return dst[:mark], Header{}, corrupt("event")
		}
		ev, err := rec.event()
		if err != nil || rec.Kind == "" {
			return dst[:mark], Header{}, corrupt("event without kind or severity")
		}
		lo, hi = min(lo, rec.Time), max(hi, rec.Time)
		dst = append(dst, ev)
	}
	if r.left() != 0 || lo != h.MinTime || hi != h.MaxTime || h.MaxSeriesID != 0 {
		return dst[:mark], Header{}, corrupt("header does not match the events")
	}
	return dst, h, nil
}

// record reads one CBOR map into v.
func (r *reader) record(v any) bool {
	in := r.b[r.pos:r.end]
	const majorType, mapType = 0xE0, 0xA0
	if len(in) == 0 || in[0]&majorType != mapType {
		return false
	}
	rest, err := decMode().UnmarshalFirst(in, v)
	if err != nil {
		return false
	}
	r.pos = r.end - len(rest)
	return true
}

// SeriesEntry says what a series id stands for.
type SeriesEntry struct {
	ID  uint32
	Key edgeagent.SeriesKey
}

type seriesHead struct {
	Device string          `cbor:"device"`
	Epoch  edgeagent.Epoch `cbor:"epoch"`
}

type seriesRecord struct {
	ID         uint32            `cbor:"id"`
	Sensor     string            `cbor:"sensor"`
	Metric     string            `cbor:"metric"`
	Unit       string            `cbor:"unit,omitempty"`
	Kind       string            `cbor:"kind"`
	Resolution uint8             `cbor:"resolution"`
	Tags       map[string]string `cbor:"tags,omitempty"`
	Labels     map[string]string `cbor:"labels,omitempty"`
}

// Series appends a block of series definitions to dst. The ids must rise. It
// refuses no entries ([ErrEmpty]) and more than fit one block ([ErrTooLarge]).
func (e *Encoder) Series(dst []byte, device string, epoch edgeagent.Epoch, entries []SeriesEntry) ([]byte, error) {
	switch {
	case len(entries) == 0:
		return dst, ErrEmpty
	case len(entries) > MaxRecords:
		return dst, ErrTooLarge
	}
	h := Header{Kind: KindSeries, Count: uint32(len(entries)), Epoch: epoch}
	e.raw = e.raw[:0]
	if err := e.appendRecord(seriesHead{valid(device), epoch}); err != nil {
		return dst, err
	}
	for i, entry := range entries {
		if i > 0 && entry.ID <= h.MaxSeriesID {
			return dst, fmt.Errorf("%w: series id %d after %d", ErrInvalid, entry.ID, h.MaxSeriesID)
		}
		h.MaxSeriesID = entry.ID
		if err := e.appendSeriesRecord(entry); err != nil {
			return dst, err
		}
	}
	return e.seal(dst, h, e.raw)
}

func (e *Encoder) appendSeriesRecord(s SeriesEntry) error {
	k := s.Key
	if k.Kind > edgeagent.State || k.Resolution > maxResolution || k.Metric == "" {
		return fmt.Errorf("%w: series %q has %s and resolution %d", ErrInvalid, k.Name(), k.Kind, k.Resolution)
	}
	if k.Tags.Len() > maxElements || k.Labels.Len() > maxElements {
		return fmt.Errorf("%w: series %q has too many tags or labels", ErrInvalid, k.Name())
	}
	return e.appendRecord(seriesRecord{
		ID: s.ID, Sensor: valid(k.Sensor), Metric: valid(k.Metric), Unit: valid(k.Unit), Kind: k.Kind.String(),
		Resolution: k.Resolution, Tags: validMap(k.Tags.Map()), Labels: validMap(k.Labels.Map()),
	})
}

// Series checks blk and returns the definitions in it, by rising id.
func (d *Decoder) Series(blk []byte) (device string, epoch edgeagent.Epoch, entries []SeriesEntry, h Header, err error) {
	fail := func(reason string) (string, edgeagent.Epoch, []SeriesEntry, Header, error) {
		return "", 0, nil, Header{}, corrupt(reason)
	}
	h, r, err := d.open(blk, KindSeries)
	if err != nil {
		return "", 0, nil, Header{}, err
	}
	var head seriesHead
	if !r.record(&head) || head.Epoch != h.Epoch {
		return fail("device or epoch of the series")
	}
	for i := range h.Count {
		var rec seriesRecord
		if !r.record(&rec) {
			return fail("series")
		}
		kind, err := edgeagent.ParseKind(rec.Kind)
		if err != nil || rec.Resolution > maxResolution || rec.Metric == "" {
			return fail("series without metric, kind or resolution")
		}
		if i > 0 && rec.ID <= entries[i-1].ID {
			return fail("series ids do not rise")
		}
		entries = append(entries, rec.entry(kind))
	}
	if r.left() != 0 || entries[len(entries)-1].ID != h.MaxSeriesID {
		return fail("header does not match the series")
	}
	return head.Device, head.Epoch, entries, h, nil
}

func (r seriesRecord) entry(kind edgeagent.Kind) SeriesEntry {
	return SeriesEntry{ID: r.ID, Key: edgeagent.SeriesKey{
		Sensor: r.Sensor, Metric: r.Metric, Unit: r.Unit, Kind: kind, Resolution: r.Resolution,
		Tags: edgeagent.MakePairs(r.Tags), Labels: edgeagent.MakePairs(r.Labels),
	}}
}
