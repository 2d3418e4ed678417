package buffer

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// loose is the content of a batch that was read for its records alone: see
// [edgeagent.Limit]. It shares them with what is cut from it and with the reader that
// made it, so that cutting and reading cost no decoding. It holds readings or rollups;
// events are few, and are read as blocks.
type loose struct {
	b      *Buffer
	id     block.ID // of the first record
	add    int64    // to all times: what the clock was wrong by
	rows   []block.Row
	folded []block.RollupRow // instead of rows
	bucket uint32            // seconds, of folded
}

var (
	_ edgeagent.BatchContent  = (*loose)(nil)
	_ edgeagent.RollupContent = (*loose)(nil)
)

// looseBatch makes a batch of the records [from, to), of which there is at least one.
func (b *Buffer) looseBatch(id block.ID, recs *records, from, to int) edgeagent.Batch {
	x := loose{b: b, id: id}
	if len(recs.folded) > 0 {
		x.folded, x.bucket = recs.folded[from:to:to], recs.source.Bucket
	} else {
		x.rows = recs.rows[from:to:to]
	}
	return x.batch()
}

// batch makes a batch of x, with the corrections that are known by now.
func (x loose) batch() edgeagent.Batch {
	h := block.Header{Stream: x.id.Stream, Epoch: x.id.Epoch, Run: x.id.Run, First: x.id.First, Unsynced: x.id.Unsynced, Count: uint32(x.len())}
	if len(x.rows) > 0 {
		h.MinTime, h.MaxTime = x.rows[0].Time, x.rows[0].Time
	} else {
		h.MinTime, h.MaxTime = x.folded[0].Time, x.folded[0].Time
	}
	for i := range x.rows {
		r := &x.rows[i]
		h.MinTime, h.MaxTime, h.MaxSeriesID = min(h.MinTime, r.Time), max(h.MaxTime, r.Time), max(h.MaxSeriesID, r.Series)
	}
	for i := range x.folded {
		r := &x.folded[i]
		h.MinTime, h.MaxTime, h.MaxSeriesID = min(h.MinTime, r.Time), max(h.MaxTime, r.Time), max(h.MaxSeriesID, r.Series)
	}
	var head edgeagent.BatchHeader
	head, x.add = x.b.correctedHeader(h)
	return edgeagent.NewBatch(head, nil, &x)
}

func (x *loose) len() int { return len(x.rows) + len(x.folded) }

// Readings appends the readings to dst. Their run times are not stored.
func (x *loose) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if len(x.rows) == 0 {
		return dst, errNoReadings
	}
	return x.b.readings(dst, x.id.Epoch, x.rows, x.add)
}

// Rollups appends the rollups to dst.
func (x *loose) Rollups(dst []edgeagent.Rollup) ([]edgeagent.Rollup, error) {
	if len(x.folded) == 0 {
		return dst, errNoRollups
	}
	return x.b.rollups(dst, x.id.Epoch, x.folded, time.Duration(x.bucket)*time.Second, x.add)
}

// Events fails: there are none.
func (*loose) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) { return dst, errNoEvents }

// Cut returns the records of r as a batch of their own.
func (x *loose) Cut(r edgeagent.Range) (edgeagent.Batch, error) {
	last := x.id.First + edgeagent.Seq(x.len()) - 1
	if r.Len() == 0 || r.From < x.id.First || r.To > last {
		return edgeagent.Batch{}, fmt.Errorf("cut [%d,%d] out of a batch of [%d,%d]", r.From, r.To, x.id.First, last)
	}
	from, to := int(r.From-x.id.First), int(r.To-x.id.First)+1
	y := *x
	y.id.First = r.From
	if len(x.rows) > 0 {
		y.rows = x.rows[from:to:to]
	} else {
		y.folded = x.folded[from:to:to]
	}
	return y.batch(), nil
}
