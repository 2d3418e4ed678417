package buffer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// content gives access to the records of a batch, which it decodes when asked.
// Safe for concurrent use: it never changes.
type content struct {
	b       *Buffer
	encoded []byte
	header  block.Header
	add     int64 // to all times: what the clock was wrong by
}

var (
	_ edgeagent.BatchContent  = (*content)(nil)
	_ edgeagent.RollupContent = (*content)(nil)
)

// batch makes a batch of a block that belongs to it alone.
func (b *Buffer) batch(encoded []byte) (edgeagent.Batch, error) {
	h, err := block.ParseHeader(encoded)
	if err != nil {
		return edgeagent.Batch{}, err
	}
	head, add := b.correctedHeader(h)
	return edgeagent.NewBatch(head, encoded, &content{b, encoded, h, add}), nil
}

var (
	errNoReadings = errors.New("batch holds no readings")
	errNoRollups  = errors.New("batch holds no rollups")
	errNoEvents   = errors.New("batch holds no events")
)

// Readings appends the readings to dst. Their run times are not stored.
func (c *content) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if c.header.Kind != block.KindReadings {
		return dst, errNoReadings
	}
	var dec block.Decoder
	rows, _, err := dec.Readings(nil, c.encoded)
	if err != nil {
		return dst, fmt.Errorf("decode batch: %w", err)
	}
	return c.b.readings(dst, c.header.Epoch, rows, c.add)
}

// readings appends rows of an epoch to dst, with add on top of their times.
func (b *Buffer) readings(dst []edgeagent.Reading, e edgeagent.Epoch, rows []block.Row, add int64) ([]edgeagent.Reading, error) {
	names, err := b.seriesOf(e)
	if err != nil {
		return dst, err
	}
	dst = slices.Grow(dst, len(rows))
	for i := range rows {
		row := &rows[i]
		series, err := named(names, e, row.Series)
		if err != nil {
			return dst, err
		}
		dst = append(dst, edgeagent.Reading{
			Series: series, At: edgeagent.Instant{Wall: addTime(row.Time, add)}, Value: row.Value, Quality: row.Quality,
		})
	}
	return dst, nil
}

// Rollups appends the rollups to dst.
func (c *content) Rollups(dst []edgeagent.Rollup) ([]edgeagent.Rollup, error) {
	if c.header.Kind != block.KindRollup {
		return dst, errNoRollups
	}
	var dec block.Decoder
	rows, source, _, err := dec.Rollup(nil, c.encoded)
	if err != nil {
		return dst, fmt.Errorf("decode batch: %w", err)
	}
	return c.b.rollups(dst, c.header.Epoch, rows, time.Duration(source.Bucket)*time.Second, c.add)
}

// rollups appends rows of an epoch to dst, with add on top of their times.
func (b *Buffer) rollups(dst []edgeagent.Rollup, e edgeagent.Epoch, rows []block.RollupRow, bucket time.Duration, add int64) ([]edgeagent.Rollup, error) {
	names, err := b.seriesOf(e)
	if err != nil {
		return dst, err
	}
	for _, row := range rows {
		series, err := named(names, e, row.Series)
		if err != nil {
			return dst, err
		}
		dst = append(dst, edgeagent.Rollup{
			Series: series, At: edgeagent.Instant{Wall: addTime(row.Time, add)}, Bucket: bucket, Count: row.Count,
			Sum: row.Sum, Min: row.Min, Max: row.Max, First: row.First, Last: row.Last,
		})
	}
	return dst, nil
}

// named returns the series of an epoch with that id.
func named(names []edgeagent.Series, e edgeagent.Epoch, id uint32) (edgeagent.Series, error) {
	if id == 0 || int(id) > len(names) || names[id-1].IsZero() {
		return edgeagent.Series{}, fmt.Errorf("decode batch: series %d of epoch %s is not known", id, e)
	}
	return names[id-1], nil
}

// Events appends the events to dst.
func (c *content) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) {
	if c.header.Kind != block.KindEvents {
		return dst, errNoEvents
	}
	var dec block.Decoder
	evs, _, err := dec.Events(dst, c.encoded)
	if err != nil {
		return dst, fmt.Errorf("decode batch: %w", err)
	}
	for i := len(dst); i < len(evs); i++ {
		evs[i].At.Wall = addTime(evs[i].At.Wall, c.add)
	}
	return evs, nil
}

// Cut returns the records of r as a batch of their own.
func (c *content) Cut(r edgeagent.Range) (edgeagent.Batch, error) {
	h := c.header
	if r.Len() == 0 || r.From < h.First || r.To > h.Last() {
		return edgeagent.Batch{}, fmt.Errorf("cut [%d,%d] out of a batch of [%d,%d]", r.From, r.To, h.First, h.Last())
	}
	if r.From == h.First && r.To == h.Last() {
		return c.b.batch(c.encoded)
	}
	id := block.ID{Stream: h.Stream, Epoch: h.Epoch, First: r.From, Run: h.Run, Unsynced: h.Unsynced, Resolution: h.Resolution}
	from, to := int(r.From-h.First), int(r.To-h.First)+1
	var dec block.Decoder
	var recs records
	if err := recs.decode(&dec, h.Kind, c.encoded); err != nil {
		return edgeagent.Batch{}, fmt.Errorf("cut batch: %w", err)
	}
	blk, err := recs.encode(&block.Encoder{}, id, from, to)
	if err != nil {
		return edgeagent.Batch{}, fmt.Errorf("cut batch: %w", err)
	}
	return c.b.batch(blk)
}

// seriesOf returns the series of an epoch, by id - 1.
func (b *Buffer) seriesOf(e edgeagent.Epoch) ([]edgeagent.Series, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.epoch(e)
	if ep == nil {
		return nil, fmt.Errorf("series: %w %s", errUnknownEpoch, e)
	}
	return ep.series.byID, nil
}

// blockTimes returns the wall times of a block's records, in order.
func blockTimes(dec *block.Decoder, blk []byte) ([]int64, error) {
	h, err := block.ParseHeader(blk)
	if err != nil {
		return nil, err
	}
	times := make([]int64, 0, h.Count)
	var recs records
	err = recs.decode(dec, h.Kind, blk)
	for i := range recs.len() {
		times = append(times, recs.time(i))
	}
	return times, err
}

// records are decoded records of one kind.
type records struct {
	rows   []block.Row
	events []edgeagent.Event
	folded []block.RollupRow
	source block.RollupSource // of folded: blocks of several do not mix
}

func (x *records) reset() { x.rows, x.events, x.folded = x.rows[:0], x.events[:0], x.folded[:0] }

func (x *records) len() int { return len(x.rows) + len(x.events) + len(x.folded) }

// decode adds the records of a block.
func (x *records) decode(dec *block.Decoder, k block.Kind, blk []byte) (err error) {
	switch k {
	case block.KindEvents:
		x.events, _, err = dec.Events(x.events, blk)
	case block.KindRollup:
		x.folded, x.source, _, err = dec.Rollup(x.folded, blk)
	default:
		x.rows, _, err = dec.Readings(x.rows, blk)
	}
	return err
}

// encode makes a block of the records in [from, to).
func (x *records) encode(enc *block.Encoder, id block.ID, from, to int) ([]byte, error) {
	switch {
	case len(x.events) > 0:
		return enc.Events(nil, id, x.events[from:to])
	case len(x.folded) > 0:
		return enc.Rollup(nil, id, x.source, x.folded[from:to])
	}
	return enc.Readings(nil, id, x.rows[from:to])
}

// time returns the wall time of a record.
func (x *records) time(i int) int64 {
	switch {
	case len(x.events) > 0:
		return x.events[i].At.Wall
	case len(x.folded) > 0:
		return x.folded[i].Time
	}
	return x.rows[i].Time
}
