package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgeagent/edgeagent"
)

// maxReplay bounds the ranges of one request.
const maxReplay = 256

// Replay returns a reader of what is still stored of ranges that a receiver asks
// for again, whether the destination has confirmed it or not. What is gone without
// standing in the ledger is entered, durably, as a gap of reason [Expired] of this
// destination, so that its next marks answer for it; what the destination has
// refused is not read again. Numbers that were not given yet are left out, and so
// are all ranges but the first 256: a receiver asks again for what it still lacks.
func (b *Buffer) Replay(ctx context.Context, dest string, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (*Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("replay for %s: %w", dest, err)
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	d, ch, err := b.given(dest, e, s, nil)
	if err != nil {
		b.mu.Unlock()
		return nil, fmt.Errorf("replay for %s: %w", dest, err)
	}
	var asked edgeagent.Ranges
	for _, r := range ranges[:min(len(ranges), maxReplay)] {
		asked.Add(edgeagent.Range{From: max(r.From, 1), To: min(r.To, ch.next-1)})
	}
	lost := ch.lostRanges()
	for _, r := range d.place(e, s).own.ranges() {
		lost.Add(r)
	}
	released := slices.Clone(ch.released)
	b.mu.Unlock()

	reader := &Reader{b: b, stream: s}
	var gaps []Gap
	for _, r := range asked {
		for _, open := range lost.Missing(r) {
			for _, there := range released.Missing(open) {
				reader.parts = append(reader.parts, part{epoch: e, pos: there.From, below: there.To + 1})
			}
			for _, gone := range intersect(released, open) {
				gaps = append(gaps, d.gap(e, s, gone, Expired))
			}
		}
	}
	if err := b.disown(d, e, s, gaps); err != nil {
		return nil, fmt.Errorf("replay for %s: %w", dest, writeError(err))
	}
	return reader, nil
}

// intersect returns the parts of r that are in the set.
func intersect(rs edgeagent.Ranges, r edgeagent.Range) []edgeagent.Range {
	var out []edgeagent.Range
	for _, x := range rs {
		if both := (edgeagent.Range{From: max(x.From, r.From), To: min(x.To, r.To)}); both.Len() > 0 {
			out = append(out, both)
		}
	}
	return out
}

// Bounds of what is appended anew in one call: readings and events of a size that
// any append takes as a whole, so that their numbers follow each other.
const (
	reappendReadings = 4096
	reappendEvents   = 16
)

// errNewest: the newest epoch is where records are appended anew.
var errNewest = errors.New("it is the newest epoch")

// Reappend appends anew, in the newest epoch, what a destination has not confirmed
// of ranges of an older one, because its receiver holds other records under the
// same numbers: same times and values, new identity. Then the old numbers are given
// up for this destination, as a gap of reason [DeadLettered] in which nothing is
// lost. Other destinations get the records as they are; the new numbers are theirs
// to skip, as a gap of reason [Expired] in which nothing is lost. Readings whose
// clock was not synced and has no correction are marked suspect, for their new run
// has a clock of its own. Rollups stand for numbers of their own epoch and cannot
// be moved: they become dead letters.
//
// It returns how many records it appended. After an error, or a crash, the call can
// be made again; what was appended in the last moment may then come twice.
func (b *Buffer) Reappend(ctx context.Context, dest string, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (n uint64, err error) {
	fail := func(err error) (uint64, error) {
		return n, fmt.Errorf("append %s of epoch %s anew for %s: %w", s, e, dest, err)
	}
	if e == b.Epoch() {
		return fail(errNewest)
	}
	d, owed, err := b.owedOf(dest, e, s, ranges)
	if err != nil {
		return fail(err)
	}
	for _, part := range owed {
		if s == edgeagent.StreamRollup {
			if err := b.deadLetter(ctx, dest, e, s, part, "the receiver holds other records under these numbers"); err != nil {
				return fail(err)
			}
			continue
		}
		moved, err := b.move(ctx, d, e, s, part)
		n += moved
		if err != nil {
			return fail(err)
		}
	}
	return n, nil
}

// move appends the stored records of a range anew and gives the range up.
func (b *Buffer) move(ctx context.Context, d *destination, e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range) (n uint64, err error) {
	reader := &Reader{b: b, stream: s, parts: []part{{epoch: e, pos: r.From, below: r.To + 1}}}
	limit := edgeagent.Limit{Records: reappendEvents}
	if s == edgeagent.StreamTelemetry {
		limit.Records = reappendReadings
	}
	for from := r.From; from <= r.To; {
		batch, ok, err := reader.Next(ctx, limit)
		if err != nil {
			return n, err
		}
		to := r.To
		if ok {
			to = batch.Last()
			if err := b.appendAnew(ctx, d, batch); err != nil {
				return n, err
			}
			n += uint64(batch.Count)
		}
		gap := d.gap(e, s, edgeagent.Range{From: from, To: to}, DeadLettered)
		gap.AtMost = 0
		if err := b.disownNow(d, gap); err != nil {
			return n, err
		}
		from = to + 1
	}
	return n, nil
}

// appendAnew appends the records of a batch for one destination.
func (b *Buffer) appendAnew(ctx context.Context, d *destination, batch edgeagent.Batch) error {
	var last edgeagent.Seq
	if batch.Stream == edgeagent.StreamTelemetry {
		rs, err := batch.Readings(nil)
		if err != nil {
			return err
		}
		for i := range rs {
			rs[i].Recorded = true
			if batch.Unsynced && rs[i].Quality == edgeagent.Good {
				rs[i].Quality = edgeagent.Suspect
			}
		}
		if last, err = b.Append(ctx, rs); err != nil {
			return err
		}
	} else {
		evs, err := batch.Events(nil)
		if err != nil {
			return err
		}
		for i := range evs {
			evs[i].Recorded = true
		}
		if last, err = b.AppendEvents(ctx, batch.Stream, evs); err != nil {
			return err
		}
	}
	fresh := edgeagent.Range{From: last - edgeagent.Seq(batch.Count) + 1, To: last}
	b.mu.Lock()
	others := slices.DeleteFunc(b.holding(), func(x *destination) bool { return x == d })
	b.mu.Unlock()
	for _, x := range others {
		gap := x.gap(b.Epoch(), batch.Stream, fresh, Expired)
		gap.AtMost = 0
		if err := b.disownNow(x, gap); err != nil {
			return err
		}
	}
	return nil
}

// disownNow enters one gap into the ledger of a destination.
func (b *Buffer) disownNow(d *destination, g Gap) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	if b.isClosed() {
		return ErrClosed
	}
	return writeError(b.disown(d, g.Epoch, g.Stream, []Gap{g}))
}
