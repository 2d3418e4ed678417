package uplink

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/edgeagent/edgeagent"
)

// Format writes batches as text; sync/wire implements it.
type Format interface {
	Name() string
	// Encode appends the records of b to dst.
	Encode(dst []byte, b edgeagent.Batch, device string) ([]byte, error)
}

// partial is a format that can stop where a message is full.
type partial interface {
	// EncodeUpTo appends the first records of b to dst, as many as take up to size
	// bytes, but at least one, and returns how many those are.
	EncodeUpTo(dst []byte, b edgeagent.Batch, device string, size int) (_ []byte, records int, _ error)
}

// encoded is a format that compresses what it makes.
type encoded interface {
	// Encoding names the compression: "gzip" or "lz4", or is empty.
	Encoding() string
}

// feed reads a log and makes messages of it. It holds the readers of one session at
// a time, and batches that were read and could not be sent whole: at most one batch
// a lane, in pieces.
type feed struct {
	log     Log
	format  Format // nil: blocks
	device  string
	sources [5]source // by stream; 0 is not used
	pending [4][]edgeagent.Batch
	perText float64  // bytes of one record as text, smoothed
	texts   buffers  // of messages of text
	marked  uint64   // version of the marks that were made last
	said    [][]byte // marks that are made and not sent
	again   []Reader // what the receiver asked for again

	encoding string                           // of the format
	hold     func(edgeagent.BatchHeader) bool // records whose times are not right yet; may be nil

	// piece says how much of a batch may go in one message, and moves whether
	// records of an epoch get new numbers instead of being sent. Both may be nil.
	piece func(edgeagent.BatchHeader) edgeagent.Range
	moves func(id, newest edgeagent.Epoch) bool
}

// source is one stream of the log.
type source struct {
	cursor Cursor
	epoch  edgeagent.Epoch
	live   Reader
	old    Reader                   // nil when there is nothing left
	pos    edgeagent.Seq            // live does not return what is below
	epochs func() []edgeagent.Epoch // set where the backlog goes newest first
	seen   edgeagent.Seq            // head as last seen
	// carry is what is outstanding and must not be read: old was made to leave it
	// out, live does not know it.
	carry map[edgeagent.Epoch]edgeagent.Ranges
}

// outgoing is a message that can be sent. Count 0 means series alone.
type outgoing struct {
	head    edgeagent.BatchHeader
	payload []byte
	series  uint32 // highest id whose definition is inside
	move    bool   // not to be sent: the records are to be appended anew
	held    bool   // not to be sent yet: the times are not right
}

// inlineSeries is how many bytes of definitions go in one message with the readings
// that need them. More than that go ahead alone, so that not every message of a new
// session repeats them.
const inlineSeries = 8 << 10

func newFeed(log Log, format Format, device string) *feed {
	f := &feed{log: log, format: format, device: device, perText: 120}
	if x, ok := format.(encoded); ok {
		f.encoding = x.Encoding()
	}
	for _, s := range edgeagent.Streams() {
		f.sources[s].cursor = log.Cursor(s)
	}
	return f
}

// newestFirst makes the backlog of telemetry go newest first.
func (f *feed) newestFirst() { f.sources[edgeagent.StreamTelemetry].epochs = f.log.Epochs }

// open makes the readers of a session. Live telemetry begins with the first record
// that is unsent and not older than since (Unix ns); it returns that and the head.
func (f *feed) open(since int64, outstanding func(edgeagent.Stream) map[edgeagent.Epoch]edgeagent.Ranges) (from, head edgeagent.Seq) {
	f.pending, f.said, f.again = [4][]edgeagent.Batch{}, nil, nil
	for _, s := range edgeagent.Streams() {
		x := &f.sources[s]
		x.epoch, x.seen = x.cursor.Head()
		x.carry = outstanding(s)
		start := x.seen
		if s == edgeagent.StreamTelemetry {
			start = x.unsent(x.cursor.LiveFrom(since))
			from, head = start, x.seen
		}
		x.start(start)
	}
	return from, head
}

// unsent returns the first number at or above from that is not in carry.
func (x *source) unsent(from edgeagent.Seq) edgeagent.Seq {
	for _, r := range x.carry[x.epoch] {
		if r.Contains(from) {
			return r.To + 1
		}
	}
	return from
}

// start puts live at a number and the backlog below it.
func (x *source) start(at edgeagent.Seq) {
	x.pos = at
	x.live, x.old = x.cursor.Live(at), x.backlog(at)
}

// backlog returns a reader of what is below a number.
func (x *source) backlog(at edgeagent.Seq) Reader {
	if x.epochs != nil {
		return newNewestFirst(x.cursor, x.epochs, x.epoch, at, x.carry)
	}
	return x.cursor.Backlog(at, x.carry)
}

// reopen walks a stream's backlog anew, but for what is outstanding.
func (f *feed) reopen(s edgeagent.Stream, outstanding map[edgeagent.Epoch]edgeagent.Ranges) {
	x := &f.sources[s]
	x.carry = f.withPending(s, outstanding)
	x.old = x.backlog(x.pos)
}

// raise lets live go on at the first reading that is not older than since, or at the
// head if there is none or live is there already. What it leaves is backlog. ok is
// false when a new epoch has begun.
func (f *feed) raise(since int64, outstanding map[edgeagent.Epoch]edgeagent.Ranges) (from, head edgeagent.Seq, ok bool) {
	s := edgeagent.StreamTelemetry
	x := &f.sources[s]
	e, head := x.cursor.Head()
	if e != x.epoch {
		return 0, 0, false
	}
	f.pending[LaneLive] = nil
	x.carry = f.withPending(s, outstanding)
	from = x.unsent(x.cursor.LiveFrom(since))
	if from <= x.pos {
		from = max(head, x.pos)
	}
	x.seen = head
	x.start(from)
	return from, head, true
}

func (f *feed) withPending(s edgeagent.Stream, out map[edgeagent.Epoch]edgeagent.Ranges) map[edgeagent.Epoch]edgeagent.Ranges {
	for _, pieces := range f.pending {
		for _, b := range pieces {
			if b.Stream == s {
				rs := out[b.Epoch]
				rs.Add(b.Range())
				out[b.Epoch] = rs
			}
		}
	}
	return out
}

// poll reports streams whose head has risen. It returns false when a new epoch has
// begun, so that the readers must be made anew.
func (f *feed) poll(appended func(edgeagent.Stream, edgeagent.Seq)) bool {
	for _, s := range edgeagent.Streams() {
		x := &f.sources[s]
		e, next := x.cursor.Head()
		if e != x.epoch {
			return false
		}
		if next > x.seen {
			x.seen = next
			appended(s, next)
		}
	}
	return true
}

// heads returns where the newest epoch ends.
func (f *feed) heads() heads {
	var h heads
	for _, s := range edgeagent.Streams() {
		h.epoch, h.next[s] = f.sources[s].cursor.Head()
	}
	return h
}

// message returns the next message of a lane. ok is false when there is nothing to
// send. After an error nothing is lost: the same records come again.
func (f *feed) message(ctx context.Context, l Lane, z sizes, series map[edgeagent.Epoch]uint32) (out outgoing, ok bool, err error) {
	b, ok, err := f.batch(ctx, l, z.aim)
	if !ok || err != nil {
		return outgoing{}, false, err
	}
	if f.moves != nil && f.moves(b.Epoch, f.sources[b.Stream].epoch) {
		return outgoing{head: b.BatchHeader, move: true}, true, nil
	}
	if f.hold != nil && b.Unsynced && (l == LaneLive || l == LaneBacklog) && f.hold(b.BatchHeader) {
		return outgoing{head: b.BatchHeader, held: true}, true, nil
	}
	b, err = f.first(l, b)
	var payload []byte
	if err == nil {
		b, payload, err = f.fit(l, b, z.aim)
	}
	if err == nil && len(payload) > z.most {
		return outgoing{}, false, &tooLargeError{b.BatchHeader, len(payload), z.most}
	}
	if err == nil {
		out, err = f.withSeries(l, b, payload, z, series)
	}
	if err != nil {
		f.unread(l, b)
		return outgoing{}, false, fmt.Errorf("make message of %s %d to %d: %w", b.Stream, b.First, b.Last(), err)
	}
	return out, true, nil
}

// first returns what of b may go in one message and keeps the rest.
func (f *feed) first(l Lane, b edgeagent.Batch) (edgeagent.Batch, error) {
	if f.piece == nil {
		return b, nil
	}
	r := f.piece(b.BatchHeader)
	if r == b.Range() {
		return b, nil
	}
	return f.cut(l, b, r.To+1)
}

// cut returns what of b is below a number and keeps the rest.
func (f *feed) cut(l Lane, b edgeagent.Batch, middle edgeagent.Seq) (edgeagent.Batch, error) {
	first, err := b.Cut(edgeagent.Range{From: b.First, To: middle - 1})
	if err != nil {
		return b, fmt.Errorf("cut: %w", err)
	}
	second, err := b.Cut(edgeagent.Range{From: middle, To: b.Last()})
	if err != nil {
		return b, fmt.Errorf("cut: %w", err)
	}
	f.unread(l, second)
	return first, nil
}

// withSeries puts the definitions that the receiver may lack in front of a block, or
// returns them alone and keeps the block for later.
func (f *feed) withSeries(l Lane, b edgeagent.Batch, payload []byte, z sizes, accepted map[edgeagent.Epoch]uint32) (outgoing, error) {
	out := outgoing{head: b.BatchHeader, payload: payload}
	above, room := accepted[b.Epoch], min(max(z.aim, inlineSeries), z.whole)
	if f.format != nil || b.MaxSeriesID <= above {
		return out, nil
	}
	blocks, err := f.log.SeriesBlocks(b.Epoch, above, b.MaxSeriesID, room)
	if err != nil {
		return out, fmt.Errorf("read series above %d: %w", above, err)
	}
	var definitions []byte
	fit := 0
	for _, s := range blocks {
		if len(definitions)+len(s.Encoded) > room {
			break
		}
		definitions = append(definitions, s.Encoded...)
		above = max(above, s.MaxID)
		fit++
	}
	switch {
	case fit == len(blocks) && len(definitions) <= inlineSeries && len(definitions)+len(payload) <= z.whole:
		out.payload, out.series = slices.Concat(definitions, payload), b.MaxSeriesID
	case fit == 0 || above == accepted[b.Epoch]:
		return out, fmt.Errorf("a block of series above %d is larger than %d bytes", above, room)
	default:
		if fit == len(blocks) {
			above = b.MaxSeriesID
		}
		f.unread(l, b)
		return outgoing{head: edgeagent.BatchHeader{Epoch: b.Epoch}, payload: definitions, series: above}, nil
	}
	return out, nil
}

// series returns a message of the definitions that the receiver asked for, or of as
// many as fit.
func (f *feed) series(n needed, z sizes) (outgoing, error) {
	blocks, err := f.log.SeriesBlocks(n.epoch, n.from-1, n.to, z.whole)
	if err != nil {
		return outgoing{}, fmt.Errorf("read series %d to %d: %w", n.from, n.to, err)
	}
	out := outgoing{head: edgeagent.BatchHeader{Epoch: n.epoch}}
	for _, s := range blocks {
		if len(out.payload)+len(s.Encoded) > z.whole {
			break
		}
		out.payload = append(out.payload, s.Encoded...)
	}
	return out, nil
}

// unread puts a batch back, to be the next one of its lane.
func (f *feed) unread(l Lane, b edgeagent.Batch) {
	f.pending[l] = append([]edgeagent.Batch{b}, f.pending[l]...)
}

// batch returns the next batch of a lane.
func (f *feed) batch(ctx context.Context, l Lane, limit int) (edgeagent.Batch, bool, error) {
	for {
		if pieces := f.pending[l]; len(pieces) > 0 {
			f.pending[l] = pieces[1:]
			return pieces[0], true, nil
		}
		b, ok, err := f.read(ctx, l, f.readLimit(l, limit))
		if !ok || err != nil {
			return edgeagent.Batch{}, false, err
		}
		f.keep(l, b)
	}
}

// readLimit says how much to read for a message of size bytes. A stored block of
// readings is decoded once for all the messages of text that it makes.
func (f *feed) readLimit(l Lane, size int) edgeagent.Limit {
	switch {
	case f.format == nil:
		return edgeagent.Limit{Bytes: size}
	case l == LaneAlarm || l == LaneEvent:
		return edgeagent.Limit{Records: f.guess(size, math.MaxInt32), Decoded: true}
	}
	return edgeagent.Limit{Decoded: true}
}

// keep puts b into pending, without what was accepted in an earlier session.
func (f *feed) keep(l Lane, b edgeagent.Batch) {
	var pieces []edgeagent.Batch
	for _, r := range f.sources[b.Stream].carry[b.Epoch].Missing(b.Range()) {
		piece, err := b, error(nil)
		if r != b.Range() {
			piece, err = b.Cut(r)
		}
		if err != nil { // too much is no harm: only blocks are ever carried
			pieces = []edgeagent.Batch{b}
			break
		}
		pieces = append(pieces, piece)
	}
	f.pending[l] = append(f.pending[l], pieces...)
}

// read returns the next batch of a lane from its readers, in their order.
func (f *feed) read(ctx context.Context, l Lane, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	telemetry, rollup := &f.sources[edgeagent.StreamTelemetry], &f.sources[edgeagent.StreamRollup]
	switch l {
	case LaneAlarm:
		return f.sources[edgeagent.StreamAlarm].next(ctx, limit)
	case LaneEvent:
		return f.sources[edgeagent.StreamEvent].next(ctx, limit)
	case LaneLive:
		return telemetry.nextLive(ctx, limit)
	case LaneBacklog:
	}
	b, ok, err := telemetry.nextOld(ctx, limit)
	if ok || err != nil {
		return b, ok, err
	}
	if b, ok, err = rollup.next(ctx, limit); ok || err != nil {
		return b, ok, err
	}
	return f.nextAgain(ctx, limit)
}

// next reads the backlog, and then live.
func (x *source) next(ctx context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	b, ok, err := x.nextOld(ctx, limit)
	if ok || err != nil {
		return b, ok, err
	}
	return x.nextLive(ctx, limit)
}

func (x *source) nextOld(ctx context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	if x.old == nil {
		return edgeagent.Batch{}, false, nil
	}
	b, ok, err := x.old.Next(ctx, limit)
	if err == nil && !ok {
		x.old = nil
	}
	return b, ok, err
}

func (x *source) nextLive(ctx context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	b, ok, err := x.live.Next(ctx, limit)
	if ok && err == nil {
		x.pos = max(x.pos, b.Last()+1)
	}
	return b, ok, err
}
