package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
)

// headFiles are the files of the head log: two, and two more for a while after a
// failure.
var headFiles = [...]string{"head-0", "head-1", "head-2", "head-3"}

// recoverHead surveys the head files and changes nothing.
func (b *Buffer) recoverHead(fs headlog.FS) (*headlog.Recovery, error) {
	rec, err := headlog.Recover(b.dir, headlog.Options{Size: b.o.headSize(), FS: fs})
	if errors.Is(err, headlog.ErrFormat) {
		return nil, b.foreign("%w", err)
	}
	return rec, err
}

// replay is how the tails come back from the head log.
type replay struct {
	b        *Buffer
	dec      block.Decoder
	rows     []block.Row
	events   []edgeagent.Event
	chains   map[*chain]*remains
	nameless map[edgeagent.Epoch]bool     // rows of these bore series that nothing defines
	lost     map[*chain][]edgeagent.Range // of those
	damaged  int                          // frames that could not be read
}

// remains is what the head log holds of a chain and no segment does.
type remains struct {
	known edgeagent.Ranges // sealed, in the ledger or let go of: not wanted again
	parts []stretch
}

// stretch are records without a hole or a border.
type stretch struct {
	section
	rows   []block.Row
	events []edgeagent.Event
}

func (p *stretch) last() edgeagent.Seq {
	return p.first + edgeagent.Seq(len(p.rows)+len(p.events)) - 1
}

// cut returns the records of r, which the part holds.
func (p *stretch) cut(r edgeagent.Range) stretch {
	q := stretch{section: p.section}
	from, to := int(r.From-p.first), int(r.To-p.first)+1
	q.first, q.starts = r.From, p.starts && r.From == p.first
	if len(p.events) > 0 {
		q.events = p.events[from:to]
	} else {
		q.rows = p.rows[from:to]
	}
	return q
}

// replayHead puts series, acks and records of the head log into place. Segments are
// known already: what they hold is left out.
func (b *Buffer) replayHead(rec *headlog.Recovery) (*replay, error) {
	r := &replay{b: b, chains: map[*chain]*remains{}, nameless: map[edgeagent.Epoch]bool{}, lost: map[*chain][]edgeagent.Range{}}
	// Definitions first: after damage they may stand behind their first use.
	for _, pass := range []func(headlog.Frame) error{r.define, r.take} {
		for f, err := range rec.Frames() {
			if err != nil {
				return r, err
			}
			if err := pass(f); err != nil {
				if errors.Is(err, ErrKey) {
					return r, err
				}
				r.damaged++
				b.log.Error("frame of the head log is damaged", "kind", f.Kind, "first", f.First, "err", err)
			}
		}
	}
	for ch, rest := range r.chains {
		for i := range rest.parts {
			p := &rest.parts[i]
			ch.tail.begin(p.section)
			ch.tail.addRows(p.rows)
			ch.tail.addEvents(p.events)
		}
		b.tailBytes += ch.tail.bytes
	}
	return r, nil
}

// headEpochs returns the epochs of all frames.
func headEpochs(rec *headlog.Recovery) (map[edgeagent.Epoch]bool, error) {
	out := map[edgeagent.Epoch]bool{}
	for f, err := range rec.Frames() {
		if err != nil {
			return nil, err
		}
		out[f.Epoch] = true
	}
	return out, nil
}

func (r *replay) define(f headlog.Frame) error {
	ep := r.b.epoch(f.Epoch)
	if f.Kind != headlog.Series || ep == nil {
		return nil
	}
	f, err := r.b.unwrapFrame(f)
	if err != nil {
		return err
	}
	device, _, list, _, err := r.dec.Series(f.Payload)
	if err != nil {
		return err
	}
	if r.b.o.Device == "" { // nobody else says whose readings these are
		r.b.o.Device = device
	}
	for _, e := range list {
		if e.ID == 0 || e.ID > maxSeries {
			return fmt.Errorf("series id %d", e.ID)
		}
		if int(e.ID) > len(ep.series.byID) || ep.series.byID[e.ID-1].IsZero() {
			ep.series.adopt(e.ID, edgeagent.NewSeries(e.Key))
		}
	}
	return nil
}

func (r *replay) take(f headlog.Frame) error {
	ep := r.b.epoch(f.Epoch)
	if ep == nil || !f.Stream.Valid() {
		return nil
	}
	f, err := r.b.unwrapFrame(f)
	if err != nil {
		return err
	}
	ch := ep.streams[f.Stream]
	p := stretch{section: section{first: f.First, run: f.Run, unsynced: f.Flags&headlog.Unsynced != 0, starts: f.Flags&headlog.Starts != 0}}
	switch f.Kind {
	case headlog.Acks:
		return r.ack(ep, f)
	case headlog.Readings:
		if f.Stream != edgeagent.StreamTelemetry {
			return errors.New("readings in a stream of events")
		}
		r.rows, err = headlog.DecodeRows(r.rows[:0], f)
		p.rows = r.rows
	case headlog.Events:
		if f.Stream == edgeagent.StreamTelemetry {
			return errors.New("events in the stream of readings")
		}
		r.events, _, err = r.dec.Events(r.events[:0], f.Payload)
		p.events = r.events
	default:
		return nil
	}
	if err == nil && (len(p.rows)+len(p.events) != int(f.Count) || f.Count == 0 || f.First == 0 || p.last() > maxSeq) {
		err = fmt.Errorf("%d records, the frame counts %d from %d", len(p.rows)+len(p.events), f.Count, f.First)
	}
	if err != nil {
		return err
	}
	rest := r.remains(ch)
	named := r.named(ep, &p)
	for _, rng := range named.Missing(edgeagent.Range{From: p.first, To: p.last()}) {
		r.lost[ch] = append(r.lost[ch], rest.known.Missing(rng)...)
	}
	for _, rng := range named {
		for _, wanted := range rest.known.Missing(rng) {
			q := p.cut(wanted)
			q.rows, q.events = slices.Clone(q.rows), slices.Clone(q.events)
			rest.put(q)
		}
	}
	return nil
}

// ack takes up what a destination confirmed. One that state.db does not know is
// gone.
func (r *replay) ack(ep *epoch, f headlog.Frame) error {
	name, ranges, err := parseAck(f.Payload)
	if err != nil {
		return err
	}
	if d := r.b.dests[name]; d != nil {
		p := d.place(ep.id, f.Stream)
		for _, x := range ranges {
			p.add(x)
		}
	}
	return nil
}

// named returns the parts of p whose series are defined.
func (r *replay) named(ep *epoch, p *stretch) edgeagent.Ranges {
	var out edgeagent.Ranges
	whole := edgeagent.Range{From: p.first, To: p.last()}
	bad := false
	for i := range p.rows {
		id := p.rows[i].Series
		if id == 0 || int(id) > len(ep.series.byID) || ep.series.byID[id-1].IsZero() {
			bad = true
			continue
		}
		if bad {
			break
		}
	}
	if !bad {
		return edgeagent.Ranges{whole}
	}
	r.nameless[ep.id] = true
	for i := range p.rows {
		id := p.rows[i].Series
		if id > 0 && int(id) <= len(ep.series.byID) && !ep.series.byID[id-1].IsZero() {
			n := p.first + edgeagent.Seq(i)
			out.Add(edgeagent.Range{From: n, To: n})
		}
	}
	return out
}

func (r *replay) remains(ch *chain) *remains {
	rest := r.chains[ch]
	if rest == nil {
		rest = &remains{known: ch.lostRanges()}
		for _, x := range ch.released {
			rest.known.Add(x)
		}
		if n := len(ch.segs); n > 0 { // a tail begins behind all segments
			rest.known.Add(edgeagent.Range{From: 1, To: ch.segs[n-1].last})
		}
		r.chains[ch] = rest
	}
	return rest
}

// put adds a part in order. What it overlaps was written before: it gives way.
func (r *remains) put(q stretch) {
	n := len(r.parts)
	if n == 0 || r.parts[n-1].last() < q.first {
		r.parts = append(r.parts, q)
		return
	}
	from, _ := slices.BinarySearchFunc(r.parts, q.first, func(p stretch, s edgeagent.Seq) int {
		if p.last() < s {
			return -1
		}
		return 1
	})
	to := from
	with := []stretch{q}
	for to < n && r.parts[to].first <= q.last() {
		p := r.parts[to]
		if p.first < q.first {
			with = slices.Insert(with, 0, p.cut(edgeagent.Range{From: p.first, To: q.first - 1}))
		}
		if p.last() > q.last() {
			with = append(with, p.cut(edgeagent.Range{From: q.last() + 1, To: p.last()}))
		}
		to++
	}
	r.parts = slices.Replace(r.parts, from, to, with...)
}

// startHead makes a head log of what was recovered. Everything that is not among
// the tails is durable elsewhere by now.
func (b *Buffer) startHead(ctx context.Context, rec *headlog.Recovery) error {
	ep := b.newest()
	head := headlog.Head{Epoch: ep.id}
	for _, s := range edgeagent.Streams() {
		head.Limits[s] = ep.streams[s].limit
	}
	log, err := rec.Start(ctx, head, b.tails)
	if err != nil {
		return err
	}
	b.head = log
	b.survives(b.mark())
	return nil
}
