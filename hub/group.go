package hub

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// group is what is planned for the next commit. What has arrived while the last commit ran
// goes into it together, because a small message costs little beside a commit. Whoever has
// the worker's word may use it; it is empty whenever that word is given back.
//
// Only the everyday goes into a group: records whose names are known and whose numbers
// nobody disputes, and marks without anything but gaps and ends. The rest is done alone, after
// what is planned has been committed.
type group struct {
	parts []part
	// edits are the streams that change, in the order in which they were first touched.
	edits  []*planned
	byHome map[*stream]*planned
	ranges int // spans more than are held
	// done are messages that are acknowledged, to acks, too, once the group is stored.
	done  []settledMessage
	acks  *acker
	acked int
}

// part is a block that is planned.
type part struct {
	dev  *device
	ep   *epoch
	hdr  block.Header
	blk  []byte
	news []news // of marks
}

// planned is a stream that a group changes.
type planned struct {
	dev *device
	ep  *epoch
	edit
	cuts  []*Cut // at most one if it goes to a sink
	taken bool   // by the sink
}

// settledMessage is a message that is done with as soon as what is planned is stored.
type settledMessage struct {
	dev     *device // nil: none that anything could be said to
	touched []edgeagent.Epoch
	size    int
	ack     func()
}

// handle deals with messages and acknowledges them. It returns those about which nothing
// must be promised, because ctx ended first.
func (h *Hub) handle(ctx context.Context, list []Delivery, a *acker) (rest []Delivery) {
	select {
	case h.worker <- struct{}{}:
		defer func() { <-h.worker }()
	case <-ctx.Done():
		return list
	}
	g := &h.group
	g.acks, g.acked = a, 0
	defer h.reset(true)
	if h.insist(ctx, func() error { return h.restoreKept(ctx) }) != nil {
		return list
	}
	for _, d := range list {
		if !h.message(ctx, d) {
			return list[g.acked:]
		}
		full := len(h.rows)+len(h.rolls)+len(h.events) >= groupRecords
		if (full || len(g.parts) == 0) && !h.flush(ctx) {
			return list[g.acked:]
		}
	}
	h.flush(ctx)
	return list[g.acked:]
}

// reset forgets what is planned; with all, also which messages wait for it.
func (h *Hub) reset(all bool) {
	g := &h.group
	clear(g.parts)
	clear(g.edits)
	clear(g.byHome)
	g.parts, g.edits, g.ranges = g.parts[:0], g.edits[:0], 0
	h.rows, h.rolls, h.events = h.rows[:0], h.rolls[:0], h.events[:0]
	if all {
		clear(g.done)
		g.done = g.done[:0]
	}
}

// message plans one message, or does what cannot be planned. It returns false when ctx
// ended.
func (h *Hub) message(ctx context.Context, d Delivery) bool {
	m := settledMessage{size: len(d.Payload), ack: d.Ack}
	dev := h.arrive(d.Topic, len(d.Payload))
	if dev == nil {
		h.group.done = append(h.group.done, m)
		return true
	}
	m.dev = dev
	if len(d.Payload) == 0 && !h.quarantine(ctx, dev, CauseFormat, block.Header{}, nil) {
		return false
	}
	for rest := d.Payload; len(rest) > 0; {
		blk, tail, err := block.Next(rest)
		if err != nil {
			if !h.quarantine(ctx, dev, causeOf(err), block.Header{}, rest) {
				return false
			}
			break
		}
		id, ok := h.block(ctx, dev, blk)
		if !ok {
			return false
		}
		if id != nil && !slices.Contains(m.touched, id.id) {
			m.touched = append(m.touched, id.id)
		}
		rest = tail
	}
	h.group.done = append(h.group.done, m)
	return true
}

// facts returns what is true of a stream once what is planned is stored; h.mu is held.
func (h *Hub) facts(ep *epoch, s edgeagent.Stream) *facts {
	st := ep.stream(s)
	if p := h.group.byHome[st]; p != nil {
		return p.facts
	}
	return &st.facts
}

// draft returns a stream as it will be once what is planned is stored, to be changed; h.mu
// is held.
func (h *Hub) draft(ep *epoch, s edgeagent.Stream) edit {
	if p := h.group.byHome[ep.stream(s)]; p != nil {
		e := p.edit
		e.facts = p.clone()
		return e
	}
	return ep.edit(s)
}

// planEdit makes e part of the group, in place of what was planned for its stream; h.mu is
// held.
func (h *Hub) planEdit(dev *device, ep *epoch, e edit) *planned {
	g, st := &h.group, ep.stream(e.stream)
	p := g.byHome[st]
	if p == nil {
		p = &planned{dev: dev, ep: ep}
		p.facts = &st.facts // what it is measured against below
		g.byHome[st] = p
		g.edits = append(g.edits, p)
	}
	g.ranges += len(e.runs) - len(p.runs)
	e.named = e.named || p.named
	p.edit = e
	return p
}

// stage plans a block of records. It returns false if it must be done alone.
func (h *Hub) stage(dev *device, ep *epoch, hdr block.Header, blk []byte) bool {
	if ep.pending[hdr.Stream] != nil {
		return false
	}
	h.mu.Lock()
	clash := h.facts(ep, hdr.Stream).runs.conflicts(hdr.Batch().Range(), hdr.Run)
	h.mu.Unlock()
	if clash {
		return false
	}
	cut, ok := h.plan(dev, ep, hdr)
	if !ok {
		return true
	}
	this := part{dev: dev, ep: ep, hdr: hdr, blk: blk}
	if len(cut.Ranges) == 0 {
		if p := h.group.byHome[ep.streams[hdr.Stream]]; p != nil && len(p.cuts) > 0 { // held once those are
			h.group.parts = append(h.group.parts, this)
		}
		return true
	}
	if known, err := h.decode(&cut, ep, hdr, blk, ep.clock[hdr.Run]); err != nil || !known {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.group.byHome[ep.stream(hdr.Stream)]
	if p == nil {
		p = h.planEdit(dev, ep, ep.edit(hdr.Stream))
	}
	spans := len(p.runs)
	p.take(&cut, h.lim.ranges)
	h.group.ranges += len(p.runs) - spans
	p.cuts = append(p.cuts, &cut)
	h.group.parts = append(h.group.parts, this)
	return true
}

// stageMarks plans what marks say. It returns false if they say what must be done alone.
func (h *Hub) stageMarks(dev *device, ep *epoch, m block.Marks, hdr block.Header, blk []byte) bool {
	if m.Successor != 0 && !ep.ended || len(ep.unknown(m.Clock, h.lim.corrections)) > 0 {
		return false
	}
	edits, told := h.heard(dev, ep, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(edits) == 0 {
		h.count.marks++
		return true
	}
	for _, e := range edits {
		h.planEdit(dev, ep, e)
	}
	h.group.parts = append(h.group.parts, part{dev: dev, ep: ep, hdr: hdr, blk: blk, news: told})
	return true
}

// clashes reports whether a block has to wait for the next group: a sink has one cut of a
// stream in its hands at a time.
func (h *Hub) clashes(ep *epoch, s edgeagent.Stream) bool {
	if h.opts.Sink == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.group.byHome[ep.stream(s)] // which makes the stream, if there was none
	return p != nil && len(p.cuts) > 0
}

// flush stores what is planned, whatever it takes, and acknowledges the messages that are
// done with. It returns false when ctx ended first.
func (h *Hub) flush(ctx context.Context) bool {
	if !h.commit(ctx, 0) {
		return false
	}
	g := &h.group
	for _, m := range g.done {
		if m.dev != nil {
			g.acks.touch(m.dev, m.touched, m.size)
		}
		m.ack()
	}
	g.acked += len(g.done)
	clear(g.done)
	g.done = g.done[:0]
	return true
}

// commit stores what is planned. If that is stale it is planned anew on the state that
// another has changed, once; then, and if the store refuses it, by halves, so that what
// cannot be stored does not keep back the rest.
func (h *Hub) commit(ctx context.Context, attempt int) bool {
	g := &h.group
	if len(g.parts) == 0 {
		h.reset(false)
		return true
	}
	err := h.commitPlanned(ctx)
	if err == nil {
		return true
	}
	parts := slices.Clone(g.parts)
	h.reset(false)
	stale := errors.Is(err, ErrStale)
	if !stale && !errors.Is(err, ErrRefused) {
		return false
	}
	if stale && !h.reloadAll(ctx, parts) {
		return false
	}
	switch {
	case len(parts) == 1:
		return h.alone(ctx, parts[0])
	case stale && attempt == 0:
		return h.anew(ctx, parts, 1)
	}
	half := len(parts) / 2
	return h.anew(ctx, parts[:half], 0) && h.anew(ctx, parts[half:], 0)
}

// anew plans blocks again and stores them, those last that must be done alone now.
func (h *Hub) anew(ctx context.Context, parts []part, attempt int) bool {
	var rest []part
	for _, p := range parts {
		if !h.stagePart(p) {
			rest = append(rest, p)
		}
	}
	if !h.commit(ctx, attempt) {
		return false
	}
	for _, p := range rest {
		if !h.alone(ctx, p) {
			return false
		}
	}
	return true
}

func (h *Hub) stagePart(p part) bool {
	if p.hdr.Kind != block.KindMarks {
		return !h.clashes(p.ep, p.hdr.Stream) && h.stage(p.dev, p.ep, p.hdr, p.blk)
	}
	m, hdr, err := h.dec.Marks(p.blk)
	return err == nil && h.stageMarks(p.dev, p.ep, m, hdr, p.blk)
}

// alone does what cannot be planned, while nothing is planned.
func (h *Hub) alone(ctx context.Context, p part) bool {
	h.reset(false)
	defer h.reset(false)
	if p.hdr.Kind == block.KindMarks {
		return h.marksAlone(ctx, p.dev, p.ep, p.blk)
	}
	return h.recordsAlone(ctx, p.dev, p.ep, p.hdr, p.blk)
}

// reloadAll takes over what the store has of the epochs of parts.
func (h *Hub) reloadAll(ctx context.Context, parts []part) bool {
	seen := map[*epoch]bool{}
	for _, p := range parts {
		if !seen[p.ep] && !h.reload(ctx, p.dev, p.ep, true) {
			return false
		}
		seen[p.ep] = true
	}
	return true
}

// commitPlanned stores what is planned, in one transaction. If the records go to a sink
// there are two, one before it with what it is about to get. After an error nothing of it
// is stored.
func (h *Hub) commitPlanned(ctx context.Context) error {
	if h.opts.Sink != nil {
		return h.handOverPlanned(ctx)
	}
	err := h.write(ctx, h.changes()...)
	if err == nil {
		h.adoptPlanned()
	}
	return err
}

// sorted brings streams into one order for all workers, or two that share a store could
// each wait for what the other holds.
func (g *group) sorted() []*planned {
	slices.SortFunc(g.edits, func(a, b *planned) int {
		return cmp.Or(
			cmp.Compare(a.dev.key.tenant, b.dev.key.tenant), cmp.Compare(a.dev.key.device, b.dev.key.device),
			cmp.Compare(a.ep.id, b.ep.id), cmp.Compare(a.stream, b.stream),
		)
	})
	return g.edits
}

// changes are what makes the group true: a change for each stream, and one more for each
// further cut of it.
func (h *Hub) changes() []Change {
	out := make([]Change, 0, len(h.group.parts))
	for _, p := range h.group.sorted() {
		h.mu.Lock()
		p.recount(p.ep.stream(p.stream))
		h.mu.Unlock()
		c := h.change(p.dev, p.ep, p.edit)
		switch {
		case len(p.cuts) == 0:
		case h.opts.Sink != nil:
			c.Done = p.stream
		default:
			c.Cut = p.cuts[0]
		}
		out = append(out, c)
		if h.opts.Sink != nil {
			continue
		}
		for _, cut := range p.cuts[min(1, len(p.cuts)):] {
			c := h.change(p.dev, p.ep)
			c.Cut = cut
			out = append(out, c)
		}
	}
	return out
}

// adoptPlanned makes the group true in memory, once it is in the store.
func (h *Hub) adoptPlanned() {
	h.mu.Lock()
	for _, p := range h.group.edits {
		h.adopt(p.ep, p.edit)
		for _, cut := range p.cuts {
			h.count.records += uint64(cut.Len())
		}
	}
	for _, p := range h.group.parts {
		if p.hdr.Kind != block.KindMarks {
			continue
		}
		h.count.marks++
		for _, n := range p.news {
			h.report(p.dev, n.stream, n.gaps)
		}
	}
	h.mu.Unlock()
	h.reset(false)
}
