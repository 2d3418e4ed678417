package hub

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of a sink's retries.
const (
	sinkRetryBase = 100 * time.Millisecond
	sinkRetryCap  = 10 * time.Second
)

// define takes up the names in a series block and whatever waited for them.
func (h *Hub) define(ctx context.Context, dev *device, blk []byte) (*epoch, bool) {
	name, id, entries, hdr, err := h.dec.Series(blk)
	if err != nil || name != dev.key.device {
		h.quarantine(dev, CausePoison, hdr, blk)
		return nil, true
	}
	ep := h.epoch(dev, id)
	fresh, ok := ep.names.fresh(entries)
	if !ok { // an id is given once and never again
		h.quarantine(dev, CausePoison, hdr, blk)
		return ep, true
	}
	if !h.learn(dev, ep, fresh) {
		return ep, true
	}
	for _, e := range h.waitingIn(ep) {
		hdr, err := block.Check(e.blk)
		if err != nil {
			continue // cannot be: it was checked before it was put there
		}
		switch h.records(ctx, dev, ep, hdr, e.blk) {
		case unfinished:
			return ep, false
		case settled:
			h.release(e)
		}
	}
	return ep, true
}

// fresh returns the entries that are new. It returns false if one contradicts
// what is known.
func (n *names) fresh(entries []block.SeriesEntry) ([]block.SeriesEntry, bool) {
	var out []block.SeriesEntry
	for _, e := range entries {
		switch known := n.get(e.ID); {
		case known.IsZero():
			out = append(out, e)
		case known != edgeagent.NewSeries(e.Key):
			return nil, false
		}
	}
	return out, true
}

func (h *Hub) learn(dev *device, ep *epoch, fresh []block.SeriesEntry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ep.names.count+len(fresh) > h.lim.series || h.series+len(fresh) > h.lim.allSeries {
		h.refuse("too many series", dev.key)
		return false
	}
	for _, e := range fresh {
		ep.names.put(e.ID, edgeagent.NewSeries(e.Key))
		delete(ep.need, e.ID)
	}
	h.series += len(fresh)
	return true
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

func (h *Hub) release(e *entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept.remove(e)
	h.count.released++
}

// outcome is what became of the records of a block.
type outcome uint8

const (
	settled    outcome = iota // held, or in quarantine, or refused
	nameless                  // a series is not known
	unfinished                // ctx ended first
)

// records stores what is new in a block of readings, rollups or events.
func (h *Hub) records(ctx context.Context, dev *device, ep *epoch, hdr block.Header, blk []byte) outcome {
	cut, ok := h.plan(dev, ep, hdr, blk)
	if !ok || len(cut.Ranges) == 0 {
		return settled
	}
	known, err := h.decode(&cut, ep, hdr, blk)
	if err != nil {
		h.quarantine(dev, causeOf(err), hdr, blk)
		return settled
	}
	if !known {
		return nameless
	}
	if !h.commit(ctx, cut) {
		return unfinished
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := ep.stream(hdr.Stream)
	h.ranges += s.hold(cut.Ranges, hdr.Run, h.lim.ranges)
	s.newest = max(s.newest, hdr.MaxTime)
	h.count.records += uint64(cut.Len())
	return settled
}

// plan decides what of a block is new. It returns false if the block is not to
// be stored at all.
func (h *Hub) plan(dev *device, ep *epoch, hdr block.Header, blk []byte) (Cut, bool) {
	r := hdr.Batch().Range()
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	s := ep.stream(hdr.Stream)
	s.seen = now
	if s.runs.conflicts(r, hdr.Run) {
		s.dispute(edgeagent.Conflict{Stream: hdr.Stream, From: r.From, To: r.To, Run: hdr.Run}, h.lim.conflicts)
		h.keep(&entry{Quarantined: describe(dev, CauseConflict, hdr, len(blk), now), blk: blk})
		return Cut{}, false
	}
	missing := s.held.Missing(r)
	s.resent += r.Len() - total(missing)
	full := !s.fits(r, h.lim.ranges) || h.ranges >= h.lim.allRanges && !s.fits(r, 0)
	if len(missing) > 0 && full {
		h.refuse("too many ranges", dev.key)
		return Cut{}, false
	}
	return Cut{
		Tenant: dev.key.tenant, Device: dev.key.device, Epoch: hdr.Epoch, Stream: hdr.Stream, Run: hdr.Run,
		Ranges: missing, Unsynced: hdr.Unsynced, Received: now,
	}, true
}

func total(ranges []edgeagent.Range) (n uint64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// decode fills in the records of cut.Ranges. It returns false if a series is not
// known.
func (h *Hub) decode(cut *Cut, ep *epoch, hdr block.Header, blk []byte) (known bool, err error) {
	switch hdr.Kind {
	case block.KindEvents:
		return true, h.decodeEvents(cut, ep, hdr, blk)
	case block.KindRollup:
		return h.decodeRollups(cut, ep, hdr, blk)
	}
	return h.decodeReadings(cut, ep, hdr, blk)
}

// correct returns what to add to the times of a block: nothing, unless they were
// taken without a clock and the agent has learnt since how wrong it was.
func (c *Cut) correct(ep *epoch, hdr block.Header) int64 {
	add, known := ep.clock[hdr.Run]
	if !hdr.Unsynced || !known {
		return 0
	}
	c.Unsynced = false
	return int64(add)
}

func (h *Hub) decodeEvents(cut *Cut, ep *epoch, hdr block.Header, blk []byte) (err error) {
	h.plain, _, err = h.dec.Events(h.plain[:0], blk)
	if err != nil {
		return err
	}
	h.events = h.events[:0]
	add := cut.correct(ep, hdr)
	for _, r := range cut.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			e := h.plain[seq-hdr.First]
			e.At.Wall += add
			h.events = append(h.events, Event{seq, e})
		}
	}
	cut.Events = h.events
	return nil
}

func (h *Hub) decodeReadings(cut *Cut, ep *epoch, hdr block.Header, blk []byte) (known bool, err error) {
	h.raw, _, err = h.dec.Readings(h.raw[:0], blk)
	if err != nil {
		return false, err
	}
	h.rows = h.rows[:0]
	add := cut.correct(ep, hdr)
	for _, r := range cut.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			raw := h.raw[seq-hdr.First]
			series := ep.names.get(raw.Series)
			if series.IsZero() {
				h.ask(ep, len(h.raw), func(i int) uint32 { return h.raw[i].Series })
				return false, nil
			}
			h.rows = append(h.rows, Row{seq, series, raw.Time + add, raw.Value, raw.Quality})
		}
	}
	cut.Rows = h.rows
	return true, nil
}

func (h *Hub) decodeRollups(cut *Cut, ep *epoch, hdr block.Header, blk []byte) (known bool, err error) {
	var source block.RollupSource
	h.folded, source, _, err = h.dec.Rollup(h.folded[:0], blk)
	if err != nil {
		return false, err
	}
	bucket := time.Duration(source.Bucket) * time.Second
	h.rolls = h.rolls[:0]
	add := cut.correct(ep, hdr)
	for _, r := range cut.Ranges {
		for seq := r.From; seq <= r.To; seq++ {
			row := h.folded[seq-hdr.First]
			series := ep.names.get(row.Series)
			if series.IsZero() {
				h.ask(ep, len(h.folded), func(i int) uint32 { return h.folded[i].Series })
				return false, nil
			}
			h.rolls = append(h.rolls, Rollup{seq, edgeagent.Rollup{
				Series: series, At: edgeagent.Instant{Wall: row.Time + add}, Bucket: bucket, Count: row.Count,
				Sum: row.Sum, Min: row.Min, Max: row.Max, First: row.First, Last: row.Last,
			}})
		}
	}
	cut.Rollups = h.rolls
	return true, nil
}

// ask notes which names are missing for n rows.
func (h *Hub) ask(ep *epoch, n int, series func(i int) uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range n {
		if len(ep.need) >= h.lim.need {
			return
		}
		if ep.names.get(series(i)).IsZero() {
			ep.need[series(i)] = struct{}{}
		}
	}
}

// commit hands cut to the sink until the sink takes it. It returns false when ctx
// ended first.
func (h *Hub) commit(ctx context.Context, cut Cut) bool {
	for pause := sinkRetryBase; ; pause = min(2*pause, sinkRetryCap) {
		err := h.opts.Sink.Commit(ctx, cut)
		h.noteSink(err)
		if err == nil {
			return true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
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

// wait puts a block into quarantine until its names come.
func (h *Hub) wait(dev *device, ep *epoch, hdr block.Header, blk []byte) {
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	key := waitKey{hdr.Stream, hdr.Batch().Range(), hdr.Run}
	if ep.waiting[key] != nil {
		return // came again
	}
	h.keep(&entry{Quarantined: describe(dev, CauseSeries, hdr, len(blk), now), blk: blk, wait: ep, key: key})
}

func (h *Hub) quarantine(dev *device, cause Cause, hdr block.Header, blk []byte) {
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep(&entry{Quarantined: describe(dev, cause, hdr, len(blk), now), blk: blk})
}

// keep puts e into quarantine; h.mu is held. Want of a name is an everyday thing;
// of the rest the first block is logged, and each thousandth.
func (h *Hub) keep(e *entry) {
	n := &h.count.quarantined[e.Cause]
	if *n%1000 == 0 && e.Cause != CauseSeries {
		h.log.Warn("block in quarantine", "cause", e.Cause.String(), "tenant", e.Tenant, "device", e.Device, "blocks", *n+1)
	}
	*n++
	h.kept.put(e)
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
