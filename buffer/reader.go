package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Reader walks over the records of a stream that a destination has not confirmed,
// each once, in order. It is not safe for concurrent use. It holds no files: what
// it has not returned yet may be evicted, and is then left out.
type Reader struct {
	b      *Buffer
	dest   *destination // nil: whatever is stored
	stream edgeagent.Stream
	parts  []part // what is left, the current one first

	dec  block.Decoder
	enc  block.Encoder
	recs records // behind a batch that was read with Limit.Decoded, until the next one
}

// part is one epoch of a reader's way.
type part struct {
	epoch edgeagent.Epoch
	pos   edgeagent.Seq // next number to look at
	below edgeagent.Seq // the end, 0 if there is none
	skip  edgeagent.Ranges
}

// gather bounds what one batch is made of: small blocks shrink when they are
// merged, at best to a tenth.
const gather = 8

// maxHeals bounds the damaged segments that one call of Next puts up with.
const maxHeals = 8

// Next returns the next batch within limit, but never less than one record. A
// batch stays within one epoch, one run and one clock segment. Small stored blocks
// are merged; one that fits alone is returned as it stands. ok is false when there
// is nothing to read now: a reader of live records has more after the next append.
//
// A batch that is read for its records alone ([edgeagent.Limit], Decoded) shares
// memory with the reader until the next call.
//
// Damage that is found on the way goes to the ledger, and reading goes on behind
// it.
func (r *Reader) Next(ctx context.Context, limit edgeagent.Limit) (batch edgeagent.Batch, ok bool, err error) {
	for heals := 0; len(r.parts) > 0; {
		if r.b.isClosed() {
			return edgeagent.Batch{}, false, ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return edgeagent.Batch{}, false, fmt.Errorf("read %s: %w", r.stream, err)
		}
		batch, ok, err := r.step(&r.parts[0], limit)
		var bad *damagedSegment
		switch {
		case errors.As(err, &bad) && heals < maxHeals:
			heals++
			if err := r.b.healNow(bad); err != nil {
				return edgeagent.Batch{}, false, fmt.Errorf("read %s: %w", r.stream, err)
			}
			continue
		case errors.Is(err, errGone):
			continue
		case err != nil:
			return edgeagent.Batch{}, false, fmt.Errorf("read %s: %w", r.stream, err)
		case ok:
			named, err := r.b.nameDurably(ctx, batch)
			if err != nil {
				return edgeagent.Batch{}, false, fmt.Errorf("read %s: %w", r.stream, err)
			}
			if named {
				return batch, true, nil
			}
		case r.parts[0].below == 0:
			return edgeagent.Batch{}, false, nil
		}
		r.parts = r.parts[1:]
	}
	return edgeagent.Batch{}, false, nil
}

// nameDurably sees to it that the series of a batch survive a power cut before
// anybody outside learns their ids: else those could be given to others. It reports
// false where the disk failed first; such a batch stays until the disk is back.
func (b *Buffer) nameDurably(ctx context.Context, batch edgeagent.Batch) (bool, error) {
	if b.named(batch) {
		return true, nil
	}
	if err := b.syncHead(ctx); err != nil && !b.outlive(ctx, err) {
		return false, err
	}
	return b.named(batch), nil
}

// named reports whether the series of a batch are durable.
func (b *Buffer) named(batch edgeagent.Batch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.epoch(batch.Epoch)
	return ep == nil || batch.MaxSeriesID <= ep.series.durable
}

// damagedSegment is the error of a segment that has to be healed.
type damagedSegment struct {
	sg  *seg
	err error
}

func (e *damagedSegment) Error() string { return e.err.Error() }
func (e *damagedSegment) Unwrap() error { return e.err }

func (b *Buffer) healNow(bad *damagedSegment) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	return b.heal(bad.sg, bad.err)
}

// step returns the next batch of one part.
func (r *Reader) step(p *part, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	for {
		from := r.locate(p, limit)
		want, sg := from.want, from.sg
		switch {
		case want.Len() == 0:
			return edgeagent.Batch{}, false, nil
		case from.count > 0:
			batch, err := r.fresh(from, limit)
			if err != nil {
				return edgeagent.Batch{}, false, err
			}
			p.pos = batch.Last() + 1
			return batch, true, nil
		case sg == nil: // nothing is stored here
			p.pos = want.To + 1
			continue
		}
		blocks, err := r.b.gather(sg, want, limit)
		if err != nil {
			if errors.Is(err, segment.ErrDamaged) {
				err = &damagedSegment{sg, err}
			}
			return edgeagent.Batch{}, false, err
		}
		switch {
		case len(blocks) == 0: // a hole at the end of the segment
			p.pos = sg.end(r.b) + 1
			continue
		case blocks[0].First > want.From: // a hole in front of the block
			p.pos = blocks[0].First
			continue
		}
		batch, err := r.assemble(blocks, want, limit)
		if err != nil {
			return edgeagent.Batch{}, false, &damagedSegment{sg, fmt.Errorf("%w: %w", segment.ErrDamaged, err)}
		}
		p.pos = batch.Last() + 1
		return batch, true, nil
	}
}

func (s *seg) end(b *Buffer) edgeagent.Seq {
	b.mu.Lock()
	defer b.mu.Unlock()
	return s.last
}

// origin says where the next records that a reader wants are.
type origin struct {
	want edgeagent.Range
	sg   *seg // holds the first of them, or the first after
	// count: that many records were copied out of memory into the reader's
	// records, and id begins their block.
	count int
	id    block.ID
}

// locate finds the next records that a reader wants. What is in memory it copies.
func (r *Reader) locate(p *part, limit edgeagent.Limit) (o origin) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.epoch(p.epoch)
	if ep == nil {
		return o
	}
	ch := ep.streams[r.stream]
	end := ch.next
	if p.below > 0 {
		end = min(end, p.below)
	}
	var confirmed edgeagent.Ranges
	if r.dest != nil {
		confirmed = r.dest.place(ep.id, r.stream).set
	}
	o.want = wanted(confirmed, p.skip, p.pos, end)
	if o.want.Len() == 0 {
		return o
	}
	if i := ch.find(o.want.From); i < len(ch.segs) {
		o.sg = ch.segs[i]
		return o
	}
	i := ch.tail.find(o.want.From)
	if i == len(ch.tail.spans) || ch.tail.spans[i].first > o.want.To {
		return o
	}
	s, rng := ch.tail.spans[i], ch.tail.rng(i)
	from, to := max(o.want.From, rng.From), min(o.want.To, rng.To)
	records, _ := bounds(limit)
	at := s.at + int(from-s.first)
	o.count = int(min(uint64(records), uint64(to-from)+1))
	o.id = block.ID{Stream: r.stream, Epoch: ep.id, First: from, Run: s.run, Unsynced: s.unsynced, Resolution: eventResolution}
	r.recs.reset()
	if len(ch.tail.events) > 0 {
		r.recs.events = append(r.recs.events, ch.tail.events[at:at+o.count]...)
		return o
	}
	r.recs.rows = append(r.recs.rows, ch.tail.rows[at:at+o.count]...)
	o.id.Resolution = finest(ep.series.res, r.recs.rows)
	return o
}

// fresh makes a batch of records that were copied out of memory.
func (r *Reader) fresh(o origin, limit edgeagent.Limit) (edgeagent.Batch, error) {
	if limit.Decoded && len(r.recs.rows) > 0 {
		return r.b.looseBatch(o.id, &r.recs, 0, o.count), nil
	}
	_, maxBytes := bounds(limit)
	blk, _, err := shrink(o.count, maxBytes, func(n int) ([]byte, error) {
		return r.recs.encode(&r.enc, o.id, 0, n)
	})
	if err != nil {
		return edgeagent.Batch{}, err
	}
	return r.b.batch(blk)
}

// wanted returns the first range in [pos, end) that neither set holds.
func wanted(confirmed, skip edgeagent.Ranges, pos, end edgeagent.Seq) edgeagent.Range {
	for pos < end {
		a, aTo := after(confirmed, pos)
		s, sTo := after(skip, a)
		if a == s {
			return edgeagent.Range{From: a, To: min(aTo, sTo, end-1)}
		}
		pos = s
	}
	return edgeagent.Range{}
}

// collector collects the stored blocks that one batch may be made of: they follow
// each other without a hole and without a border.
type collector struct {
	want                 edgeagent.Range
	maxRecords, maxBytes int
	records, bytes       int
	blocks               []stored
}

func newCollector(want edgeagent.Range, limit edgeagent.Limit) *collector {
	c := &collector{want: want}
	c.maxRecords, c.maxBytes = bounds(limit)
	return c
}

// add reports whether it took x; after the first that it does not, the batch is
// at its end.
func (c *collector) add(x stored) bool {
	if n := len(c.blocks); n > 0 {
		prev := c.blocks[n-1].h
		full := c.records >= c.maxRecords || c.bytes >= gather*c.maxBytes
		if full || x.First != prev.Last()+1 || x.First > c.want.To || x.Starts || x.h.Run != prev.Run || x.h.Unsynced != prev.Unsynced {
			return false
		}
	}
	c.blocks = append(c.blocks, x)
	c.records, c.bytes = c.records+int(x.h.Count), c.bytes+len(x.Encoded)
	return true
}

// bounds returns a limit without zeros, within what a block can be.
func bounds(l edgeagent.Limit) (records, bytes int) {
	records, bytes = block.MaxRecords, block.MaxStored
	if l.Records > 0 {
		records = min(records, l.Records)
	}
	if l.Bytes > 0 && !l.Decoded {
		bytes = min(bytes, l.Bytes)
	}
	return records, bytes
}

// gather reads the blocks that one batch may be made of from a segment.
func (b *Buffer) gather(sg *seg, want edgeagent.Range, limit edgeagent.Limit) ([]stored, error) {
	last := sg.end(b)
	c := newCollector(want, limit)
	var bad error
	err := b.view(sg, func(f *segment.Segment) error {
		return b.eachBlock(f, sg, want.From, func(blk segment.Block) bool {
			h, err := block.ParseHeader(blk.Encoded)
			if err != nil || h.First != blk.First {
				bad = fmt.Errorf("%w: block %d: %w", segment.ErrDamaged, blk.First, err)
				return false
			}
			if h.Last() < want.From {
				return true
			}
			if blk.First > last {
				return false
			}
			if !c.add(stored{blk, h}) {
				return false
			}
			c.blocks[len(c.blocks)-1].Encoded = bytes.Clone(blk.Encoded)
			return true
		})
	})
	return c.blocks, errors.Join(err, bad)
}

// assemble makes a batch of stored blocks of which the first holds want.From.
func (r *Reader) assemble(blocks []stored, want edgeagent.Range, limit edgeagent.Limit) (edgeagent.Batch, error) {
	maxRecords, maxBytes := bounds(limit)
	whole, records := 0, 0
	for _, x := range blocks {
		if x.First < want.From || x.h.Last() > want.To || records+int(x.h.Count) > maxRecords {
			break
		}
		whole, records = whole+1, records+int(x.h.Count)
	}
	use := blocks[:max(whole, 1)]
	if limit.Decoded && blocks[0].h.Kind != block.KindEvents {
		id, from, to, err := r.decode(use, want, maxRecords)
		if err != nil {
			return edgeagent.Batch{}, err
		}
		return r.b.looseBatch(id, &r.recs, from, to), nil
	}
	if whole == 1 && len(blocks[0].Encoded) <= maxBytes {
		return r.verbatim(blocks[0])
	}
	batch, err := r.merge(use, want, maxRecords, maxBytes)
	// A neighbour that does not fit is left alone, if the first block does.
	if err == nil && whole > 1 && batch.Count <= int(blocks[0].h.Count) && len(blocks[0].Encoded) <= maxBytes {
		return r.verbatim(blocks[0])
	}
	return batch, err
}

func (r *Reader) verbatim(x stored) (edgeagent.Batch, error) {
	if _, err := block.Check(x.Encoded); err != nil {
		return edgeagent.Batch{}, err
	}
	return r.b.batch(bytes.Clone(x.Encoded))
}

// merge decodes blocks and encodes the part of them that is wanted and fits.
func (r *Reader) merge(blocks []stored, want edgeagent.Range, maxRecords, maxBytes int) (edgeagent.Batch, error) {
	id, from, to, err := r.decode(blocks, want, maxRecords)
	if err != nil {
		return edgeagent.Batch{}, err
	}
	blk, _, err := shrink(to-from, maxBytes, func(n int) ([]byte, error) {
		return r.recs.encode(&r.enc, id, from, from+n)
	})
	if err != nil {
		return edgeagent.Batch{}, err
	}
	return r.b.batch(blk)
}

// decode makes the records of blocks the reader's. Those in [from, to) are wanted, and
// id begins their block.
func (r *Reader) decode(blocks []stored, want edgeagent.Range, maxRecords int) (id block.ID, from, to int, err error) {
	first := blocks[0].h
	id = block.ID{
		Stream: first.Stream, Epoch: first.Epoch, First: want.From, Run: first.Run,
		Unsynced: first.Unsynced, Resolution: first.Resolution,
	}
	r.recs.reset()
	for _, x := range blocks {
		id.Resolution = min(id.Resolution, x.h.Resolution)
		if err := r.recs.decode(&r.dec, x.h.Kind, x.Encoded); err != nil {
			return id, 0, 0, err
		}
	}
	from = int(want.From - first.First)
	n := min(maxRecords, r.recs.len()-from)
	if over := want.Len(); uint64(n) > over {
		n = int(over)
	}
	return id, from, from + n, nil
}

// Read returns whatever is stored of a stream of an epoch from a number up,
// confirmed or not, as one batch within limit. ok is false when there is nothing.
func (b *Buffer) Read(ctx context.Context, e edgeagent.Epoch, s edgeagent.Stream, from edgeagent.Seq, limit edgeagent.Limit) (batch edgeagent.Batch, ok bool, err error) {
	b.mu.Lock()
	known := b.epoch(e) != nil && s.Valid()
	b.mu.Unlock()
	if !known {
		return edgeagent.Batch{}, false, fmt.Errorf("read: %w %s, stream %s", errUnknownEpoch, e, s)
	}
	r := Reader{b: b, stream: s, parts: []part{{epoch: e, pos: max(from, 1)}}}
	return r.Next(ctx, limit)
}
