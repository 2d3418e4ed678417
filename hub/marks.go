package hub

import (
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// claims is what an agent has said of a stream of its own: how far it goes, and what
// of it can never be delivered. Claims only grow.
type claims struct {
	low, next edgeagent.Seq // 0: nothing was said
	gaps      []block.Gap   // sorted by From, disjoint
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
func (c *claims) take(m block.MarkStream, limit int) (fresh []block.Gap, ok bool) {
	var known edgeagent.Ranges
	for _, g := range c.gaps {
		known.Add(edgeagent.Range{From: g.From, To: g.To})
	}
	for _, g := range m.Gaps {
		for _, r := range known.Missing(edgeagent.Range{From: g.From, To: g.To}) {
			part := g
			part.From, part.To, part.AtMost = r.From, r.To, min(g.AtMost, r.Len())
			fresh = append(fresh, part)
		}
		known.Add(edgeagent.Range{From: g.From, To: g.To})
	}
	if len(c.gaps)+len(fresh) > limit {
		return nil, false
	}
	c.gaps = append(c.gaps, fresh...)
	slices.SortFunc(c.gaps, func(a, b block.Gap) int { return int(int64(a.From) - int64(b.From)) })
	c.low, c.next = max(c.low, m.Low), max(c.next, m.Next)
	return fresh, true
}

// marks takes up what an agent says of one of its epochs, and returns the epoch.
func (h *Hub) marks(dev *device, blk []byte) *epoch {
	m, hdr, err := h.dec.Marks(blk)
	if err != nil {
		h.quarantine(dev, CausePoison, hdr, blk)
		return nil
	}
	ep := h.epoch(dev, m.Epoch)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.marks++
	ep.ended = ep.ended || m.Successor != 0
	ep.correct(m.Clock, h.lim.corrections)
	for _, id := range edgeagent.Streams() {
		said, ok := m.Streams[id]
		if !ok {
			continue
		}
		s := ep.stream(id)
		fresh, ok := s.said.take(said, h.lim.gaps)
		if !ok {
			h.refuse("too many gaps", dev.key)
			continue
		}
		if s.time.born == 0 {
			s.time.born = max(said.Next, 1)
		}
		s.fold()
		h.report(dev, id, fresh)
	}
	return ep
}

// report logs what an agent has lost, once; h.mu is held. What went into rollups, or
// may have been lost in a power cut and was not, is no loss.
func (h *Hub) report(dev *device, id edgeagent.Stream, gaps []block.Gap) {
	var records uint64
	for _, g := range gaps {
		records += g.AtMost
	}
	if records > 0 {
		h.log.Warn("device cannot deliver records any more", "tenant", dev.key.tenant, "device", dev.key.device,
			"stream", id.String(), "gaps", len(gaps), "reason", gaps[0].Reason, "at_most", records)
	}
}

// correct remembers clock corrections, one a run; the first counts.
func (e *epoch) correct(list []block.Correction, limit int) {
	for _, c := range list {
		if _, known := e.clock[c.Run]; !known && len(e.clock) < limit {
			if e.clock == nil {
				e.clock = map[edgeagent.Run]time.Duration{}
			}
			e.clock[c.Run] = time.Duration(c.Add)
		}
	}
}

// fold makes one range of everything below low: nothing of it can come any more, so
// what is held there need not be told apart from what is not.
func (s *stream) fold() {
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
func (s *stream) unexplained(last edgeagent.Seq) []edgeagent.Range {
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
func (s *stream) top() edgeagent.Seq {
	if len(s.held) == 0 {
		return 0
	}
	return s.held[len(s.held)-1].To
}

// complete reports whether everything that was said to exist is held or named.
func (s *stream) complete() bool {
	return s.said.next > 0 && len(s.unexplained(max(s.said.next-1, s.top()))) == 0
}

// due returns the number up to which a hole is a hole: nothing comes any more after
// the end of an epoch; before it, what is above the highest held may be on its way.
func (s *stream) due(ended bool) edgeagent.Seq {
	if ended && s.said.next > 0 {
		return max(s.said.next-1, s.top())
	}
	return s.top()
}

// gaps returns the holes of a stream, those with an explanation cut to what is not
// held.
func (s *stream) gaps(ended bool) (out []Gap) {
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
