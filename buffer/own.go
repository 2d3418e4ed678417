package buffer

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// own is what one destination alone cannot get of a stream, beside the ledger that
// holds for everybody: what it came too late for and what it refuses. The same
// bounds apply: beyond maxLedger ranges low is raised. A value is never changed,
// so that a new one can be made durable before it is true.
type own struct {
	low     edgeagent.Seq // nothing below is for this destination, 0 if it has no bound
	gaps    []Gap         // sorted and disjoint
	version uint64        // counts changes
}

// with returns o and a gap more.
func (o own) with(g Gap) own {
	gaps, low := foldGaps(addGap(slices.Clone(o.gaps), g), max(o.low, 1))
	if low == 1 {
		low = o.low
	}
	return own{low, gaps, o.version + 1}
}

// ranges returns all that o says is not to be had.
func (o own) ranges() edgeagent.Ranges {
	var rs edgeagent.Ranges
	if o.low > 1 {
		rs.Add(edgeagent.Range{From: 1, To: o.low - 1})
	}
	for _, g := range o.gaps {
		rs.Add(g.Range)
	}
	return rs
}

// cover counts as confirmed what the destination's own ledger names.
func (p *place) cover() {
	for _, r := range p.own.ranges() {
		p.add(r)
	}
}

// gap makes an entry for the ledger of one destination.
func (d *destination) gap(e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range, reason Reason) Gap {
	return Gap{Epoch: e, Stream: s, Range: r, Reason: reason, AtMost: r.Len(), Destination: d.name}
}

// ownGaps lists a destination's own entries by epoch, stream and number; b.mu is
// held.
func (b *Buffer) ownGaps(d *destination) []Gap {
	var out []Gap
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			out = append(out, d.place(ep.id, s).own.gaps...)
		}
	}
	return out
}

// ownChange stores what a destination alone cannot get of a stream.
func (d *destination) ownChange(k placeKey) segment.Change {
	return storeOwn(d.name, k, d.places[k].own)
}

func storeOwn(name string, k placeKey, o own) segment.Change {
	key := cursorKey(name, k.epoch, k.stream)
	if o.low == 0 && len(o.gaps) == 0 {
		return unset(bucketOwn, key)
	}
	r := ownRecord{Low: o.low}
	for _, g := range o.gaps {
		r.Gaps = append(r.Gaps, g.stored())
	}
	return set(bucketOwn, key, r)
}

// disown enters ranges into the ledger of one destination, durably, and counts
// them as confirmed there. b.disk is held.
func (b *Buffer) disown(d *destination, e edgeagent.Epoch, s edgeagent.Stream, gaps []Gap) error {
	k := placeKey{e, s}
	b.mu.Lock()
	p := d.place(e, s)
	next := p.own
	b.mu.Unlock()
	for _, g := range gaps {
		next = next.with(g)
	}
	if next.version == p.own.version {
		return nil
	}
	if err := b.save([]segment.Change{storeOwn(d.name, k, next)}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p.own = next
	p.cover()
	return nil
}

// registrations counts the destinations that are registered; b.mu is held.
func (b *Buffer) registrations() (n int) {
	for _, d := range b.dests {
		if d.registered {
			n++
		}
	}
	return n
}

// DestinationInfo is a destination that the buffer knows.
type DestinationInfo struct {
	Name       string
	Registered bool // since Open
	// Holds: what it has not confirmed goes only by the full-policy. One that does
	// not was released.
	Holds bool
}

// Destinations lists the destinations that the buffer knows, by name.
func (b *Buffer) Destinations() []DestinationInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []DestinationInfo
	for _, name := range slices.Sorted(maps.Keys(b.dests)) {
		d := b.dests[name]
		out = append(out, DestinationInfo{name, d.registered, d.holds()})
	}
	return out
}

// Release lets go, durably, of a destination that was taken out of the
// configuration: it holds nothing any more, and its acknowledgements are refused.
// Its place is kept, so that the same name goes on where it was; what went
// meanwhile is then a gap of reason [Expired]. Of all that were released the 32
// that were registered last are known. Call it when the new configuration is
// confirmed, not before: a configuration that is rolled back needs what was held.
func (b *Buffer) Release(name string) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	d := b.dests[name]
	if b.closed || d == nil {
		defer b.mu.Unlock()
		if b.closed {
			return ErrClosed
		}
		return fmt.Errorf("release %s: %w", name, errUnknownDestination)
	}
	was, held := d.registered, d.held
	d.registered, d.held = false, false
	changes := append([]segment.Change{d.change()}, b.forgetDestinations()...)
	b.mu.Unlock()
	if err := b.save(changes); err != nil {
		b.mu.Lock()
		d.registered, d.held = was, held
		b.dests[name] = d
		b.mu.Unlock()
		return fmt.Errorf("release %s: %w", name, writeError(err))
	}
	return nil
}

var errBadKey = errors.New("bad key")

// readDestinations loads the destinations, their cursors and their own ledgers
// from state.db, which each walks over.
func (b *Buffer) readDestinations(each func(bucket string, prefix []byte, f func(key, value []byte) error) error) error {
	err := each(bucketDestinations, nil, func(key, value []byte) error {
		var r destinationRecord
		if err := parse(bucketDestinations, key, value, &r); err != nil {
			return err
		}
		b.dests[string(key)] = &destination{
			name: string(key), start: r.Start, seen: r.Seen, held: r.Held, places: map[placeKey]*place{},
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = each(bucketCursors, nil, func(key, value []byte) error {
		var set edgeagent.Ranges
		p, _, err := b.placeOf(bucketCursors, key, value, &set)
		if p != nil {
			p.set = set
		}
		return err
	})
	if err != nil {
		return err
	}
	return each(bucketOwn, nil, func(key, value []byte) error {
		var r ownRecord
		p, g, err := b.placeOf(bucketOwn, key, value, &r)
		if p == nil {
			return err
		}
		p.own = own{low: r.Low}
		for _, x := range r.Gaps {
			x := x.gap(g.Epoch, g.Stream)
			x.Destination = g.Destination
			p.own.gaps = append(p.own.gaps, x)
		}
		p.cover()
		return nil
	})
}

// placeOf reads a value that belongs to a place. It returns none for a destination
// or an epoch that is not known: without it the value is worth nothing. The Gap
// says which place it is.
func (b *Buffer) placeOf(bucket string, key, value []byte, v any) (*place, Gap, error) {
	name, e, s, ok := parseCursorKey(key)
	if !ok {
		return nil, Gap{}, fmt.Errorf("state %s: %w: %w", bucket, segment.ErrDamaged, errBadKey)
	}
	d := b.dests[name]
	if d == nil {
		return nil, Gap{}, nil
	}
	if err := parse(bucket, key, value, v); err != nil {
		return nil, Gap{}, err
	}
	if b.epoch(e) == nil || !s.Valid() {
		return nil, Gap{}, nil
	}
	return d.place(e, s), Gap{Epoch: e, Stream: s, Destination: name}, nil
}
