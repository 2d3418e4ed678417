package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

// clone returns facts that share nothing with f.
func (f *facts) clone() *facts {
	c := *f
	c.held, c.runs = slices.Clone(f.held), slices.Clone(f.runs)
	c.conflicts, c.said.gaps = slices.Clone(f.conflicts), slices.Clone(f.said.gaps)
	return &c
}

// state is what a store keeps of f. It shares memory with f.
func (f *facts) state() StreamState {
	return StreamState{
		Version: f.version, Held: f.runs, Low: f.said.low, Next: f.said.next, Born: f.born, Lost: f.lost,
		Resent: f.resent, Disputes: f.disputes, Conflicts: f.conflicts, Newest: f.newest, Seen: f.seen, Gaps: f.said.gaps,
	}
}

// factsOf is the inverse of state.
func factsOf(s StreamState) facts {
	f := facts{
		version: s.Version, runs: s.Held, born: s.Born, lost: s.Lost, resent: s.Resent, disputes: s.Disputes,
		conflicts: s.Conflicts, newest: s.Newest, seen: s.Seen,
		said: claims{low: s.Low, next: s.Next, gaps: s.Gaps},
	}
	for _, x := range s.Held {
		f.held.Add(x.Range)
	}
	if s.Low > 1 {
		f.held.Add(edgeagent.Range{From: 1, To: s.Low - 1})
	}
	return f
}

// edit is a stream as it will be once a change is stored.
type edit struct {
	stream edgeagent.Stream
	named  bool   // its gaps have changed
	again  uint64 // of stream.again, that is in facts.resent now
	*facts
}

func (ep *epoch) edit(s edgeagent.Stream) edit {
	st := ep.stream(s)
	e := edit{stream: s, facts: st.clone()}
	e.recount(st)
	return e
}

// recount takes up what came again and is not stored yet.
func (e *edit) recount(s *stream) {
	e.resent += s.again - e.again
	e.again = s.again
}

// change returns a change of ep that is to make the edits true.
func (h *Hub) change(dev *device, ep *epoch, edits ...edit) Change {
	c := Change{EpochID: dev.key.epoch(ep.id), At: h.opts.Now()}
	for _, e := range edits {
		c.Streams = append(c.Streams, StreamChange{e.stream, e.state(), e.named})
	}
	return c
}

// adopt makes edits true in memory, once they are in the store; h.mu is held.
func (h *Hub) adopt(ep *epoch, edits ...edit) {
	for _, e := range edits {
		s := ep.stream(e.stream)
		h.ranges += len(e.runs) - len(s.runs)
		e.version++
		s.facts = *e.facts
		s.again -= e.again
	}
}

// write stores changes, trying until it works. It returns [ErrStale], [ErrRefused] or the
// reason why ctx ended.
func (h *Hub) write(ctx context.Context, changes ...Change) error {
	return h.insist(ctx, func() error { return h.store.Commit(ctx, changes) })
}

// insist calls f until it works, is stale or refused, or ctx ends.
func (h *Hub) insist(ctx context.Context, f func() error) error {
	for pause := sinkRetryBase; ; pause = min(2*pause, sinkRetryCap) {
		err := f()
		if errors.Is(err, ErrStale) || errors.Is(err, ErrRefused) {
			h.noteSink(nil)
			return err
		}
		h.noteSink(err)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open returns the state of an epoch: from memory, or else from the store, or a new
// one. A cut that was in a sink's hands when the hub ended is handed over again first.
// It returns nil if ctx ended.
func (h *Hub) open(ctx context.Context, dev *device, id edgeagent.Epoch) *epoch {
	h.mu.Lock()
	ep := dev.find(id)
	if ep != nil {
		ep.seen = h.opts.Now()
	}
	h.mu.Unlock()
	if ep != nil {
		return ep
	}
	var saved Saved
	err := h.insist(ctx, func() (err error) {
		saved, err = h.store.Load(ctx, dev.key.epoch(id), true)
		return err
	})
	if err != nil {
		return nil
	}
	ep = h.install(dev, id, saved)
	for s := range ep.pending {
		if !h.finish(ctx, dev, ep, edgeagent.Stream(s)) {
			h.mu.Lock()
			h.close(dev, ep)
			h.mu.Unlock()
			return nil
		}
	}
	return ep
}

// install makes an epoch of what is saved of it, making room if need be.
func (h *Hub) install(dev *device, id edgeagent.Epoch, saved Saved) *epoch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(dev.epochs) >= h.lim.epochs {
		h.forget(dev)
	}
	ep := &epoch{id: id, waiting: map[waitKey]*entry{}, need: map[uint32]struct{}{}}
	dev.epochs = append(dev.epochs, ep)
	ep.seen = h.opts.Now()
	for _, p := range saved.Pending {
		ep.pending[p.Stream] = &p
	}
	h.fill(ep, saved)
	return ep
}

// fill takes over what is saved of an epoch; h.mu is held.
func (h *Hub) fill(ep *epoch, saved Saved) {
	ep.ended = ep.ended || saved.Ended
	for _, s := range saved.Series {
		if ep.names.get(s.ID).IsZero() {
			ep.names.put(s.ID, edgeagent.NewSeries(s.Key))
			delete(ep.need, s.ID)
			h.series++
		}
	}
	ep.correct(saved.Clock, h.lim.corrections)
	for id, s := range saved.Streams {
		st := ep.stream(id)
		h.ranges += len(s.Held) - len(st.runs)
		st.facts = factsOf(s)
	}
	for _, k := range saved.Waiting {
		key := waitKey{k.Stream, k.Range, k.Run}
		if ep.waiting[key] == nil {
			h.kept.take(&entry{Quarantined: k.Quarantined, id: k.ID, blk: k.Block, wait: ep, key: key})
		}
	}
}

// reload takes over what the store has of an epoch: another worker has been there, or the
// store was put back from a backup and has less. Names
// are taken over if the whole of it is asked for. It returns false if ctx ended.
func (h *Hub) reload(ctx context.Context, dev *device, ep *epoch, whole bool) bool {
	var saved Saved
	err := h.insist(ctx, func() (err error) {
		saved, err = h.store.Load(ctx, dev.key.epoch(ep.id), whole)
		return err
	})
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.reloads++
	for id, st := range ep.streams {
		if _, stored := saved.Streams[edgeagent.Stream(id)]; st != nil && st.version != 0 && !stored {
			h.ranges -= len(st.runs)
			st.facts = facts{}
		}
	}
	if whole {
		h.series -= ep.names.count
		ep.names, ep.clock = names{}, nil
	}
	h.fill(ep, saved)
	return true
}

// Restore loads everything that the hub's store knows, so that [Hub.Stats] and
// [Hub.Gaps] speak of devices that have not been heard since the hub began. Without it
// a device is loaded when it is heard. A cut that was in a sink's hands when the hub
// ended is handed to it again.
func (h *Hub) Restore(ctx context.Context) error {
	select {
	case h.worker <- struct{}{}:
		defer func() { <-h.worker }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := h.restoreKept(ctx); err != nil {
		return err
	}
	ids, err := h.store.Epochs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		h.mu.Lock()
		dev := h.device(deviceKey{id.Tenant, id.Device})
		h.mu.Unlock()
		if dev == nil {
			continue // over a bound, and counted
		}
		ep := h.open(ctx, dev, id.Epoch)
		if ep == nil {
			return ctx.Err()
		}
		h.mu.Lock()
		ep.seen = ep.newestSight()
		if ep.seen.After(dev.seen) {
			dev.seen = ep.seen
		}
		h.mu.Unlock()
	}
	return nil
}

// newestSight is when a record or a word of the epoch came last.
func (ep *epoch) newestSight() (seen time.Time) {
	for _, s := range ep.streams {
		if s != nil {
			seen = later(seen, s.seen)
		}
	}
	return seen
}

// restoreKept takes over the quarantine of an earlier life, once.
func (h *Hub) restoreKept(ctx context.Context) error {
	if h.restored {
		return nil
	}
	list, err := h.store.Kept(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range list {
		h.kept.take(&entry{Quarantined: k.Quarantined, id: k.ID, blk: k.Block})
	}
	h.restored = true
	return nil
}
