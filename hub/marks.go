package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// claims is what an agent has said of a stream of its own: how far it goes, and what
// of it can never be delivered. Claims only grow.
type claims struct {
	low, next edgeagent.Seq // 0: nothing was said
	gaps      []NamedGap    // sorted by From, disjoint
}

// explained returns what the agent can no longer deliver.
func (c *claims) explained() edgeagent.Ranges {
	var out edgeagent.Ranges
	if c.low > 1 {
		out.Add(edgeagent.Range{From: 1, To: c.low - 1})
	}
	for _, g := range c.gaps {
		out.Add(edgeagent.Range{From: g.From, To: g.To})
	}
	return out
}

// take adds what marks say. It returns the gaps that are new, or false if they would
// be more than limit.
func (c *claims) take(m block.MarkStream, limit int) (fresh []NamedGap, ok bool) {
	var known edgeagent.Ranges
	for _, g := range c.gaps {
		known.Add(edgeagent.Range{From: g.From, To: g.To})
	}
	for _, g := range m.Gaps {
		for _, r := range known.Missing(edgeagent.Range{From: g.From, To: g.To}) {
			part := NamedGap(g)
			part.From, part.To, part.AtMost = r.From, r.To, min(g.AtMost, r.Len())
			fresh = append(fresh, part)
		}
		known.Add(edgeagent.Range{From: g.From, To: g.To})
	}
	if len(c.gaps)+len(fresh) > limit {
		return nil, false
	}
	c.gaps = append(c.gaps, fresh...)
	slices.SortFunc(c.gaps, func(a, b NamedGap) int { return int(int64(a.From) - int64(b.From)) })
	c.low, c.next = max(c.low, m.Low), max(c.next, m.Next)
	return fresh, true
}

// marks takes up what an agent says of one of its epochs, and returns the epoch. It
// returns false if ctx ended.
func (h *Hub) marks(ctx context.Context, dev *device, blk []byte) (*epoch, bool) {
	m, hdr, err := h.dec.Marks(blk)
	if err != nil {
		return nil, h.quarantine(ctx, dev, CausePoison, hdr, blk)
	}
	ep := h.reach(ctx, dev, m.Epoch)
	if ep == nil {
		return nil, false
	}
	if h.stageMarks(dev, ep, m, hdr, blk) {
		return ep, true
	}
	return ep, h.flush(ctx) && h.marksAlone(ctx, dev, ep, blk)
}

// marksAlone takes up marks while nothing is planned. It returns false if ctx ended.
func (h *Hub) marksAlone(ctx context.Context, dev *device, ep *epoch, blk []byte) bool {
	m, hdr, err := h.dec.Marks(blk)
	if err != nil {
		return h.quarantine(ctx, dev, CausePoison, hdr, blk)
	}
	for {
		err := h.believe(ctx, dev, ep, m)
		if err == nil {
			return true
		}
		if errors.Is(err, ErrRefused) {
			return h.refused(ctx, dev, hdr, blk, err)
		}
		if !errors.Is(err, ErrStale) || !h.reload(ctx, dev, ep, true) {
			return false
		}
	}
}

// believe stores what is new in marks.
func (h *Hub) believe(ctx context.Context, dev *device, ep *epoch, m block.Marks) error {
	edits, news := h.heard(dev, ep, m)
	c := h.change(dev, ep, edits...)
	c.Ended = m.Successor != 0
	c.Clock = ep.unknown(m.Clock, h.lim.corrections)
	if len(edits) > 0 || len(c.Clock) > 0 || c.Ended && !ep.ended {
		if err := h.correct(ctx, c); err != nil {
			return err
		}
		if err := h.write(ctx, c); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.marks++
	ep.ended = ep.ended || c.Ended
	ep.correct(c.Clock, h.lim.corrections)
	h.adopt(ep, edits...)
	for _, n := range news {
		h.report(dev, n.stream, n.gaps)
	}
	return nil
}

// correct tells a sink that wants to hear it of new corrections.
func (h *Hub) correct(ctx context.Context, c Change) error {
	s, ok := h.opts.Sink.(Corrector)
	if !ok {
		return nil
	}
	for _, x := range c.Clock {
		if err := h.insist(ctx, func() error { return s.Correct(ctx, c.EpochID, x) }); err != nil {
			return err
		}
	}
	return nil
}

// news are gaps that the hub had not heard of.
type news struct {
	stream edgeagent.Stream
	gaps   []NamedGap
}

// heard returns how marks change the streams of ep.
func (h *Hub) heard(dev *device, ep *epoch, m block.Marks) (edits []edit, out []news) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range edgeagent.Streams() {
		said, ok := m.Streams[id]
		if !ok {
			continue
		}
		e, was := h.draft(ep, id), h.facts(ep, id)
		fresh, ok := e.said.take(said, h.lim.gaps)
		if !ok {
			h.refuse("too many gaps", dev.key)
			continue
		}
		if e.born == 0 {
			e.born = max(said.Next, 1)
		}
		if len(fresh) == 0 && was.said.low == e.said.low && was.said.next == e.said.next && was.born == e.born {
			continue
		}
		e.named = e.named || len(fresh) > 0
		e.fold()
		e.squeeze(h.lim.ranges)
		edits = append(edits, e)
		out = append(out, news{id, fresh})
	}
	return edits, out
}

// report logs what an agent has lost, once; h.mu is held. What went into rollups, or
// may have been lost in a power cut and was not, is no loss.
func (h *Hub) report(dev *device, id edgeagent.Stream, gaps []NamedGap) {
	var records uint64
	for _, g := range gaps {
		records += g.AtMost
	}
	if records > 0 {
		h.log.Warn("device cannot deliver records any more", "tenant", dev.key.tenant, "device", dev.key.device,
			"stream", id.String(), "gaps", len(gaps), "reason", gaps[0].Reason, "at_most", records)
	}
}

// unknown returns the corrections that are new, one a run; the first counts.
func (e *epoch) unknown(list []block.Correction, limit int) (out []Correction) {
	for _, c := range list {
		_, known := e.clock[c.Run]
		known = known || slices.ContainsFunc(out, func(x Correction) bool { return x.Run == c.Run })
		if !known && len(e.clock)+len(out) < limit {
			out = append(out, Correction{c.Run, time.Duration(c.Add), time.Duration(c.Err)})
		}
	}
	return out
}

// correct remembers clock corrections, one a run; the first counts.
func (e *epoch) correct(list []Correction, limit int) {
	for _, c := range list {
		if _, known := e.clock[c.Run]; !known && len(e.clock) < limit {
			if e.clock == nil {
				e.clock = map[edgeagent.Run]time.Duration{}
			}
			e.clock[c.Run] = c.Add
		}
	}
}

// squeeze makes one span of those below low if there are more than n: nothing of them
// can come again, so nobody asks for their runs.
func (s *facts) squeeze(n int) {
	if len(s.runs) <= n || s.said.low < 2 {
		return
	}
	i := s.runs.find(s.said.low)
	if i < 2 {
		return
	}
	whole := Span{Range: edgeagent.Range{From: s.runs[0].From, To: s.runs[i-1].To}, Mixed: true}
	s.runs = slices.Replace(s.runs, 0, i, whole)
}

// fold makes one range of everything below low: nothing of it can come any more, so
// what is held there need not be told apart from what is not.
func (s *facts) fold() {
	if s.said.low < 2 {
		return
	}
	below := edgeagent.Range{From: 1, To: s.said.low - 1}
	if missing := s.held.Missing(below); len(missing) > 0 {
		s.lost += total(missing)
		s.held.Add(below)
	}
}

// unexplained returns what is neither held nor named by the agent, up to and with
// last.
func (s *facts) unexplained(last edgeagent.Seq) []edgeagent.Range {
	if last == 0 {
		return nil
	}
	known := slices.Clone(s.held)
	for _, r := range s.said.explained() {
		known.Add(r)
	}
	return known.Missing(edgeagent.Range{From: 1, To: last})
}

// top returns the highest number that is held, 0 for none.
func (s *facts) top() edgeagent.Seq {
	if len(s.held) == 0 {
		return 0
	}
	return s.held[len(s.held)-1].To
}

// complete reports whether everything that was said to exist is held or named.
func (s *facts) complete() bool {
	return s.said.next > 0 && len(s.unexplained(max(s.said.next-1, s.top()))) == 0
}

// due returns the number up to which a hole is a hole: nothing comes any more after
// the end of an epoch; before it, what is above the highest held may be on its way.
func (s *facts) due(ended bool) edgeagent.Seq {
	if ended && s.said.next > 0 {
		return max(s.said.next-1, s.top())
	}
	return s.top()
}

// gaps returns the holes of a stream, those with an explanation cut to what is not
// held.
func (s *facts) gaps(ended bool) (out []Gap) {
	for _, r := range s.unexplained(s.due(ended)) {
		out = append(out, Gap{Range: r})
	}
	for _, g := range s.said.gaps {
		for _, r := range s.held.Missing(edgeagent.Range{From: g.From, To: g.To}) {
			out = append(out, Gap{Range: r, Reason: g.Reason, AtMost: min(g.AtMost, r.Len())})
		}
	}
	slices.SortFunc(out, func(a, b Gap) int { return int(int64(a.From) - int64(b.From)) })
	return out
}
