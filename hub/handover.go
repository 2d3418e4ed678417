package hub

import (
	"context"
	"errors"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// intend returns the change that says which cut the sink is about to get, with the block it
// was cut from, so that after a crash it gets the very same cut again.
func (h *Hub) intend(dev *device, ep *epoch, cut *Cut) Change {
	c := h.change(dev, ep)
	c.Pending = &Pending{Stream: cut.Stream, Ranges: cut.Ranges, Add: cut.add, Unsynced: cut.Unsynced, Received: cut.Received, Block: cut.blk}
	return c
}

// handOver gives a cut to the sink. That it is about to is in the store first.
func (h *Hub) handOver(ctx context.Context, dev *device, ep *epoch, cut *Cut) (outcome, error) {
	c := h.intend(dev, ep, cut)
	if err := h.write(ctx, c); err != nil {
		return unfinished, err
	}
	ep.pending[cut.Stream] = c.Pending
	return ended(h.deliver(ctx, dev, ep, cut)), nil
}

// finish hands the sink a cut again of which nobody knows whether it was taken. It
// returns false if ctx ended.
func (h *Hub) finish(ctx context.Context, dev *device, ep *epoch, stream edgeagent.Stream) bool {
	p := ep.pending[stream]
	if p == nil {
		return true
	}
	h.reset(false)
	hdr, err := block.Check(p.Block)
	if err != nil {
		h.log.Error("a cut that was to be stored is damaged", "tenant", dev.key.tenant, "device", dev.key.device, "error", err)
		ep.pending[stream] = nil
		return true
	}
	cut := dev.cut(hdr, p.Ranges, p.Received)
	known, err := h.decode(&cut, ep, hdr, p.Block, p.Add)
	if err != nil || !known {
		h.log.Error("a cut that was to be stored cannot be read", "tenant", dev.key.tenant, "device", dev.key.device, "error", err)
		ep.pending[stream] = nil
		return true
	}
	cut.Unsynced = p.Unsynced
	return h.deliver(ctx, dev, ep, &cut)
}

// deliver gives a cut that is noted as pending to the sink and notes that it is held. It
// returns false if ctx ended.
func (h *Hub) deliver(ctx context.Context, dev *device, ep *epoch, cut *Cut) bool {
	taken, ok := h.pass(ctx, dev, cut)
	return ok && h.note(ctx, dev, ep, cut, taken)
}

// pass gives a cut to the sink. What the sink refuses for good goes into quarantine. It
// returns false if ctx ended.
func (h *Hub) pass(ctx context.Context, dev *device, cut *Cut) (taken, ok bool) {
	err := h.insist(ctx, func() error { return h.opts.Sink.Commit(ctx, *cut) })
	if errors.Is(err, ErrRefused) {
		return false, h.refused(ctx, dev, cut.hdr, cut.blk, err)
	}
	return err == nil, err == nil
}

// note stores that the sink has taken a cut, or has refused it.
func (h *Hub) note(ctx context.Context, dev *device, ep *epoch, cut *Cut, taken bool) bool {
	for {
		var edits []edit
		if taken {
			edits = append(edits, h.holding(ep, cut))
		}
		c := h.change(dev, ep, edits...)
		c.Done = cut.Stream
		err := h.write(ctx, c)
		if err == nil {
			ep.pending[cut.Stream] = nil
			if taken {
				h.hold(ep, edits[0], cut)
			}
			return true
		}
		if !errors.Is(err, ErrStale) || !h.reload(ctx, dev, ep, true) {
			return false
		}
	}
}

// errStopped ends a hand-over whose context has ended.
var errStopped = errors.New("stopped in the middle of a hand-over")

// handOverPlanned gives the sink what is planned, one cut after the other, between one
// commit that says which they are and one that says that they are held. The error is that
// of the first, after which nothing has been handed over, or errStopped.
func (h *Hub) handOverPlanned(ctx context.Context) error {
	var given []*planned // a cut each
	var intents []Change
	for _, p := range h.group.sorted() {
		if len(p.cuts) > 0 {
			given = append(given, p)
			intents = append(intents, h.intend(p.dev, p.ep, p.cuts[0]))
		}
	}
	if len(given) > 0 {
		if err := h.write(ctx, intents...); err != nil {
			return err
		}
	}
	for i, p := range given {
		p.ep.pending[p.stream] = intents[i].Pending
	}
	allTaken := true
	for _, p := range given {
		var ok bool
		if p.taken, ok = h.pass(ctx, p.dev, p.cuts[0]); !ok {
			return errStopped
		}
		allTaken = allTaken && p.taken
	}
	return h.notePlanned(ctx, given, allTaken)
}

// notePlanned stores what has become of what was handed over: at once if the sink has taken
// all of it and nobody has changed the store, otherwise one by one.
func (h *Hub) notePlanned(ctx context.Context, given []*planned, allTaken bool) error {
	parts := slices.Clone(h.group.parts)
	var err error
	if allTaken {
		if err = h.write(ctx, h.changes()...); err == nil {
			for _, p := range given {
				p.ep.pending[p.stream] = nil
			}
			h.adoptPlanned()
			return nil
		}
		if !errors.Is(err, ErrStale) {
			return errStopped
		}
	}
	h.reset(false)
	if err != nil && !h.reloadAll(ctx, parts) {
		return errStopped
	}
	for _, p := range given {
		if !h.note(ctx, p.dev, p.ep, p.cuts[0], p.taken) {
			return errStopped
		}
	}
	for _, p := range parts {
		if p.hdr.Kind == block.KindMarks && !h.alone(ctx, p) {
			return errStopped
		}
	}
	return nil
}
