package hub

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of the retries of sinks and stores.
const (
	sinkRetryBase = 100 * time.Millisecond
	sinkRetryCap  = 10 * time.Second
)

// define takes up the names in a series block and whatever waited for them. It returns
// false if ctx ended.
func (h *Hub) define(ctx context.Context, dev *device, blk []byte) (*epoch, bool) {
	name, id, entries, hdr, err := h.dec.Series(blk)
	if err != nil || name != dev.key.device {
		return nil, h.quarantine(ctx, dev, CausePoison, hdr, blk)
	}
	ep := h.reach(ctx, dev, id)
	if ep == nil {
		return nil, false
	}
	if fresh, ok := ep.names.fresh(entries); ok && len(fresh) == 0 && len(ep.waiting) == 0 && !h.opts.Shared {
		return ep, true
	}
	if !h.flush(ctx) {
		return ep, false
	}
	for {
		fresh, ok := ep.names.fresh(entries)
		if !ok { // an id is given once and never again
			return ep, h.quarantine(ctx, dev, CausePoison, hdr, blk)
		}
		if !h.room(dev, ep, len(fresh)) {
			return ep, true
		}
		err := h.learn(ctx, dev, ep, fresh)
		if err == nil {
			break
		}
		if errors.Is(err, ErrRefused) {
			return ep, h.refused(ctx, dev, hdr, blk, err)
		}
		if !errors.Is(err, ErrStale) || !h.reload(ctx, dev, ep, true) {
			return ep, false
		}
	}
	if h.opts.Shared && !h.reload(ctx, dev, ep, false) { // for what waits elsewhere
		return ep, false
	}
	return ep, h.takeUp(ctx, dev, ep)
}

// takeUp stores the blocks that waited for names that are known now.
func (h *Hub) takeUp(ctx context.Context, dev *device, ep *epoch) bool {
	for _, e := range h.waitingIn(ep) {
		hdr, err := block.Check(e.blk)
		if err != nil {
			continue // cannot be: it was checked before it was put there
		}
		switch h.records(ctx, dev, ep, hdr, e.blk) {
		case unfinished:
			return false
		case settled:
			if !h.release(ctx, dev, ep, e) {
				return false
			}
		}
	}
	return true
}

// fresh returns the entries that are new. It returns false if one contradicts
// what is known.
func (n *names) fresh(entries []block.SeriesEntry) ([]SeriesName, bool) {
	var out []SeriesName
	for _, e := range entries {
		switch known := n.get(e.ID); {
		case known.IsZero():
			out = append(out, SeriesName(e))
		case known != edgeagent.NewSeries(e.Key):
			return nil, false
		}
	}
	return out, true
}

// room reports whether n more names are within the bounds.
func (h *Hub) room(dev *device, ep *epoch, n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n > 0 && (ep.names.count+n > h.lim.series || h.series+n > h.lim.allSeries) {
		h.refuse("too many series", dev.key)
		return false
	}
	return true
}

func (h *Hub) learn(ctx context.Context, dev *device, ep *epoch, fresh []SeriesName) error {
	if len(fresh) == 0 {
		return nil
	}
	c := h.change(dev, ep)
	c.Series = fresh
	if err := h.write(ctx, c); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fill(ep, Saved{Series: fresh})
	return nil
}

// waitingIn returns the blocks that wait for names of ep, lowest number first.
func (h *Hub) waitingIn(ep *epoch) []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*entry, 0, len(ep.waiting))
	for _, e := range ep.waiting {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.Range.From, b.Range.From) })
	return out
}

func (h *Hub) release(ctx context.Context, dev *device, ep *epoch, e *entry) bool {
	c := h.change(dev, ep)
	c.Drop = []uint64{e.id}
	if h.write(ctx, c) != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept.remove(e)
	h.count.released++
	return true
}

// outcome is what became of the records of a block.
type outcome uint8

const (
	settled    outcome = iota // held, or in quarantine, or refused
	nameless                  // a series is not known
	unfinished                // ctx ended first
)

func ended(ok bool) outcome {
	if ok {
		return settled
	}
	return unfinished
}

// records stores what is new in a block of readings, rollups or events.
func (h *Hub) records(ctx context.Context, dev *device, ep *epoch, hdr block.Header, blk []byte) outcome {
	if !h.finish(ctx, dev, ep, hdr.Stream) {
		return unfinished
	}
	for {
		out, err := h.tryRecords(ctx, dev, ep, hdr, blk)
		if err == nil {
			return out
		}
		if errors.Is(err, ErrRefused) {
			return ended(h.refused(ctx, dev, hdr, blk, err))
		}
		if !errors.Is(err, ErrStale) || !h.reload(ctx, dev, ep, true) {
			return unfinished
		}
	}
}

func (h *Hub) tryRecords(ctx context.Context, dev *device, ep *epoch, hdr block.Header, blk []byte) (outcome, error) {
	h.reset(false)
	h.mu.Lock()
	clash := ep.stream(hdr.Stream).runs.conflicts(hdr.Batch().Range(), hdr.Run)
	h.mu.Unlock()
	if clash {
		return settled, h.conflict(ctx, dev, ep, hdr, blk)
	}
	cut, ok := h.plan(dev, ep, hdr)
	if !ok || len(cut.Ranges) == 0 {
		return settled, nil
	}
	known, err := h.decode(&cut, ep, hdr, blk, ep.clock[hdr.Run])
	switch {
	case err != nil:
		return ended(h.quarantine(ctx, dev, causeOf(err), hdr, blk)), nil
	case !known:
		return nameless, nil
	case h.opts.Sink != nil:
		return h.handOver(ctx, dev, ep, &cut)
	}
	e := h.holding(ep, &cut)
	c := h.change(dev, ep, e)
	c.Cut = &cut
	if err := h.write(ctx, c); err != nil {
		return unfinished, err
	}
	h.hold(ep, e, &cut)
	return settled, nil
}

// holding is the cut's stream once the cut is stored.
func (h *Hub) holding(ep *epoch, cut *Cut) edit {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := ep.edit(cut.Stream)
	e.take(cut, h.lim.ranges)
	return e
}

func (h *Hub) hold(ep *epoch, e edit, cut *Cut) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.adopt(ep, e)
	h.count.records += uint64(cut.Len())
}

// conflict puts a block into quarantine whose numbers are held under another run.
func (h *Hub) conflict(ctx context.Context, dev *device, ep *epoch, hdr block.Header, blk []byte) error {
	r := hdr.Batch().Range()
	h.mu.Lock()
	e := ep.edit(hdr.Stream)
	h.mu.Unlock()
	e.seen = h.opts.Now()
	e.dispute(edgeagent.Conflict{Stream: hdr.Stream, From: r.From, To: r.To, Run: hdr.Run}, h.lim.conflicts)
	return h.keep(ctx, dev, &entry{Quarantined: describe(dev, CauseConflict, hdr, len(blk), e.seen), blk: blk}, ep, e)
}

// plan decides what of a block is new. It returns false if the block is not to
// be stored at all.
func (h *Hub) plan(dev *device, ep *epoch, hdr block.Header) (Cut, bool) {
	r := hdr.Batch().Range()
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	s, f := ep.stream(hdr.Stream), h.facts(ep, hdr.Stream)
	s.seen = now
	missing := f.held.Missing(r)
	full := !f.fits(r, h.lim.ranges) || h.ranges+h.group.ranges >= h.lim.allRanges && !f.fits(r, 0)
	switch {
	case len(missing) == 0 && f == &s.facts:
		s.again += r.Len()
	case len(missing) == 0:
		f.resent += r.Len()
	case full:
		s.again += r.Len() - total(missing)
		h.refuse("too many ranges", dev.key)
		return Cut{}, false
	}
	return dev.cut(hdr, missing, now), true
}

func (d *device) cut(hdr block.Header, ranges []edgeagent.Range, received time.Time) Cut {
	return Cut{
		Tenant: d.key.tenant, Device: d.key.device, Epoch: hdr.Epoch, Stream: hdr.Stream, Run: hdr.Run,
		Ranges: ranges, Unsynced: hdr.Unsynced, Received: received,
	}
}

func total(ranges []edgeagent.Range) (n uint64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// noteSink counts and logs what became of a commit; only changes are worth a
// line.
func (h *Hub) noteSink(err error) {
	h.mu.Lock()
	failing := h.count.sinkError != ""
	if err != nil {
		h.count.sinkErrors++
		h.count.sinkError = err.Error()
	} else {
		h.count.sinkError = ""
	}
	h.mu.Unlock()
	switch {
	case err != nil && !failing:
		h.log.Warn("sink fails, trying again", "error", err)
	case err == nil && failing:
		h.log.Info("sink works again")
	}
}

// wait puts a block into quarantine until its names come. It returns false if ctx
// ended.
func (h *Hub) wait(ctx context.Context, dev *device, ep *epoch, hdr block.Header, blk []byte) bool {
	key := waitKey{hdr.Stream, hdr.Batch().Range(), hdr.Run}
	h.mu.Lock()
	again := ep.waiting[key] != nil
	h.mu.Unlock()
	if again {
		return true
	}
	e := &entry{Quarantined: describe(dev, CauseSeries, hdr, len(blk), h.opts.Now()), blk: blk, wait: ep, key: key}
	if h.keep(ctx, dev, e, ep) != nil {
		return false
	}
	if !h.opts.Shared {
		return true
	}
	// Another worker may have heard the names, and looked for this block, meanwhile.
	return h.reload(ctx, dev, ep, true) && h.takeUp(ctx, dev, ep)
}

// refused keeps a block that the sink or store will never take. It returns false if ctx
// ended.
func (h *Hub) refused(ctx context.Context, dev *device, hdr block.Header, blk []byte, why error) bool {
	h.mu.Lock()
	first := h.count.unfit == 0
	h.count.unfit++
	h.mu.Unlock()
	if first {
		h.log.Error("the sink refuses records for good", "tenant", dev.key.tenant, "device", dev.key.device, "error", why)
	}
	return h.quarantine(ctx, dev, CausePoison, hdr, blk)
}

// quarantine keeps a block that cannot be stored. It returns false if ctx ended.
func (h *Hub) quarantine(ctx context.Context, dev *device, cause Cause, hdr block.Header, blk []byte) bool {
	e := &entry{Quarantined: describe(dev, cause, hdr, len(blk), h.opts.Now()), blk: blk}
	return h.keep(ctx, dev, e, nil) == nil
}

// keep puts e into quarantine, together with the edits of an epoch if there are any.
// Want of a name is an everyday thing; of the rest the first block is logged, and each
// thousandth.
func (h *Hub) keep(ctx context.Context, dev *device, e *entry, ep *epoch, edits ...edit) error {
	h.mu.Lock()
	out, ok := h.kept.plan(e)
	h.mu.Unlock()
	c := Change{EpochID: dev.key.epoch(0), At: e.At}
	if ep != nil {
		c = h.change(dev, ep, edits...)
	}
	if ok {
		e.id = rand.Uint64()>>1 | 1
		c.Keep = []Kept{{e.id, e.Quarantined, e.blk}}
	}
	for _, old := range out {
		c.Drop = append(c.Drop, old.id)
	}
	if err := h.write(ctx, c); errors.Is(err, ErrRefused) {
		ok, edits = false, nil // counted, and told of in the log
	} else if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.adopt(ep, edits...)
	n := &h.count.quarantined[e.Cause]
	if *n%1000 == 0 && e.Cause != CauseSeries {
		h.log.Warn("block in quarantine", "cause", e.Cause.String(), "tenant", e.Tenant, "device", e.Device, "blocks", *n+1)
	}
	*n++
	h.kept.put(e, out, ok)
	return nil
}

func describe(dev *device, cause Cause, hdr block.Header, size int, now time.Time) Quarantined {
	q := Quarantined{
		Tenant: dev.key.tenant, Device: dev.key.device, Cause: cause,
		Epoch: hdr.Epoch, Stream: hdr.Stream, Run: hdr.Run, Bytes: size, At: now,
	}
	if hdr.First != 0 {
		q.Range = hdr.Batch().Range()
	}
	return q
}
