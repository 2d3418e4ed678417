package uplink

import (
	"context"
	"maps"
	"math"

	"github.com/edgeagent/edgeagent"
)

// newestFirst reads a backlog from its end: the newest epoch in parts of at most
// newestPart numbers, the newest part first and each part in order, and then the
// epochs before it, oldest first.
//
// Where records are is found by halving: a range of numbers that holds nothing costs
// one look, however long it is.
type newestFirst struct {
	cursor Cursor
	epochs func() []edgeagent.Epoch
	epoch  edgeagent.Epoch
	skip   map[edgeagent.Epoch]edgeagent.Ranges
	parts  []edgeagent.Range // of numbers, to be looked at; the last one next
	now    Reader            // of the part that is being read, or of the older epochs
	older  bool              // the newest epoch is done
}

// newestPart is about as much as a stored block.
const newestPart = 4096

var _ Reader = (*newestFirst)(nil)

// newNewestFirst returns a reader of all that is below a number of an epoch, and of the
// epochs before it.
func newNewestFirst(c Cursor, epochs func() []edgeagent.Epoch, e edgeagent.Epoch, below edgeagent.Seq, skip map[edgeagent.Epoch]edgeagent.Ranges) *newestFirst {
	r := &newestFirst{cursor: c, epochs: epochs, epoch: e, skip: skip}
	if first := c.LiveFrom(math.MinInt64); first < below {
		r.parts = []edgeagent.Range{{From: first, To: below - 1}}
	}
	return r
}

// Next implements [Reader].
func (r *newestFirst) Next(ctx context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	for {
		if r.now != nil {
			b, ok, err := r.now.Next(ctx, limit)
			if ok || err != nil {
				return b, ok, err
			}
			r.now = nil
			if r.older {
				return edgeagent.Batch{}, false, nil
			}
		}
		if len(r.parts) == 0 {
			r.older = true
			r.now = r.cursor.Backlog(1, r.skip)
			continue
		}
		part := r.parts[len(r.parts)-1]
		if part.Len() <= newestPart {
			r.parts = r.parts[:len(r.parts)-1]
			r.now = r.only(part)
			continue
		}
		if err := r.split(ctx, part); err != nil {
			return edgeagent.Batch{}, false, err
		}
	}
}

// split looks for the first record of a long part, and puts the two halves of what is
// left of the part in its place.
func (r *newestFirst) split(ctx context.Context, part edgeagent.Range) error {
	b, ok, err := r.only(part).Next(ctx, edgeagent.Limit{Records: 1})
	if err != nil {
		return err
	}
	r.parts = r.parts[:len(r.parts)-1]
	if !ok {
		return nil
	}
	part.From = max(part.From, b.First)
	if part.Len() <= newestPart {
		r.parts = append(r.parts, part)
		return nil
	}
	middle := part.From + edgeagent.Seq(part.Len()/2)
	r.parts = append(r.parts, edgeagent.Range{From: part.From, To: middle - 1}, edgeagent.Range{From: middle, To: part.To})
	return nil
}

// only returns a reader of a part of the newest epoch alone.
func (r *newestFirst) only(part edgeagent.Range) Reader {
	skip := maps.Clone(r.skip)
	if skip == nil {
		skip = map[edgeagent.Epoch]edgeagent.Ranges{}
	}
	for _, e := range r.epochs() {
		if e != r.epoch {
			skip[e] = edgeagent.Ranges{{From: 1, To: edgeagent.Seq(math.MaxInt64)}}
		}
	}
	if part.From > 1 {
		own := append(edgeagent.Ranges{}, skip[r.epoch]...)
		own.Add(edgeagent.Range{From: 1, To: part.From - 1})
		skip[r.epoch] = own
	}
	return r.cursor.Backlog(part.To+1, skip)
}
