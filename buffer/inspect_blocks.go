package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Query says which blocks are wanted.
type Query struct {
	Stream edgeagent.Stream
	// Since leaves out the blocks whose records are all older: wall time, Unix
	// ns, 0 for everything.
	Since int64
}

// Blocks calls f for everything that is stored of a stream, in the order of epoch
// and number, confirmed or not: for each epoch its series blocks first, then the
// blocks of records. What is damaged is left out; lost counts the records that are
// missing for that reason. An error of f ends the walk. f does not keep blk.
func (r *ReadOnly) Blocks(ctx context.Context, q Query, f func(blk []byte) error) (lost uint64, err error) {
	for _, ep := range r.b.epochs {
		ch := ep.streams[q.Stream]
		segs := slices.DeleteFunc(slices.Clone(ch.segs), func(sg *seg) bool { return sg.maxTime < q.Since && sg.records > 0 })
		if _, newest := ch.tail.times(); len(segs) == 0 && (ch.tail.len() == 0 || newest < q.Since) {
			continue
		}
		if err := r.b.eachSeries(ep.id, f); err != nil {
			return lost, fmt.Errorf("read %s: %w", q.Stream, err)
		}
		for _, sg := range segs {
			n, err := r.segmentBlocks(ctx, ch, sg, q, f)
			if lost += n; err != nil {
				return lost, fmt.Errorf("read %s: %w", r.b.relative(sg.path), err)
			}
		}
		if err := r.b.tailBlocks(ctx, ch, q, f); err != nil {
			return lost, fmt.Errorf("read %s: %w", q.Stream, err)
		}
	}
	return lost, nil
}

// tailBlocks calls f for blocks of what the head log holds of a chain.
func (b *Buffer) tailBlocks(ctx context.Context, ch *chain, q Query, f func(blk []byte) error) error {
	r := Reader{b: b, stream: ch.stream}
	p := part{epoch: ch.epoch, pos: 1}
	if len(ch.tail.spans) > 0 {
		p.pos = ch.tail.spans[0].first
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		o := r.locate(&p, edgeagent.Limit{})
		switch {
		case o.want.Len() == 0:
			return nil
		case o.count == 0:
			p.pos = o.want.To + 1
			continue
		}
		batch, err := r.fresh(o, edgeagent.Limit{})
		if err == nil && batch.MaxTime >= q.Since {
			err = f(batch.Encoded)
		}
		if err != nil {
			return err
		}
		p.pos = batch.Last() + 1
	}
}

// eachSeries calls f for blocks that define all series of an epoch.
func (b *Buffer) eachSeries(e edgeagent.Epoch, f func(blk []byte) error) error {
	list, err := b.SeriesBlocks(e, 0, maxSeries, 0)
	if err != nil {
		return err
	}
	for _, x := range list {
		if err := f(x.Encoded); err != nil {
			return err
		}
	}
	return nil
}

// segmentBlocks reads one segment. Where its structure breaks off, what lies behind
// is searched for.
func (r *ReadOnly) segmentBlocks(ctx context.Context, ch *chain, sg *seg, q Query, f func(blk []byte) error) (lost uint64, err error) {
	limit := maxSeq
	if i := slices.Index(ch.segs, sg); i+1 < len(ch.segs) {
		limit = ch.segs[i+1].first - 1
	}
	var stop error
	var got edgeagent.Ranges
	pos := sg.first // next number wanted
	take := func(blk segment.Block) error {
		if stop == nil {
			stop = ctx.Err()
		}
		if stop != nil || blk.First > limit || blk.First < pos {
			return stop
		}
		h, err := block.Check(blk.Encoded)
		if err != nil || h.First != blk.First || h.Epoch != sg.epoch || h.Stream != sg.stream {
			return nil // counted by its absence
		}
		pos = h.Last() + 1
		got.Add(edgeagent.Range{From: h.First, To: h.Last()})
		if h.MaxTime >= q.Since {
			stop = f(blk.Encoded)
		}
		return stop
	}
	err = r.b.contents(sg.path, sg.epoch, sg.stream, take, func([]byte) error { return nil })
	if stop == nil && err != nil && !errors.Is(err, fs.ErrPermission) {
		var kept salvaged
		if kept, err = r.b.salvage(sg.path, ch, sg.first, limit); err == nil {
			for _, blk := range kept.blocks {
				_ = take(blk) // says so in stop
			}
		}
	}
	if stop != nil {
		return 0, stop
	}
	expected := edgeagent.Range{From: sg.first, To: sg.last}
	if sum, ok := r.summary(sg); ok {
		expected.To = max(expected.To, min(sum.Last, limit))
	}
	for _, x := range ch.lostRanges() {
		got.Add(x)
	}
	for _, x := range got.Missing(expected) {
		lost += x.Len()
	}
	return lost, err
}

// Blocks is [ReadOnly.Blocks] of a buffer in use: of what is stored when it is
// called. Small blocks come merged. Damage is repaired as by every reader, and
// then stands in the ledger; so does what eviction takes meanwhile.
func (b *Buffer) Blocks(ctx context.Context, q Query, f func(blk []byte) error) error {
	for _, e := range b.Epochs() {
		spans := b.spans(e, q)
		if len(spans) == 0 {
			continue
		}
		if err := b.Sync(ctx); err != nil { // or the newest series could not be told
			return fmt.Errorf("read %s: %w", q.Stream, err)
		}
		if err := b.eachSeries(e, f); err != nil {
			return fmt.Errorf("read %s: %w", q.Stream, err)
		}
		pos := edgeagent.Seq(1)
		for _, span := range spans {
			var err error
			if pos, err = b.spanBlocks(ctx, e, q, max(pos, span.From), span.To, f); err != nil {
				return fmt.Errorf("read %s: %w", q.Stream, err)
			}
		}
	}
	return nil
}

// spans returns the numbers in segments, and in memory, that hold something young enough.
func (b *Buffer) spans(e edgeagent.Epoch, q Query) []edgeagent.Range {
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.epoch(e)
	if ep == nil || !q.Stream.Valid() {
		return nil
	}
	var out []edgeagent.Range
	for _, sg := range ep.streams[q.Stream].segs {
		if sg.records > 0 && sg.maxTime >= q.Since {
			out = append(out, sg.rng())
		}
	}
	t := &ep.streams[q.Stream].tail
	for i := range t.spans {
		for at := t.spans[i].at; at < t.end(i); at++ {
			if t.time(at) >= q.Since {
				out = append(out, t.rng(i))
				break
			}
		}
	}
	return out
}

// spanBlocks reads [pos, to] and returns the number behind the last record read.
func (b *Buffer) spanBlocks(ctx context.Context, e edgeagent.Epoch, q Query, pos, to edgeagent.Seq, f func(blk []byte) error) (edgeagent.Seq, error) {
	for pos <= to {
		batch, ok, err := b.Read(ctx, e, q.Stream, pos, edgeagent.Limit{})
		if err != nil || !ok || batch.First > to {
			return pos, err
		}
		if batch.Last() > to {
			if batch, err = batch.Cut(edgeagent.Range{From: batch.First, To: to}); err != nil {
				return pos, err
			}
		}
		if batch.MaxTime >= q.Since {
			if err := f(batch.Encoded); err != nil {
				return pos, err
			}
		}
		pos = batch.Last() + 1
	}
	return pos, nil
}
