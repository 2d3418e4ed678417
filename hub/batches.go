package hub

import (
	"errors"
	"iter"

	"github.com/edgeagent/edgeagent"
)

// Batches returns the records of the cut as batches, one for each of its ranges, so that
// whatever writes batches as text writes cuts, too. They are valid as long as the cut is.
func (c Cut) Batches() iter.Seq[edgeagent.Batch] {
	return func(yield func(edgeagent.Batch) bool) {
		at := 0
		for _, r := range c.Ranges {
			n := int(r.Len())
			part := batched{}
			switch {
			case len(c.Rows) > 0:
				part.rows = c.Rows[at : at+n]
			case len(c.Rollups) > 0:
				part.rollups = c.Rollups[at : at+n]
			default:
				part.events = c.Events[at : at+n]
			}
			at += n
			h := edgeagent.BatchHeader{Stream: c.Stream, Epoch: c.Epoch, Run: c.Run, First: r.From, Count: n, Unsynced: c.Unsynced}
			if !yield(edgeagent.NewBatch(h, nil, part)) {
				return
			}
		}
	}
}

// batched is the content of a batch of a cut.
type batched struct {
	rows    []Row
	rollups []Rollup
	events  []Event
}

var _ edgeagent.RollupContent = batched{}

func (b batched) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	for _, r := range b.rows {
		dst = append(dst, edgeagent.Reading{Series: r.Series, At: edgeagent.Instant{Wall: r.Time}, Value: r.Value, Quality: r.Quality})
	}
	return dst, nil
}

func (b batched) Rollups(dst []edgeagent.Rollup) ([]edgeagent.Rollup, error) {
	for _, r := range b.rollups {
		dst = append(dst, r.Rollup)
	}
	return dst, nil
}

func (b batched) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) {
	for _, e := range b.events {
		dst = append(dst, e.Event)
	}
	return dst, nil
}

// Cut is for links that take less than a batch; a sink takes all of it.
func (batched) Cut(edgeagent.Range) (edgeagent.Batch, error) {
	return edgeagent.Batch{}, errors.New("a batch of a cut is not cut")
}
