package buffer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Marks says how far an epoch goes and what of it a destination can no longer get:
// what it has confirmed, what the gaps name and what is below low are together all
// numbers below next, but for what it is still owed. An epoch with a successor has
// ended.
func (b *Buffer) Marks(dest string, e edgeagent.Epoch) (block.Marks, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, i := b.dests[dest], b.epochIndex(e)
	switch {
	case d == nil || !d.registered:
		return block.Marks{}, fmt.Errorf("marks for %s: %w", dest, errUnknownDestination)
	case i < 0:
		return block.Marks{}, fmt.Errorf("marks for %s: %w %s", dest, errUnknownEpoch, e)
	}
	ep := b.epochs[i]
	m := block.Marks{Epoch: e, Prev: ep.prev, Run: b.run, Clock: b.marksClock(ep), Streams: map[edgeagent.Stream]block.MarkStream{}}
	if i+1 < len(b.epochs) {
		m.Successor = b.epochs[i+1].id
	}
	for _, s := range edgeagent.Streams() {
		ch, p := ep.streams[s], d.place(e, s)
		ms := block.MarkStream{Low: max(ch.low, p.own.low), Next: ch.next}
		for _, g := range unionGaps(ch.gaps, p.own.gaps) {
			ms.Gaps = append(ms.Gaps, g.mark())
		}
		m.Streams[s] = ms
	}
	return m, nil
}

// mark is a gap as it travels.
func (g Gap) mark() block.Gap {
	m := block.Gap{From: g.From, To: g.To, Reason: string(g.Reason), AtMost: g.AtMost, TFrom: g.TFrom, TTo: g.TTo}
	if g.Rollup.Len() > 0 {
		m.Rollup = []edgeagent.Seq{g.Rollup.From, g.Rollup.To}
	}
	return m
}

// epochIndex returns the place of an epoch, -1 if there is none; b.mu is held.
func (b *Buffer) epochIndex(e edgeagent.Epoch) int {
	return slices.IndexFunc(b.epochs, func(ep *epoch) bool { return ep.id == e })
}

// unionGaps returns the gaps of both lists, sorted and disjoint. Where they
// overlap, the first counts. Both are sorted and disjoint, and are left as they
// are.
func unionGaps(first, second []Gap) []Gap {
	var covered edgeagent.Ranges
	for _, g := range first {
		covered.Add(g.Range)
	}
	out := slices.Clone(first)
	for _, g := range second {
		for _, part := range covered.Missing(g.Range) {
			p := g
			p.Range, p.AtMost = part, min(g.AtMost, part.Len())
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Gap) int { return int(int64(a.From) - int64(b.From)) })
	return out
}

// MarksVersion returns a number that differs whenever the marks for a destination
// have changed in anything but next, in any epoch: what was appended since tells
// the receiver itself. It costs no more than a walk over the chains.
func (b *Buffer) MarksVersion(dest string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.dests[dest]
	n := uint64(len(b.epochs))
	if c := b.corrections.Load(); c != nil {
		n += c.first + uint64(len(c.list))
	}
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			n += ep.streams[s].version
			if d != nil {
				n += d.place(ep.id, s).own.version
			}
		}
	}
	return n
}

// itemsPerMarks is how many gaps and corrections are tried in one block of marks.
const itemsPerMarks = 1024

// MarksBlocks returns the marks as blocks of at most limit bytes each (0: as long
// as a block may be): every block has low and next of all streams, and the gaps
// are spread over them. A receiver collects gaps, so each block is true alone.
func (b *Buffer) MarksBlocks(dest string, e edgeagent.Epoch, limit int) ([][]byte, error) {
	m, err := b.Marks(dest, e)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || limit > block.MaxStored {
		limit = block.MaxStored
	}
	blocks, err := cutMarks(m, limit)
	if err != nil {
		return nil, fmt.Errorf("marks for %s: %w", dest, err)
	}
	return blocks, nil
}

// cutMarks deals the gaps and corrections out to as few blocks as hold them.
func cutMarks(m block.Marks, limit int) ([][]byte, error) {
	type item struct {
		stream edgeagent.Stream // 0: a correction
		gap    block.Gap
		clock  block.Correction
	}
	var list []item
	for _, c := range m.Clock {
		list = append(list, item{clock: c})
	}
	for _, s := range edgeagent.Streams() {
		for _, g := range m.Streams[s].Gaps {
			list = append(list, item{stream: s, gap: g})
		}
	}
	var enc block.Encoder
	var out [][]byte
	for n := itemsPerMarks; len(out) == 0 || len(list) > 0; {
		n = min(n, len(list))
		part := m
		part.Clock, part.Streams = nil, map[edgeagent.Stream]block.MarkStream{}
		for s, ms := range m.Streams {
			part.Streams[s] = block.MarkStream{Low: ms.Low, Next: ms.Next}
		}
		for _, x := range list[:n] {
			if x.stream == 0 {
				part.Clock = append(part.Clock, x.clock)
				continue
			}
			ms := part.Streams[x.stream]
			ms.Gaps = append(ms.Gaps, x.gap)
			part.Streams[x.stream] = ms
		}
		blk, err := enc.Marks(nil, part)
		switch {
		case err != nil && !errors.Is(err, block.ErrTooLarge):
			return nil, err
		case err == nil && len(blk) <= limit:
			out, list = append(out, blk), list[n:]
			n = itemsPerMarks
		case n <= 1:
			return nil, fmt.Errorf("marks do not fit into %d bytes", limit)
		default:
			n /= 2
		}
	}
	return out, nil
}
