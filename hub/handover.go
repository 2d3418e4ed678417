package hub

import (
	"context"
	"errors"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// handOver gives a cut to the sink. That it is about to is in the store first, with the
// block it was cut from, so that after a crash in between the sink gets the very same
// cut again. It returns false if ctx ended.
func (h *Hub) handOver(ctx context.Context, dev *device, ep *epoch, cut Cut) bool {
	p := &Pending{Stream: cut.Stream, Ranges: cut.Ranges, Add: cut.add, Unsynced: cut.Unsynced, Received: cut.Received, Block: cut.blk}
	c := h.change(dev, ep)
	c.Pending = p
	ep.pending[cut.Stream] = p
	return h.write(ctx, c) == nil && h.deliver(ctx, dev, ep, cut)
}

// finish hands the sink a cut again of which nobody knows whether it was taken. It
// returns false if ctx ended.
func (h *Hub) finish(ctx context.Context, dev *device, ep *epoch, stream edgeagent.Stream) bool {
	p := ep.pending[stream]
	if p == nil {
		return true
	}
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
	return h.deliver(ctx, dev, ep, cut)
}

// deliver gives a cut that is noted as pending to the sink and notes that it is held. What
// the sink refuses for good goes into quarantine.
func (h *Hub) deliver(ctx context.Context, dev *device, ep *epoch, cut Cut) bool {
	refused := h.insist(ctx, func() error { return h.opts.Sink.Commit(ctx, cut) })
	if refused != nil && !errors.Is(refused, ErrRefused) {
		return false
	}
	if refused != nil && !h.refused(ctx, dev, cut.hdr, cut.blk, refused) {
		return false
	}
	for {
		var edits []edit
		if refused == nil {
			edits = append(edits, h.holding(ep, &cut))
		}
		c := h.change(dev, ep, edits...)
		c.Done = cut.Stream
		err := h.write(ctx, c)
		if err == nil {
			ep.pending[cut.Stream] = nil
			if refused == nil {
				h.hold(ep, edits[0], &cut)
			}
			return true
		}
		if !errors.Is(err, ErrStale) || !h.reload(ctx, dev, ep, true) {
			return false
		}
	}
}
