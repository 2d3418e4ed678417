package buffer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Bounds of destinations.
const (
	maxDestinations = 8  // registered
	maxReleased     = 32 // known from earlier, not registered
	maxNameBytes    = 64
)

// Start says where a new destination begins.
type Start string

// The starts. A destination that was registered before goes on where it was.
const (
	StartOldest Start = "oldest" // with everything that is stored
	StartNow    Start = "now"    // with the next record
)

// Destination is who reads the buffer.
type Destination struct {
	Name  string
	Start Start // empty means oldest
	// Durable: what it confirms is held for good, so that this buffer need not
	// sync it. False is always safe.
	Durable bool
}

// destination is what the buffer knows of one. Guarded by Buffer.mu.
type destination struct {
	name       string
	start      Start
	seen       uint64
	registered bool // since the process began: only those read and confirm
	held       bool // registered once and not released since
	durable    bool
	places     map[placeKey]*place
}

type placeKey struct {
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
}

// place is what a destination has confirmed of a stream of an epoch, together with
// what it can never get: the set begins with [1, low].
type place struct {
	set     edgeagent.Ranges
	dirty   bool
	version uint64
	saving  uint64 // version that is being written
	own     own
}

func (p *place) add(r edgeagent.Range) uint64 {
	n := p.set.Add(r)
	if n > 0 {
		p.set = trimRanges(p.set)
		p.dirty = true
		p.version++
	}
	return n
}

func (d *destination) place(e edgeagent.Epoch, s edgeagent.Stream) *place {
	k := placeKey{e, s}
	p := d.places[k]
	if p == nil {
		p = &place{}
		d.places[k] = p
	}
	return p
}

// holds reports whether what the destination has not confirmed goes only by the
// full-policy.
func (d *destination) holds() bool { return d.registered || d.held }

// holding returns the destinations that hold data, by name; b.mu is held.
func (b *Buffer) holding() []*destination {
	var out []*destination
	for _, name := range slices.Sorted(maps.Keys(b.dests)) {
		if d := b.dests[name]; d.holds() {
			out = append(out, d)
		}
	}
	return out
}

// Register makes a destination known, durably: from now on nothing that it has not
// confirmed goes without an entry in the ledger. A name that was registered in an
// earlier run takes up its place, whatever Start says; what other destinations
// confirmed and eviction took meanwhile is a gap of reason [Expired]. Register
// each configured destination after every Open, before reading. One that is known
// from earlier and not registered goes on holding until [Buffer.Release].
func (b *Buffer) Register(d Destination) error {
	if d.Start == "" {
		d.Start = StartOldest
	}
	if d.Start != StartOldest && d.Start != StartNow {
		return fmt.Errorf("register destination %s: unknown start %q, want %q or %q", d.Name, d.Start, StartOldest, StartNow)
	}
	if d.Name == "" || len(d.Name) > maxNameBytes || slices.Contains([]byte(d.Name), 0) {
		return fmt.Errorf("register destination %q: a name has 1 to %d bytes, none of them zero", d.Name, maxNameBytes)
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	wasHeld := b.dests[d.Name] != nil && b.dests[d.Name].held
	x, err := b.admit(d)
	if err != nil || x == nil {
		b.mu.Unlock()
		return err
	}
	changes := b.forgetDestinations()
	changes = append(changes, x.change())
	for k := range x.places {
		changes = append(changes, x.ownChange(k))
	}
	b.mu.Unlock()
	if err := b.save(changes); err != nil {
		b.mu.Lock()
		x.registered, x.held = false, wasHeld
		b.mu.Unlock()
		return fmt.Errorf("register destination %s: %w", d.Name, writeError(err))
	}
	return nil
}

// admit takes a destination in, or returns nil if it is in already; b.mu is held.
func (b *Buffer) admit(d Destination) (*destination, error) {
	x := b.dests[d.Name]
	if x != nil && x.registered {
		x.durable = d.Durable
		return nil, nil
	}
	if n := b.registrations(); n >= maxDestinations {
		return nil, edgeagent.WithHint(fmt.Errorf("register destination %s: %d destinations are the most", d.Name, maxDestinations),
			"remove one from destinations in the configuration")
	}
	fresh := x == nil
	if fresh {
		x = &destination{name: d.Name, start: d.Start, places: map[placeKey]*place{}}
		b.dests[d.Name] = x
	}
	x.registered, x.held, x.durable, x.seen = true, true, d.Durable, b.header.Opens
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			ch := ep.streams[s]
			p := x.place(ep.id, s)
			if fresh && d.Start == StartNow && ch.next > 1 {
				p.own.low = ch.next
				p.add(edgeagent.Range{From: 1, To: ch.next - 1})
			}
			x.expire(ch, p)
			for _, r := range ch.lostRanges() {
				p.add(r)
			}
		}
	}
	return x, nil
}

// expire enters what was released without this destination into its gaps.
func (d *destination) expire(ch *chain, p *place) {
	for _, released := range ch.released {
		for _, r := range p.set.Missing(released) {
			p.own = p.own.with(d.gap(ch.epoch, ch.stream, r, Expired))
		}
	}
	p.cover()
}

// forgetDestinations releases those that nobody registers any more, beyond as many
// as one configuration can have, and drops the least recently seen of the released
// beyond maxReleased; b.mu is held.
func (b *Buffer) forgetDestinations() []segment.Change {
	var idle, held []*destination
	for _, d := range b.dests {
		switch {
		case d.registered:
		case d.held:
			held = append(held, d)
		default:
			idle = append(idle, d)
		}
	}
	latest := func(a, b *destination) int { return cmp.Compare(b.seen, a.seen) }
	slices.SortFunc(held, latest)
	var changes []segment.Change
	for _, d := range held[min(len(held), maxDestinations):] {
		d.held = false
		changes = append(changes, d.change())
		idle = append(idle, d)
	}
	slices.SortFunc(idle, latest)
	for _, d := range idle[min(len(idle), maxReleased):] {
		changes = append(changes, unset(bucketDestinations, []byte(d.name)))
		for k := range d.places {
			key := cursorKey(d.name, k.epoch, k.stream)
			changes = append(changes, unset(bucketCursors, key), unset(bucketOwn, key))
		}
		delete(b.dests, d.name)
	}
	return changes
}

func (d *destination) change() segment.Change {
	return set(bucketDestinations, []byte(d.name), destinationRecord{d.start, d.seen, d.held})
}

// cursorChanges stores the places that changed since they were stored last.
func (b *Buffer) cursorChanges() []segment.Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	var changes []segment.Change
	for _, d := range b.dests {
		for k, p := range d.places {
			if p.dirty {
				p.saving = p.version
				changes = append(changes, set(bucketCursors, cursorKey(d.name, k.epoch, k.stream), p.set))
				if p.own.version > 0 {
					changes = append(changes, d.ownChange(k))
				}
			}
		}
	}
	return changes
}

// coverLost counts what the ledger of a chain names as confirmed, for everyone;
// b.mu is held.
func (b *Buffer) coverLost(ch *chain) {
	lost := ch.lostRanges()
	for _, d := range b.dests {
		p := d.place(ch.epoch, ch.stream)
		for _, r := range lost {
			p.add(r)
		}
	}
}

var errUnknownDestination = errors.New("destination is not registered")

// Ack confirms ranges for a destination: it will not be given them again, and when
// every destination has confirmed a segment it may go without a trace. It survives
// kill -9; what a power cut takes of it is delivered again. A range at or above the
// next number confirms what was never appended: it is refused, and nothing is
// confirmed.
func (b *Buffer) Ack(ctx context.Context, dest string, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	b.in.Lock()
	defer b.in.Unlock()
	if err := b.ack(dest, e, s, ranges); err != nil {
		return fmt.Errorf("ack for %s: %w", dest, err)
	}
	// The next checkpoint stores the cursor in any case: where there is no room for
	// the frame, or the disk fails, a crash before that costs a second delivery.
	for len(ranges) > 0 {
		n := min(len(ranges), maxAckRanges)
		b.payload = ackPayload(b.payload[:0], dest, ranges[:n])
		_ = b.writeFrame(headlog.Frame{Kind: headlog.Acks, Stream: s, Epoch: e, Payload: b.payload})
		ranges = ranges[n:]
	}
	return nil
}

// maxAckRanges keeps a frame far below what the log takes.
const maxAckRanges = 1024

func (b *Buffer) ack(dest string, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	d, ep := b.dests[dest], b.epoch(e)
	switch {
	case d == nil || !d.registered:
		return errUnknownDestination
	case ep == nil || !s.Valid():
		return fmt.Errorf("%w %s, stream %s", errUnknownEpoch, e, s)
	}
	for _, r := range ranges {
		if r.Len() == 0 || r.To >= ep.streams[s].next {
			return fmt.Errorf("range [%d,%d] of %s is not below %d", r.From, r.To, s, ep.streams[s].next)
		}
	}
	p := d.place(e, s)
	for _, r := range ranges {
		n := p.add(r)
		b.count.confirmed += n
		if n > 0 && b.acksAt == 0 && r.From < ep.streams[s].durable {
			b.acksAt = max(b.o.Clock.Run(), 1)
		}
	}
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
	return nil
}

// Cursor is a destination's place in one stream, in all epochs. Safe for
// concurrent use.
type Cursor struct {
	b      *Buffer
	dest   *destination
	stream edgeagent.Stream
}

// Cursor returns the place of a registered destination in a stream.
func (b *Buffer) Cursor(dest string, s edgeagent.Stream) (*Cursor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.dests[dest]
	if d == nil || !d.registered || !s.Valid() {
		return nil, fmt.Errorf("cursor of %s in %s: %w", dest, s, errUnknownDestination)
	}
	return &Cursor{b, d, s}, nil
}

// Head returns the newest epoch and the number that its next record will get.
func (c *Cursor) Head() (e edgeagent.Epoch, next edgeagent.Seq) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	ep := c.b.newest()
	return ep.id, ep.streams[c.stream].next
}

// Unconfirmed counts the records that are stored and that the destination has not
// confirmed, over all epochs.
func (c *Cursor) Unconfirmed() uint64 {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return c.b.unconfirmed(c.dest, c.stream)
}

func (b *Buffer) unconfirmed(d *destination, s edgeagent.Stream) (n uint64) {
	for _, ep := range b.epochs {
		p := d.place(ep.id, s)
		for _, sg := range ep.streams[s].segs {
			for _, r := range p.set.Missing(sg.rng()) {
				n += r.Len()
			}
		}
		t := &ep.streams[s].tail
		for i := range t.spans {
			for _, r := range p.set.Missing(t.rng(i)) {
				n += r.Len()
			}
		}
	}
	return n
}

// Live returns a reader of the newest epoch from a record up, for ever.
func (c *Cursor) Live(from edgeagent.Seq) *Reader {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return &Reader{b: c.b, dest: c.dest, stream: c.stream, parts: []part{{epoch: c.b.newest().id, pos: max(from, 1)}}}
}

// Backlog returns a reader of all older epochs, oldest first, and then of the
// newest below a record. It leaves out what skip holds.
func (c *Cursor) Backlog(below edgeagent.Seq, skip map[edgeagent.Epoch]edgeagent.Ranges) *Reader {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	r := &Reader{b: c.b, dest: c.dest, stream: c.stream}
	for i, ep := range c.b.epochs {
		end := ep.streams[c.stream].next
		if i == len(c.b.epochs)-1 {
			end = min(end, below)
		}
		r.parts = append(r.parts, part{epoch: ep.id, pos: 1, below: max(end, 1), skip: slices.Clone(skip[ep.id])})
	}
	return r
}

// LiveFrom returns the first unconfirmed record of the newest epoch whose wall
// time is since (Unix ns) or later, or the next number when there is none.
func (c *Cursor) LiveFrom(since int64) edgeagent.Seq {
	b := c.b
	b.mu.Lock()
	ep := b.newest()
	next := ep.streams[c.stream].next
	set := slices.Clone(c.dest.place(ep.id, c.stream).set)
	segs := slices.Clone(ep.streams[c.stream].segs)
	b.mu.Unlock()
	for _, sg := range segs {
		b.mu.Lock()
		rng, newest := sg.rng(), sg.maxTime
		b.mu.Unlock()
		from, _ := after(set, rng.From)
		if newest < since || from > rng.To {
			continue
		}
		if s := b.firstSince(sg, from, rng.To, since, set); s != 0 {
			return s
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := ep.streams[c.stream].tail.firstSince(since, set); s != 0 {
		return s
	}
	return next
}

// firstSince returns the first record that is young enough and not confirmed, 0 if
// there is none.
func (t *tail) firstSince(since int64, confirmed edgeagent.Ranges) edgeagent.Seq {
	for i, sp := range t.spans {
		rng := t.rng(i)
		for s, _ := after(confirmed, rng.From); s <= rng.To; s, _ = after(confirmed, s+1) {
			if t.time(sp.at+int(s-sp.first)) >= since {
				return s
			}
		}
	}
	return 0
}

// firstSince searches one segment, block by block. What cannot be read is not
// live; the reader of the backlog deals with it.
func (b *Buffer) firstSince(sg *seg, from, to edgeagent.Seq, since int64, confirmed edgeagent.Ranges) (hit edgeagent.Seq) {
	var dec block.Decoder
	err := b.view(sg, func(f *segment.Segment) error {
		return b.eachBlock(f, sg, from, func(blk segment.Block) bool {
			h, err := block.ParseHeader(blk.Encoded)
			if err != nil || blk.First > to {
				return false
			}
			if h.MaxTime < since || h.Last() < from {
				return true
			}
			times, err := blockTimes(&dec, blk.Encoded)
			if err != nil {
				return true
			}
			for i, t := range times {
				s := h.First + edgeagent.Seq(i)
				if open, _ := after(confirmed, s); t >= since && open == s {
					hit = s
					return false
				}
			}
			return true
		})
	})
	if err != nil {
		b.log.Debug("live start not found in segment", "path", sg.path, "err", err)
	}
	return hit
}
