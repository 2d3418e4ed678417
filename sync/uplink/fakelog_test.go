package uplink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

// memLog is a log in memory. Its blocks are one line of text that names what is
// inside, padded to a realistic size, so that a receiver can be modelled without a
// codec.
type memLog struct {
	mu        sync.Mutex
	epochs    []edgeagent.Epoch // oldest first
	walls     map[place][]int64 // wall times of records 1, 2, 3 …
	confirmed map[place]edgeagent.Ranges
	appends   uint64
	changed   chan struct{}
	series    uint32 // defined in each epoch
	perSeries int    // bytes of one definition

	onAck   func(p place, r edgeagent.Range) // sees every confirm
	failAck func() error
	failAt  map[edgeagent.Stream]error // reading fails

	gone    map[place]edgeagent.Ranges // confirmed, and not stored any more
	runs    map[place]edgeagent.Run    // of other runs than 1
	rewound map[edgeagent.Epoch]bool
	proofs  int
	late    bool // a rewind was proved lately
	dead    map[place]edgeagent.Ranges
	causes  []string
	failLog error // of all that is not an Ack
	replays int
	decoded int // batches that were read for their records alone

	unsynced func() bool // records that are read bear wrong times; mu is held

	version uint64 // of the marks
	marks   int    // blocks of marks; each has 1,000 bytes
}

const (
	blockHead   = 64
	recordBytes = 10
)

func newLog() *memLog {
	return &memLog{
		epochs: []edgeagent.Epoch{0xe1}, walls: map[place][]int64{}, confirmed: map[place]edgeagent.Ranges{},
		changed: make(chan struct{}), series: 20, perSeries: 50,
		gone: map[place]edgeagent.Ranges{}, dead: map[place]edgeagent.Ranges{}, rewound: map[edgeagent.Epoch]bool{}, runs: map[place]edgeagent.Run{},
	}
}

func (l *memLog) newest() edgeagent.Epoch { return l.epochs[len(l.epochs)-1] }

// add appends n records with the wall time now.
func (l *memLog) add(s edgeagent.Stream, n int) { l.addAt(s, n, time.Now().UnixNano()) }

func (l *memLog) addAt(s edgeagent.Stream, n int, wall int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := place{l.newest(), s}
	l.walls[p] = append(l.walls[p], slices.Repeat([]int64{wall}, n)...)
	l.grown()
}

func (l *memLog) grown() {
	l.appends++
	close(l.changed)
	l.changed = make(chan struct{})
}

// begin starts another epoch.
func (l *memLog) begin(e edgeagent.Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs = append(l.epochs, e)
	l.grown()
}

func (l *memLog) Wait(ctx context.Context, seen uint64) (uint64, error) {
	for {
		l.mu.Lock()
		n, changed := l.appends, l.changed
		l.mu.Unlock()
		if n > seen {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

func (l *memLog) Epochs() []edgeagent.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.epochs)
}

func (l *memLog) Cursor(s edgeagent.Stream) Cursor { return memCursor{l, s} }

func (l *memLog) SeriesBlocks(e edgeagent.Epoch, above, upTo uint32, limit int) ([]SeriesBlock, error) {
	var out []SeriesBlock
	each := uint32(max(1, (limit-blockHead)/l.perSeries))
	for above < min(upTo, l.series) {
		to := min(above+each, upTo, l.series)
		out = append(out, SeriesBlock{pad(fmt.Sprintf("S %d %d %d", e, above, to), blockHead+int(to-above)*l.perSeries), to})
		above = to
	}
	return out, nil
}

func (l *memLog) MarksVersion() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version
}

func (l *memLog) Marks(int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out [][]byte
	for i := range l.marks {
		out = append(out, pad(fmt.Sprintf("M %d %d", l.version, i), 1000))
	}
	return out, nil
}

// evict gives a range up: it is named in the marks.
func (l *memLog) evict(p place, r edgeagent.Range) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, set := range []map[place]edgeagent.Ranges{l.gone, l.dead, l.confirmed} {
		rs := set[p]
		rs.Add(r)
		set[p] = rs
	}
	l.version++
	l.marks = 1
	l.grown()
}

// mark makes the marks say something new.
func (l *memLog) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version++
	l.grown()
}

func (l *memLog) Ack(_ context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failAck != nil {
		if err := l.failAck(); err != nil {
			return err
		}
	}
	p := place{e, s}
	rs := l.confirmed[p]
	for _, r := range ranges {
		if l.onAck != nil {
			for _, fresh := range rs.Missing(r) {
				l.onAck(p, fresh)
			}
		}
		if r.To > edgeagent.Seq(len(l.walls[p])) {
			return fmt.Errorf("confirms %d of %d records", r.To, len(l.walls[p]))
		}
		rs.Add(r)
	}
	l.confirmed[p] = rs
	return nil
}

func (l *memLog) RunAt(e edgeagent.Epoch, s edgeagent.Stream, n edgeagent.Seq) (edgeagent.Run, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := place{e, s}
	if n == 0 || int(n) > len(l.walls[p]) {
		return 0, false
	}
	return max(l.runs[p], 1), true
}

func (l *memLog) Replay(_ context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) (Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failLog != nil {
		return nil, l.failLog
	}
	l.replays++
	p := place{e, s}
	r := &memReplay{log: l, p: p}
	for _, x := range ranges {
		x.To = min(x.To, edgeagent.Seq(len(l.walls[p])))
		r.left = append(r.left, l.gone[p].Missing(x)...)
	}
	return r, nil
}

// memReplay reads ranges whether they are confirmed or not.
type memReplay struct {
	log   *memLog
	p     place
	left  []edgeagent.Range
	reads int
}

func (r *memReplay) Next(_ context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if len(r.left) == 0 {
		return edgeagent.Batch{}, false, nil
	}
	part := r.left[0]
	part.To = min(part.To, part.From+edgeagent.Seq(bound(limit))-1)
	if r.left[0].From = part.To + 1; part.To == r.left[0].To {
		r.left = r.left[1:]
	}
	return r.log.read(r.p, part, limit, &r.reads), true, nil
}

func (l *memLog) Reappend(_ context.Context, e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failLog != nil {
		return l.failLog
	}
	if e == l.newest() {
		return errors.New("the newest epoch")
	}
	old, now := place{e, s}, place{l.newest(), s}
	rs := l.confirmed[old]
	for _, r := range ranges {
		for _, part := range rs.Missing(r) {
			l.walls[now] = append(l.walls[now], l.walls[old][part.From-1:part.To]...)
		}
		rs.Add(r)
	}
	l.confirmed[old] = rs
	l.grown()
	return nil
}

func (l *memLog) ProveRewind(_ context.Context, e edgeagent.Epoch) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failLog != nil {
		return false, l.failLog
	}
	l.proofs++
	if l.late {
		return false, nil
	}
	l.rewound[e] = true
	return true, nil
}

func (l *memLog) Rewound(e edgeagent.Epoch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rewound[e]
}

func (l *memLog) DeadLetter(_ context.Context, e edgeagent.Epoch, s edgeagent.Stream, r edgeagent.Range, cause string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failLog != nil {
		return l.failLog
	}
	p := place{e, s}
	for _, set := range []map[place]edgeagent.Ranges{l.dead, l.confirmed} {
		rs := set[p]
		rs.Add(r)
		set[p] = rs
	}
	l.causes = append(l.causes, cause)
	l.version++
	l.grown()
	return nil
}

// unconfirmed counts over all streams and epochs.
func (l *memLog) unconfirmed() uint64 {
	var n uint64
	for _, s := range edgeagent.Streams() {
		n += l.Cursor(s).Unconfirmed()
	}
	return n
}

type memCursor struct {
	log    *memLog
	stream edgeagent.Stream
}

func (c memCursor) Head() (edgeagent.Epoch, edgeagent.Seq) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	e := c.log.newest()
	return e, edgeagent.Seq(len(c.log.walls[place{e, c.stream}])) + 1
}

func (c memCursor) LiveFrom(since int64) edgeagent.Seq {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	p := place{c.log.newest(), c.stream}
	walls := c.log.walls[p]
	for _, r := range c.log.confirmed[p].Missing(edgeagent.Range{From: 1, To: edgeagent.Seq(len(walls))}) {
		for n := r.From; n <= r.To; n++ {
			if walls[n-1] >= since {
				return n
			}
		}
	}
	return edgeagent.Seq(len(walls)) + 1
}

func (c memCursor) Live(from edgeagent.Seq) Reader {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return &memReader{c: c, epochs: []edgeagent.Epoch{c.log.newest()}, pos: from, live: true}
}

func (c memCursor) Backlog(below edgeagent.Seq, skip map[edgeagent.Epoch]edgeagent.Ranges) Reader {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return &memReader{c: c, epochs: slices.Clone(c.log.epochs), pos: 1, below: below, skip: skip}
}

func (c memCursor) Unconfirmed() uint64 {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	var n uint64
	for _, e := range c.log.epochs {
		p := place{e, c.stream}
		n += uint64(len(c.log.walls[p])) - c.log.confirmed[p].Count()
	}
	return n
}

type memReader struct {
	c      memCursor
	epochs []edgeagent.Epoch
	pos    edgeagent.Seq
	below  edgeagent.Seq // bounds the last epoch, if not live
	live   bool
	skip   map[edgeagent.Epoch]edgeagent.Ranges
	reads  int
}

func (r *memReader) Next(_ context.Context, limit edgeagent.Limit) (edgeagent.Batch, bool, error) {
	l := r.c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failAt[r.c.stream]; err != nil {
		return edgeagent.Batch{}, false, err
	}
	for len(r.epochs) > 0 {
		e := r.epochs[0]
		p := place{e, r.c.stream}
		last := edgeagent.Seq(len(l.walls[p]))
		if len(r.epochs) == 1 && !r.live {
			last = min(last, r.below-1)
		}
		unwanted := slices.Clone(l.confirmed[p])
		for _, x := range r.skip[e] {
			unwanted.Add(x)
		}
		if parts := unwanted.Missing(edgeagent.Range{From: r.pos, To: last}); len(parts) > 0 {
			part := parts[0]
			part.To = min(part.To, part.From+edgeagent.Seq(bound(limit))-1)
			r.pos = part.To + 1
			return l.read(p, part, limit, &r.reads), true, nil
		}
		if len(r.epochs) == 1 {
			break
		}
		r.epochs, r.pos = r.epochs[1:], 1
	}
	return edgeagent.Batch{}, false, nil
}

func bound(limit edgeagent.Limit) int {
	n := 4096
	if limit.Records > 0 {
		n = min(n, limit.Records)
	}
	if limit.Bytes > 0 {
		n = min(n, (limit.Bytes-blockHead)/recordBytes)
	}
	return max(1, n)
}

// read returns what a reader has read. One that was asked for records alone takes back
// what it gave before.
func (l *memLog) read(p place, r edgeagent.Range, limit edgeagent.Limit, reads *int) edgeagent.Batch {
	*reads++
	if !limit.Decoded {
		return l.batch(p, r)
	}
	l.decoded++
	this := *reads
	return l.loose(p, r, func() bool { return this == *reads })
}

// loose makes a batch without a block, which may be used while valid.
func (l *memLog) loose(p place, r edgeagent.Range, valid func() bool) edgeagent.Batch {
	return edgeagent.NewBatch(l.batch(p, r).BatchHeader, nil, memLoose{memContent{l, p, r}, valid})
}

type memLoose struct {
	memContent
	valid func() bool
}

func (c memLoose) Cut(r edgeagent.Range) (edgeagent.Batch, error) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if !c.valid() {
		return edgeagent.Batch{}, fmt.Errorf("records %v were taken back", c.r)
	}
	return c.log.loose(c.p, r, c.valid), nil
}

func (l *memLog) batch(p place, r edgeagent.Range) edgeagent.Batch {
	h := edgeagent.BatchHeader{
		Stream: p.stream, Epoch: p.epoch, Run: 1, First: r.From, Count: int(r.Len()),
		MinTime: l.walls[p][r.From-1], MaxTime: l.walls[p][r.To-1],
	}
	h.Unsynced = l.unsynced != nil && l.unsynced()
	if p.stream == edgeagent.StreamTelemetry {
		h.MaxSeriesID = min(l.series, uint32(r.To)) // record n is of series n, up to the last one
	}
	text := fmt.Sprintf("B %d %d %d %d %d", h.Epoch, h.Stream, h.First, h.Count, h.MaxSeriesID)
	return edgeagent.NewBatch(h, pad(text, blockHead+h.Count*recordBytes), memContent{l, p, r})
}

type memContent struct {
	log *memLog
	p   place
	r   edgeagent.Range
}

func (c memContent) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	for range c.r.Len() {
		dst = append(dst, edgeagent.Reading{})
	}
	return dst, nil
}

func (c memContent) Events(dst []edgeagent.Event) ([]edgeagent.Event, error) {
	return append(dst, make([]edgeagent.Event, c.r.Len())...), nil
}

func (c memContent) Cut(r edgeagent.Range) (edgeagent.Batch, error) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.log.batch(c.p, r), nil
}

// pad makes a block of about n bytes: the text, the length, dots, a line end.
func pad(text string, n int) []byte {
	text += " "
	return []byte(text + strings.Repeat(".", max(0, n-len(text)-1)) + "\n")
}

// receiver is the other end: it reads messages and knows what it holds.
type receiver struct {
	mu     sync.Mutex
	held   map[place]edgeagent.Ranges
	series map[edgeagent.Epoch]uint32
	need   map[edgeagent.Epoch]uint32 // lowest id that was missing
	twice  uint64                     // records that came again
	log    []arrival
	errs   []string
	onAck  func(edgeagent.Ack) edgeagent.Ack
}

type arrival struct {
	lane    Lane
	head    edgeagent.BatchHeader
	size    int
	at      time.Time
	payload string // without padding
}

func newReceiver() *receiver {
	return &receiver{held: map[place]edgeagent.Ranges{}, series: map[edgeagent.Epoch]uint32{}, need: map[edgeagent.Epoch]uint32{}}
}

// take reads one message. It reports an error of its own for readings of which it
// does not know the series: an engine in one session must not let that happen.
func (r *receiver) take(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, arrival{m.Lane, m.Identity, len(m.Payload), time.Now(), strings.TrimRight(string(m.Payload), ".\n ")})
	for line := range strings.SplitSeq(strings.TrimSuffix(string(m.Payload), "\n"), "\n") {
		f := fields(line)
		switch {
		case strings.HasPrefix(line, "S "):
			if e := edgeagent.Epoch(f[0]); uint32(f[1]) <= r.series[e] {
				r.series[e] = max(r.series[e], uint32(f[2]))
			}
		case strings.HasPrefix(line, "B "):
			p := place{edgeagent.Epoch(f[0]), edgeagent.Stream(f[1])}
			if uint32(f[4]) > r.series[p.epoch] {
				r.errs = append(r.errs, fmt.Sprintf("series up to %d, knows %d", f[4], r.series[p.epoch]))
				r.need[p.epoch] = r.series[p.epoch] + 1
				continue
			}
			rs := r.held[p]
			fresh := rs.Add(edgeagent.Range{From: edgeagent.Seq(f[2]), To: edgeagent.Seq(f[2] + f[3] - 1)})
			r.held[p] = rs
			r.twice += uint64(f[3]) - fresh
		case strings.HasPrefix(line, "M "):
		default:
			r.errs = append(r.errs, "cannot read "+line)
		}
	}
}

func fields(line string) []uint64 {
	var out []uint64
	for _, x := range strings.Fields(line)[1:] {
		if n, err := strconv.ParseUint(x, 10, 64); err == nil {
			out = append(out, n)
		}
	}
	return append(out, 0, 0, 0, 0, 0)
}

// ack is what the receiver would say of an epoch.
func (r *receiver) ack(e edgeagent.Epoch) edgeagent.Ack {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := edgeagent.Ack{By: DefaultReceiver, Epoch: e, Have: map[edgeagent.Stream]edgeagent.Ranges{}}
	for p, rs := range r.held {
		if p.epoch == e {
			a.Have[p.stream] = slices.Clone(rs)
		}
	}
	if id, ok := r.need[e]; ok {
		a.Need.Series = []uint32{id}
		delete(r.need, e)
	}
	if r.onAck != nil {
		a = r.onAck(a)
	}
	return a
}

func (r *receiver) holds(p place, x edgeagent.Range) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held[p].Missing(x)) == 0
}

func (r *receiver) arrivals() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *receiver) problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.errs)
}

// known returns the epochs that the receiver has something to say of.
func (r *receiver) known() []edgeagent.Epoch {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Collect(maps.Keys(r.need))
	for p := range r.held {
		if !slices.Contains(out, p.epoch) {
			out = append(out, p.epoch)
		}
	}
	return out
}
