package buffer

import (
	"errors"
	"fmt"

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

var _ edgeagent.BatchContent = (*content)(nil)

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
	errNoReadings = errors.New("batch holds events, not readings")
	errNoEvents   = errors.New("batch holds readings, not events")
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
	names, err := c.b.seriesOf(c.header.Epoch)
	if err != nil {
		return dst, err
	}
	for _, row := range rows {
		if row.Series == 0 || int(row.Series) > len(names) || names[row.Series-1].IsZero() {
			return dst, fmt.Errorf("decode batch: series %d of epoch %s is not known", row.Series, c.header.Epoch)
		}
		dst = append(dst, edgeagent.Reading{
			Series: names[row.Series-1], At: edgeagent.Instant{Wall: addTime(row.Time, c.add)}, Value: row.Value, Quality: row.Quality,
		})
	}
	return dst, nil
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
	id := block.ID{Stream: h.Stream, Epoch: h.Epoch, First: r.From, Run: h.Run, Unsynced: h.Unsynced, Resolution: h.Resolution}
	from, to := int(r.From-h.First), int(r.To-h.First)+1
	var dec block.Decoder
	var enc block.Encoder
	var blk []byte
	var err error
	if h.Kind == block.KindEvents {
		var evs []edgeagent.Event
		if evs, _, err = dec.Events(nil, c.encoded); err == nil {
			blk, err = enc.Events(nil, id, evs[from:to])
		}
	} else {
		var rows []block.Row
		if rows, _, err = dec.Readings(nil, c.encoded); err == nil {
			blk, err = enc.Readings(nil, id, rows[from:to])
		}
	}
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
	if h.Kind == block.KindEvents {
		evs, _, err := dec.Events(nil, blk)
		for _, ev := range evs {
			times = append(times, ev.At.Wall)
		}
		return times, err
	}
	rows, _, err := dec.Readings(nil, blk)
	for _, row := range rows {
		times = append(times, row.Time)
	}
	return times, err
}
