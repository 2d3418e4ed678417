package buffer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of what waits for a commit, per stream. Appenders wait while a group is
// full.
const (
	maxPending      = 256 << 10 // bytes in memory
	rowBytes        = 32        // of one reading
	maxPendingRows  = maxPending / rowBytes
	maxEventName    = 1 << 10 // bytes of ID, Kind and Series of an event, each
	eventOverhead   = 64      // estimated bytes of an event beside its strings
	eventResolution = 6       // events are stamped to the millisecond
)

// group is what one commit takes: records of one stream in the order in which they
// came. Guarded by Buffer.mu until it is taken, then by Buffer.disk.
type group struct {
	stream edgeagent.Stream
	rows   []block.Row
	events []edgeagent.Event
	bytes  int
	cuts   []cut

	hurried bool
	hurry   chan struct{} // closed: commit without waiting for more
	taken   chan struct{} // closed: no longer pending
	done    chan struct{} // closed: err and first are set
	first   edgeagent.Seq
	err     error
}

// cut is a place where a new block begins.
type cut struct {
	at       int
	unsynced bool
	starts   bool // a clock segment
}

func (g *group) len() int { return len(g.rows) + len(g.events) }

func (g *group) hurryUp() {
	if !g.hurried {
		g.hurried = true
		close(g.hurry)
	}
}

// intake is what decides where a stream's blocks are cut: the state of the clock
// at its last record.
type intake struct {
	begun    bool
	offset   time.Duration // wall time minus run time
	unsynced bool
}

// next returns whether a cut is due before records that come now.
func (in *intake) next(offset time.Duration, unsynced bool) (c cut, due bool) {
	c = cut{unsynced: unsynced, starts: !in.begun || (offset-in.offset).Abs() > clockStep}
	due = c.starts || unsynced != in.unsynced
	*in = intake{true, offset, unsynced}
	return c, due
}

// Append stores readings in order and returns the number of the last one. When it
// returns without error they are durable: neither kill -9 nor a power cut takes
// them back. It may wait up to Options.CommitDelay for others to share the commit.
//
// A call stores all of its readings or none; a call of more than 8,192 is stored
// in pieces of that size, and after an error last says how far it came. When ctx
// ends while Append waits, it returns early with ctx's error, and the readings may
// still be stored.
//
// The value is stored bit by bit, NaN and infinities included. A reading without a
// series, with a quality that does not exist, or of the 10,001st series of the
// epoch is refused. When nothing may give way, the error wraps [ErrFull].
func (b *Buffer) Append(ctx context.Context, rs []edgeagent.Reading) (last edgeagent.Seq, err error) {
	for i := range rs {
		if err := checkReading(&rs[i]); err != nil {
			return 0, fmt.Errorf("append readings: %w", err)
		}
	}
	for chunk := range slices.Chunk(rs, maxPendingRows) {
		var n edgeagent.Seq
		err := b.whenRoom(ctx, func() (err error) {
			n, err = b.enlist(ctx, edgeagent.StreamTelemetry, len(chunk), len(chunk)*rowBytes, func(g *group) error {
				return b.stageReadings(g, chunk)
			})
			return err
		})
		if err != nil {
			return last, fmt.Errorf("append readings: %w", err)
		}
		last = n
	}
	return last, nil
}

func checkReading(r *edgeagent.Reading) error {
	if r.Series.IsZero() {
		return fmt.Errorf("%w: a reading bears no series", ErrInvalid)
	}
	if r.Quality > edgeagent.Bad {
		return fmt.Errorf("%w: series %s: unknown %s", ErrInvalid, r.Series, r.Quality)
	}
	return nil
}

// AppendEvents stores events in the alarm or the event stream, under the same
// terms as [Buffer.Append]; alarms do not wait for others. An event whose text,
// attributes or names are too long is refused, bytes that are not UTF-8 are
// replaced.
func (b *Buffer) AppendEvents(ctx context.Context, s edgeagent.Stream, evs []edgeagent.Event) (last edgeagent.Seq, err error) {
	if s != edgeagent.StreamAlarm && s != edgeagent.StreamEvent {
		return 0, fmt.Errorf("append events: stream %s holds no events", s)
	}
	evs = slices.Clone(evs)
	sizes := make([]int, len(evs))
	for i := range evs {
		if sizes[i], err = checkEvent(&evs[i]); err != nil {
			return 0, fmt.Errorf("append events: %w", err)
		}
	}
	for len(evs) > 0 {
		n, bytes := 0, 0
		for n < len(evs) && bytes+sizes[n] <= maxPending {
			bytes += sizes[n]
			n++
		}
		var num edgeagent.Seq
		err := b.whenRoom(ctx, func() (err error) {
			num, err = b.enlist(ctx, s, n, bytes, func(g *group) error {
				b.stageEvents(g, evs[:n])
				return nil
			})
			return err
		})
		if err != nil {
			return last, fmt.Errorf("append events: %w", err)
		}
		last, evs, sizes = num, evs[n:], sizes[n:]
	}
	return last, nil
}

// checkEvent refuses what no block can hold, mends what no decoder would read, and
// returns about how much memory the event takes.
func checkEvent(ev *edgeagent.Event) (size int, err error) {
	if ev.Kind == "" {
		return 0, fmt.Errorf("%w: an event has no kind", ErrInvalid)
	}
	if ev.Severity > edgeagent.Critical {
		return 0, fmt.Errorf("%w: event %s: unknown %s", ErrInvalid, ev.Kind, ev.Severity)
	}
	for _, s := range []*string{&ev.Kind, &ev.ID, &ev.Series, &ev.Text} {
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
	attrs, attrBytes := make(map[string]string, len(ev.Attrs)), 0
	for k, v := range ev.Attrs {
		k, v = strings.ToValidUTF8(k, "\uFFFD"), strings.ToValidUTF8(v, "\uFFFD")
		attrs[k] = v
		attrBytes += len(k) + len(v)
	}
	if len(attrs) == 0 {
		attrs = nil
	}
	ev.Attrs = attrs
	switch {
	case len(ev.Text) > edgeagent.MaxEventText:
		return 0, fmt.Errorf("%w: event %.64s: text of %d bytes, at most %d fit", ErrInvalid, ev.Kind, len(ev.Text), edgeagent.MaxEventText)
	case attrBytes > edgeagent.MaxEventAttrs:
		return 0, fmt.Errorf("%w: event %.64s: attributes of %d bytes, at most %d fit", ErrInvalid, ev.Kind, attrBytes, edgeagent.MaxEventAttrs)
	case max(len(ev.ID), len(ev.Kind), len(ev.Series)) > maxEventName:
		return 0, fmt.Errorf("%w: event %.64s: a name is longer than %d bytes", ErrInvalid, ev.Kind, maxEventName)
	}
	return eventOverhead + len(ev.Kind) + len(ev.ID) + len(ev.Series) + len(ev.Text) + attrBytes, nil
}

// enlist puts n records into the stream's pending group by stage, sees to it that
// the group is committed, and returns the number of the last of them. The first
// of a group commits it for all.
func (b *Buffer) enlist(ctx context.Context, s edgeagent.Stream, n, bytes int, stage func(*group) error) (edgeagent.Seq, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	for b.pending[s] != nil && !b.closed && b.pending[s].bytes+bytes > maxPending {
		full := b.pending[s]
		full.hurryUp()
		b.count.waits++
		b.mu.Unlock()
		select {
		case <-full.taken:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		b.mu.Lock()
	}
	if b.closed {
		b.mu.Unlock()
		return 0, ErrClosed
	}
	g, lead := b.pending[s], false
	if g == nil {
		g, lead = newGroup(s), true
	}
	at := g.len()
	if err := stage(g); err != nil {
		b.mu.Unlock()
		return 0, err
	}
	g.bytes += bytes
	b.pending[s] = g
	b.count.pendingMost = max(b.count.pendingMost, g.bytes)
	if s == edgeagent.StreamAlarm || b.o.CommitDelay == 0 || g.len() >= b.o.BlockSize || g.bytes >= maxPending/2 {
		g.hurryUp()
	}
	b.mu.Unlock()

	if lead {
		b.lead(ctx, g)
	}
	select {
	case <-g.done:
	default:
		select {
		case <-g.done:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.first + edgeagent.Seq(at+n-1), nil
}

func newGroup(s edgeagent.Stream) *group {
	return &group{stream: s, hurry: make(chan struct{}), taken: make(chan struct{}), done: make(chan struct{})}
}

// lead waits for others to join, then commits for all. A leader whose ctx ends
// stops waiting, but commits: the others rely on it.
func (b *Buffer) lead(ctx context.Context, g *group) {
	timer := time.NewTimer(b.o.CommitDelay)
	select {
	case <-g.hurry:
	case <-timer.C:
	case <-ctx.Done():
	}
	timer.Stop()
	b.disk.Lock()
	defer b.disk.Unlock()
	b.mu.Lock()
	b.pending[g.stream] = nil
	close(g.taken)
	b.mu.Unlock()
	g.err = b.commit(g)
	close(g.done)
}

// stageReadings adds readings to a group; b.mu is held. On error nothing changed.
func (b *Buffer) stageReadings(g *group, rs []edgeagent.Reading) error {
	reg := &b.newest().series
	at, known := len(g.rows), len(reg.byID)
	for i := range rs {
		id, err := reg.id(rs[i].Series)
		if err != nil {
			g.rows = g.rows[:at]
			reg.forget(known)
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		g.rows = append(g.rows, block.Row{Series: id, Value: rs[i].Value, Quality: rs[i].Quality})
	}
	wall, run, synced := b.o.Clock.Wall().UnixNano(), b.o.Clock.Run(), b.o.Clock.Synced()
	offset := time.Duration(wall) - run
	c, due := b.intake[g.stream].next(offset, !synced)
	if due {
		c.at = at
		g.cuts = append(g.cuts, c)
	}
	if c.starts {
		b.guard = b.guard[:0]
	}
	for len(b.guard) < len(reg.byID) {
		b.guard = append(b.guard, math.MinInt64)
	}
	for i := range rs {
		row := &g.rows[at+i]
		res := reg.res[row.Series-1]
		if rs[i].Recorded {
			row.Time = roundTime(rs[i].At.Wall, res)
			continue
		}
		wall := rs[i].At.Wall
		if !synced && rs[i].At.Run != 0 {
			// One correction fits the whole run, whatever steps the clock makes
			// before it is right.
			wall = b.start.Wall + rs[i].At.Run - b.start.Run
		}
		last := &b.guard[row.Series-1]
		row.Time = stampTime(wall, *last, res)
		*last = max(*last, row.Time)
	}
	return nil
}

// stageEvents adds events to a group; b.mu is held.
func (b *Buffer) stageEvents(g *group, evs []edgeagent.Event) {
	offset := time.Duration(b.o.Clock.Wall().UnixNano()) - b.o.Clock.Run()
	if c, due := b.intake[g.stream].next(offset, !b.o.Clock.Synced()); due {
		c.at = len(g.events)
		g.cuts = append(g.cuts, c)
	}
	for _, ev := range evs {
		ev.At.Wall = roundTime(ev.At.Wall, eventResolution)
		g.events = append(g.events, ev)
	}
}
