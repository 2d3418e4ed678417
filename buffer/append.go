package buffer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/sealed"
)

// Bounds of one call.
const (
	maxCall         = 256 << 10 // bytes in memory of what is stored or refused as a whole
	maxRow          = 22        // bytes of a reading in the head log, at most
	maxEventName    = 1 << 10   // bytes of ID, Kind and Series of an event, each
	eventResolution = 6         // events are stamped to the millisecond
)

// cut is a place where a new block begins.
type cut struct {
	unsynced bool
	starts   bool // a clock segment
}

// intake is what decides where a stream's blocks are cut: the state of the clock
// at its last record.
type intake struct {
	begun    bool
	offset   time.Duration // wall time minus run time
	unsynced bool
}

// next says where records that come now belong.
func (in *intake) next(offset time.Duration, unsynced bool) cut {
	c := cut{unsynced: unsynced, starts: !in.begun || (offset-in.offset).Abs() > clockStep}
	*in = intake{true, offset, unsynced}
	return c
}

// Append stores readings in order and returns the number of the last one. When it
// returns without error they survive kill -9; a power cut may take what was
// appended within the last sync_every, see [Buffer.Run]. It does not wait for the
// disk, unless memory or head log are full: then until some of it is in segments,
// or ctx ends.
//
// A call stores all of its readings or none; a call of more than 4,096 may be
// stored in pieces of at least that size, and while the clock cannot be trusted a
// call that mixes recorded times with others in pieces of one kind: a correction of
// the clock moves times that the agent took and no others. After an error last says
// how far it came.
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
	for len(rs) > 0 {
		chunk := rs[:min(len(rs), b.callRows)]
		if !b.o.Clock.Synced() {
			chunk = sameClock(chunk, func(r *edgeagent.Reading) bool { return r.Recorded })
		}
		var n edgeagent.Seq
		err := b.whenRoom(ctx, func() (err error) {
			n, err = b.addReadings(ctx, chunk)
			return err
		})
		if err != nil {
			return last, fmt.Errorf("append readings: %w", err)
		}
		last, rs = n, rs[len(chunk):]
	}
	return last, nil
}

// sameClock returns the first records whose times are of the same origin.
func sameClock[T any](rs []T, recorded func(*T) bool) []T {
	n := 1
	for n < len(rs) && recorded(&rs[n]) == recorded(&rs[0]) {
		n++
	}
	return rs[:n]
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
// terms as [Buffer.Append]; alarms survive a power cut when it returns. An event
// whose text, attributes or names are too long is refused, bytes that are not UTF-8
// are replaced.
func (b *Buffer) AppendEvents(ctx context.Context, s edgeagent.Stream, evs []edgeagent.Event) (last edgeagent.Seq, err error) {
	if s != edgeagent.StreamAlarm && s != edgeagent.StreamEvent {
		return 0, fmt.Errorf("append events: stream %s holds no events", s)
	}
	evs = slices.Clone(evs)
	for i := range evs {
		if err := checkEvent(&evs[i]); err != nil {
			return 0, fmt.Errorf("append events: %w", err)
		}
	}
	for len(evs) > 0 {
		chunk := evs
		if !b.o.Clock.Synced() {
			chunk = sameClock(evs, func(ev *edgeagent.Event) bool { return ev.Recorded })
		}
		n, size := 0, 0
		for n < len(chunk) && size+eventSize(&evs[n]) <= b.callEvents {
			size += eventSize(&evs[n])
			n++
		}
		var num edgeagent.Seq
		err := b.whenRoom(ctx, func() (err error) {
			num, err = b.addEvents(ctx, s, evs[:n], size)
			return err
		})
		if err != nil {
			return last, fmt.Errorf("append events: %w", err)
		}
		last, evs = num, evs[n:]
	}
	return last, nil
}

// checkEvent refuses what no block can hold, and mends what no decoder would read.
func checkEvent(ev *edgeagent.Event) error {
	if ev.Kind == "" {
		return fmt.Errorf("%w: an event has no kind", ErrInvalid)
	}
	if ev.Severity > edgeagent.Critical {
		return fmt.Errorf("%w: event %s: unknown %s", ErrInvalid, ev.Kind, ev.Severity)
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
		return fmt.Errorf("%w: event %.64s: text of %d bytes, at most %d fit", ErrInvalid, ev.Kind, len(ev.Text), edgeagent.MaxEventText)
	case attrBytes > edgeagent.MaxEventAttrs:
		return fmt.Errorf("%w: event %.64s: attributes of %d bytes, at most %d fit", ErrInvalid, ev.Kind, attrBytes, edgeagent.MaxEventAttrs)
	case max(len(ev.ID), len(ev.Kind), len(ev.Series)) > maxEventName:
		return fmt.Errorf("%w: event %.64s: a name is longer than %d bytes", ErrInvalid, ev.Kind, maxEventName)
	}
	return checkEventData(ev)
}

// errNoRoom: memory, head file or reservation are used up until a checkpoint.
var errNoRoom = errors.New("no room before a checkpoint")

func (b *Buffer) addReadings(ctx context.Context, rs []edgeagent.Reading) (edgeagent.Seq, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b.in.Lock()
		last, need, err := b.putReadings(ctx, rs)
		b.in.Unlock()
		if err == nil {
			return last, b.appended(ctx, edgeagent.StreamTelemetry)
		}
		switch {
		case b.outlive(ctx, err):
		case !errors.Is(err, errNoRoom):
			return 0, err
		default:
			if err := b.giveRoom(ctx, need); err != nil {
				return 0, err
			}
		}
	}
}

func (b *Buffer) addEvents(ctx context.Context, s edgeagent.Stream, evs []edgeagent.Event, size int) (edgeagent.Seq, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b.in.Lock()
		last, need, err := b.putEvents(ctx, s, evs, size)
		b.in.Unlock()
		if err == nil {
			return last, b.appended(ctx, s)
		}
		switch {
		case b.outlive(ctx, err):
		case !errors.Is(err, errNoRoom):
			return 0, err
		default:
			if err := b.giveRoom(ctx, need); err != nil {
				return 0, err
			}
		}
	}
}

// room is what a call takes.
type room struct {
	stream  edgeagent.Stream
	records int
	memory  int
	head    int64 // bytes of the head file
	anyway  bool  // a checkpoint has to be made even if that much is there
}

// usable returns how much of a head file others than alarms may fill. What is left
// holds a few alarms, each with the page that its sync begins, behind a rotation.
func usable(size int64) int64 {
	return size - headReserve - max(size/alarmPart, 6*headPage)
}

// frames returns the room that n frames with so many bytes of payload take: syncs
// that come in between may waste a page each, and there is seldom more than one.
// Each may be sealed.
func frames(n, payload int) int64 {
	return int64(n)*(frameHeader+sealed.Overhead) + int64(payload) + 2*headPage
}

// admits returns errNoRoom unless so much can be written; b.in is held.
func (b *Buffer) admits(r room) error {
	st := b.headStats()
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := b.newest().streams[r.stream]
	last := ch.next + edgeagent.Seq(r.records) - 1
	memory, head := maxTail, st.Size-headReserve
	if r.stream != edgeagent.StreamAlarm {
		memory, head = memory-memory/alarmPart, usable(st.Size)
	}
	if r.stream == edgeagent.StreamTelemetry { // events have room when no segment takes readings
		memory, head = memory-memory/eventPart, head-head/eventPart
	}
	switch {
	case b.closed:
		return ErrClosed
	case last > maxSeq:
		return errors.New("the epoch has no numbers left")
	case b.head == nil:
		return b.admitsMemory(r)
	case last >= ch.limit, b.tailBytes+r.memory > memory, st.Used+r.head > head:
		return errNoRoom
	}
	return nil
}

// putReadings numbers readings, writes them into the head log and into memory; b.in
// is held. With errNoRoom it says how much is needed, and nothing happened.
func (b *Buffer) putReadings(ctx context.Context, rs []edgeagent.Reading) (last edgeagent.Seq, need room, err error) {
	perFrame := b.maxPayload / maxRow
	need = room{stream: edgeagent.StreamTelemetry, records: len(rs), memory: len(rs) * rowBytes, head: frames(1+len(rs)/perFrame, len(rs)*maxRow)}
	if err := b.admits(need); err != nil {
		return 0, need, err
	}
	ep := b.newest()
	ch := ep.streams[edgeagent.StreamTelemetry]
	if err := b.resolve(&ep.series, rs); err != nil {
		return 0, need, err
	}
	names, err := b.unframed(ep, b.rows)
	if err != nil {
		return 0, need, err
	}
	if len(names.blocks) > 0 {
		with := need
		with.head += names.room()
		switch err := b.admits(with); {
		case err == nil:
		case names.must: // after a checkpoint state.db has them, too
			need.anyway = true
			return 0, need, err
		default:
			names.blocks = nil
		}
	}
	before := b.intake[ch.stream]
	c := b.stampRows(&ep.series, rs)
	err = b.insist(ctx, func() error {
		if err := b.writeSeries(ep.id, &names); err != nil {
			return err
		}
		return b.writeRows(ch, c, perFrame)
	})
	if err != nil {
		b.intake[ch.stream] = before
		return 0, need, noRoom(err)
	}
	b.publish(ch, c, len(rs), func() { ch.tail.addRows(b.rows) })
	return ch.next - 1, need, nil
}

// noRoom makes errNoRoom of a head file that turned out to be full: what was written
// of the call is written again, under the same numbers, and the later one counts.
func noRoom(err error) error {
	if errors.Is(err, headlog.ErrFull) {
		return errNoRoom
	}
	return err
}

// resolve makes rows of readings, but for their times; b.in is held. On error
// nothing changed.
func (b *Buffer) resolve(reg *registry, rs []edgeagent.Reading) error {
	b.rows = b.rows[:0]
	known := len(reg.byID)
	for i := range rs {
		id, ok := reg.ids[rs[i].Series]
		if !ok {
			b.mu.Lock()
			var err error
			if id, err = reg.id(rs[i].Series); err != nil {
				reg.forget(known)
				b.mu.Unlock()
				return fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			b.mu.Unlock()
		}
		b.rows = append(b.rows, block.Row{Series: id, Value: rs[i].Value, Quality: rs[i].Quality})
	}
	return nil
}

// stampRows gives the rows their times, and says where they belong; b.in is held.
func (b *Buffer) stampRows(reg *registry, rs []edgeagent.Reading) cut {
	wall, run, synced := b.o.Clock.Wall().UnixNano(), b.o.Clock.Run(), b.o.Clock.Synced()
	taken := slices.ContainsFunc(rs, func(r edgeagent.Reading) bool { return !r.Recorded })
	c := b.intake[edgeagent.StreamTelemetry].next(time.Duration(wall)-run, !synced && taken)
	if c.starts {
		b.guard = b.guard[:0]
	}
	for len(b.guard) < len(reg.byID) {
		b.guard = append(b.guard, math.MinInt64)
	}
	for i := range rs {
		row := &b.rows[i]
		res := reg.res[row.Series-1]
		if rs[i].Recorded {
			row.Time = roundTime(rs[i].At.Wall, res)
			continue
		}
		wall := b.wallOf(rs[i].At, synced)
		last := &b.guard[row.Series-1]
		row.Time = stampTime(wall, *last, res)
		*last = max(*last, row.Time)
	}
	return c
}

// wallOf returns the wall time of what was taken at an instant. Before the clock is
// right it follows the run, so that one correction fits all of it, whatever steps the
// clock makes.
func (b *Buffer) wallOf(at edgeagent.Instant, synced bool) int64 {
	if synced || at.Run == 0 {
		return at.Wall
	}
	return b.start.Wall + at.Run - b.start.Run
}

// writeRows writes the rows of a call into the head log; b.in is held.
func (b *Buffer) writeRows(ch *chain, c cut, perFrame int) error {
	res := b.newest().series.res
	for at := 0; at < len(b.rows); at += perFrame {
		rows := b.rows[at:min(at+perFrame, len(b.rows))]
		f := b.frame(ch, headlog.Readings, c, at, len(rows))
		f.Payload, f.Base, f.Resolution = headlog.AppendRows(b.payload[:0], rows, finest(res, rows))
		b.payload = f.Payload
		if err := b.writeFrame(f); err != nil {
			return err
		}
	}
	return nil
}

// finest returns the finest resolution of the rows' series.
func finest(res []uint8, rows []block.Row) uint8 {
	least := uint8(math.MaxUint8)
	for i := range rows {
		least = min(least, res[rows[i].Series-1])
	}
	return least
}

// frame begins a frame of records of this run that stand at index at of a call.
func (b *Buffer) frame(ch *chain, k headlog.Kind, c cut, at, n int) headlog.Frame {
	f := headlog.Frame{Kind: k, Stream: ch.stream, Epoch: ch.epoch, Run: b.run, First: ch.next + edgeagent.Seq(at), Count: uint32(n)}
	if c.unsynced {
		f.Flags |= headlog.Unsynced
	}
	if c.starts && at == 0 {
		f.Flags |= headlog.Starts
	}
	return f
}

// putEvents is putReadings for events.
func (b *Buffer) putEvents(ctx context.Context, s edgeagent.Stream, evs []edgeagent.Event, size int) (last edgeagent.Seq, need room, err error) {
	need = room{stream: s, records: len(evs), memory: size, head: frames(1, size)}
	if err := b.admits(need); err != nil {
		return 0, need, err
	}
	ch := b.newest().streams[s]
	evs = slices.Clone(evs)
	synced := b.o.Clock.Synced()
	for i := range evs {
		if !evs[i].Recorded {
			evs[i].At.Wall = b.wallOf(evs[i].At, synced)
		}
		evs[i].At.Wall = roundTime(evs[i].At.Wall, eventResolution)
	}
	before := b.intake[s]
	taken := slices.ContainsFunc(evs, func(ev edgeagent.Event) bool { return !ev.Recorded })
	c := b.intake[s].next(time.Duration(b.o.Clock.Wall().UnixNano())-b.o.Clock.Run(), !synced && taken)
	list, bytes, err := b.eventFrames(ch, c, evs)
	if err == nil {
		need.head = frames(len(list), bytes)
		err = b.admits(need)
	}
	if err != nil {
		b.intake[s] = before
		return 0, need, err
	}
	err = b.insist(ctx, func() error {
		for _, f := range list {
			if err := b.writeFrame(f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.intake[s] = before
		return 0, need, noRoom(err)
	}
	b.publish(ch, c, len(evs), func() { ch.tail.addEvents(evs) })
	return ch.next - 1, need, nil
}

// eventFrames makes frames of events, and returns the bytes of their payloads. A
// payload is a block: events are too few to need a form of their own.
func (b *Buffer) eventFrames(ch *chain, c cut, evs []edgeagent.Event) (list []headlog.Frame, bytes int, err error) {
	id := block.ID{Stream: ch.stream, Epoch: ch.epoch, Run: b.run, Unsynced: c.unsynced, Resolution: eventResolution}
	for at := 0; at < len(evs); {
		id.First = ch.next + edgeagent.Seq(at)
		blk, n, err := shrink(min(len(evs)-at, block.MaxRecords), min(block.MaxStored, b.maxPayload), func(n int) ([]byte, error) {
			return b.frameEnc.Events(nil, id, evs[at:at+n])
		})
		if err != nil {
			return nil, 0, err
		}
		f := b.frame(ch, headlog.Events, c, at, n)
		f.Payload = blk
		list, bytes, at = append(list, f), bytes+len(blk), at+n
	}
	return list, bytes, nil
}

// publish makes n records known to readers: they are in the head log now. b.in is
// held.
func (b *Buffer) publish(ch *chain, c cut, n int, add func()) {
	now := b.o.Clock.Run()
	b.mu.Lock()
	defer b.mu.Unlock()
	before := ch.tail.bytes
	ch.tail.begin(section{first: ch.next, run: b.run, unsynced: c.unsynced, starts: c.starts})
	add()
	b.tailBytes += ch.tail.bytes - before
	b.count.pendingMost = max(b.count.pendingMost, b.tailBytes)
	b.unsynced[ch.stream].note(edgeagent.Range{From: ch.next, To: ch.next + edgeagent.Seq(n) - 1}, now, b.o.SyncEvery)
	ch.next += edgeagent.Seq(n)
	b.count.records[ch.stream] += uint64(n)
	b.appends++
	b.tell()
}

// tell wakes whoever is in Wait; b.mu is held.
func (b *Buffer) tell() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// appended does what is due after an append: an alarm is synced before its caller
// hears of it; the rest is the work of Run, or of the appender where there is none.
func (b *Buffer) appended(ctx context.Context, s edgeagent.Stream) error {
	if s == edgeagent.StreamAlarm {
		if err := b.syncHead(ctx); err != nil && !b.outlive(ctx, err) {
			return err
		}
	}
	b.mu.Lock()
	running := b.running
	b.mu.Unlock()
	if running {
		if b.checkpointDue() {
			b.poke()
		}
		return nil
	}
	b.upkeep(ctx)
	return nil
}

// giveRoom makes a checkpoint because a call does not fit, or says why it never
// will.
func (b *Buffer) giveRoom(ctx context.Context, need room) error {
	b.mu.Lock()
	b.count.waits++
	b.mu.Unlock()
	if err := b.disk.lock(ctx); err != nil {
		return err
	}
	defer b.disk.Unlock()
	var failed error
	for _, all := range []bool{false, true} {
		b.in.Lock()
		err := b.admits(need)
		b.in.Unlock()
		if !errors.Is(err, errNoRoom) && (!need.anyway || all) {
			return nil // somebody else made room, or the next try says what is wrong
		}
		// One stream that finds no room in the budget keeps the others out of no
		// segment of theirs, small as it may be.
		if failed = b.checkpoint(ctx, all); failed != nil && !errors.Is(failed, ErrFull) {
			break
		}
	}
	b.in.Lock()
	err := b.admits(need)
	b.in.Unlock()
	switch {
	case !errors.Is(err, errNoRoom):
		return nil // what failed was another stream's
	case failed != nil && hopeless(failed) && b.degrade(ctx, failed):
		return nil
	case failed != nil:
		return failed
	}
	return fullError(errors.New("memory and head log are full"))
}
