package buffer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// The world is an agent that uses a buffer at random, and remembers all that it
// was promised. What a crash leaves is held against that.

// simChain is one stream of one epoch.
type simChain struct {
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
}

type simID struct {
	simChain
	seq edgeagent.Seq
}

// content is a record as it must come back: no two are alike.
type simRecord struct {
	run    edgeagent.Run
	name   string // series, or the event's id
	value  uint64 // bits
	wall   int64
	detail string
}

// simProgress is how far a chain has come.
type simProgress struct {
	offered edgeagent.Seq // highest number that the buffer was asked to give
	given   edgeagent.Seq // highest that an append returned
	durable edgeagent.Seq // what was given up to here survives a power cut
}

// simNote says what was promised at a step of a tape.
type simNote struct {
	epoch  edgeagent.Epoch
	chains map[simChain]simProgress
	acks   int // that many were sent, the last one maybe not returned yet
	named  int // that many names of series have left
}

// simName is a series that a receiver knows by its id.
type simName struct {
	epoch edgeagent.Epoch
	id    uint32
	name  string
}

type simAck struct {
	dest string
	simChain
	edgeagent.Range
}

// What is wrong with what a crash left. Each is a promise of the package.
var (
	errRefused     = errors.New("refuses to start")
	errLost        = errors.New("lost")
	errUnexplained = errors.New("neither there nor in the ledger")
	errWrong       = errors.New("wrong content")
	errTwice       = errors.New("number given twice")
	errAlarm       = errors.New("damage where there was none")
	errLedger      = errors.New("ledger is wrong")
	errCursor      = errors.New("cursor is wrong")
)

// promiseOf names the promise that an error says is broken.
func promiseOf(err error) string {
	for _, p := range []error{errRefused, errLost, errUnexplained, errWrong, errTwice, errAlarm, errLedger, errCursor} {
		if errors.Is(err, p) {
			return p.Error()
		}
	}
	return "other"
}

type simWorld struct {
	rnd   *rand.Rand
	dir   string
	o     Options
	clock *simClock
	boot  int
	b     *Buffer
	tape  *tape // nil: nothing is recorded

	offered  map[simID][]simRecord
	accepted map[simID]simRecord
	order    map[simChain][]edgeagent.Seq // of what was accepted
	acks     []simAck
	named    []simName
	highest  map[edgeagent.Epoch]uint32 // series id that has left
	dests    []string
	now      simNote
	waiting  []simWaiting
	free     uint64 // what the file system says it has
	counter  int
	full     int    // appends that were refused because of it
	vouched  bool   // acks are durable: what is confirmed need not be synced
	evicts   bool   // the budget is small: records may give way
	thins    bool   // to rollups
	burst    int    // the most readings of one append
	rolled   uint64 // readings that rollups which were checked speak of

	tolerant bool // the disk fails, and so may calls
	suffered []error

	firstStep int // of the tape, behind what was there before
}

// simWaiting is something that is not durable yet.
type simWaiting struct {
	simChain
	seq edgeagent.Seq
	at  time.Duration
}

// simClock is a clock that a test moves.
type simClock struct {
	wall     time.Time
	run      time.Duration
	unsynced bool
}

func (c *simClock) Wall() time.Time    { return c.wall }
func (c *simClock) Run() time.Duration { return c.run }
func (c *simClock) Synced() bool       { return !c.unsynced }

func (c *simClock) advance(d time.Duration) { c.wall, c.run = c.wall.Add(d), c.run+d }

func newSimWorld(rnd *rand.Rand, dir string) *simWorld {
	w := &simWorld{
		rnd: rnd, dir: dir, clock: &simClock{wall: time.Unix(1_700_000_000, 0), run: time.Hour},
		offered: map[simID][]simRecord{}, accepted: map[simID]simRecord{}, order: map[simChain][]edgeagent.Seq{}, highest: map[edgeagent.Epoch]uint32{}, dests: []string{"cloud"},
		now: simNote{chains: map[simChain]simProgress{}}, free: 1 << 40, burst: 400,
	}
	w.o = Options{
		Config: Config{MaxBytes: minMaxBytes, Policy: DropOldest, BlockSize: 64, Encryption: testKey()}, Device: "gw-1",
		Clock: w.clock, segment: 160 << 10, head: 64 << 10,
		Identify: w.identify(0),
		space:    func(string) (uint64, uint64, bool) { return w.free, 1 << 40, true },
	}
	return w
}

// thin makes old readings give way to rollups, as they do by default, or not.
func (w *simWorld) thin(yes bool) {
	w.thins, w.o.Policy = yes, DropOldest
	if yes {
		w.o.Policy = DownsampleOldest
	}
}

// identify returns the identity of the machine some boots from now.
func (w *simWorld) identify(later int) func(string) (Identity, error) {
	return func(string) (Identity, error) {
		return Identity{Machine: "m1", Hardware: "h1", Boot: "b" + strconv.Itoa(w.boot+later), Mount: "7"}, nil
	}
}

// record begins a tape of the world's directory.
func (w *simWorld) record() {
	w.tape = newTape(w.dir)
	w.o.faults, w.o.headFS = w.tape.faults, tapedFS{w.tape}
	w.mark()
	w.firstStep = len(w.tape.steps)
}

// simWindow is how old a record may become before a power cut cannot take it any
// more; 0: it is safe when Append returns.
const simWindow = time.Second

// mark notes on the tape what is promised now.
func (w *simWorld) mark() {
	if w.tape == nil {
		return
	}
	n := simNote{epoch: w.now.epoch, chains: maps.Clone(w.now.chains), acks: len(w.acks), named: len(w.named)}
	w.tape.note(&n)
}

// promise moves on what is durable: after a sync all that was given, otherwise
// what is too old to be lost.
func (w *simWorld) promise(synced bool) {
	w.waiting = slices.DeleteFunc(w.waiting, func(x simWaiting) bool {
		done := synced || x.stream == edgeagent.StreamAlarm || x.at+simWindow <= w.clock.run
		if done {
			p := w.now.chains[x.simChain]
			p.durable = max(p.durable, x.seq)
			w.now.chains[x.simChain] = p
		}
		return done
	})
	w.mark()
}

func openSim(dir string, o Options) (*Buffer, Report, error) {
	b, report, err := Open(context.Background(), dir, o)
	if err != nil {
		return nil, report, fmt.Errorf("%w: %w", errRefused, err)
	}
	return b, report, nil
}

// open opens the buffer and registers the destinations.
func (w *simWorld) open() (Report, error) {
	b, report, err := openSim(w.dir, w.o)
	if err != nil {
		return report, err
	}
	if b.Stats().Memory {
		b.crash()
		return report, errInMemory
	}
	w.b = b
	if w.now.epoch != b.Epoch() {
		w.now.epoch = b.Epoch()
	}
	w.mark()
	for _, d := range w.dests {
		if err := b.Register(Destination{Name: d, Durable: w.vouched}); err != nil {
			b.crash()
			return report, err
		}
	}
	return report, nil
}

// streams that the world appends to, the frequent ones more often.
var simStreams = []edgeagent.Stream{
	edgeagent.StreamTelemetry, edgeagent.StreamTelemetry, edgeagent.StreamTelemetry, edgeagent.StreamTelemetry,
	edgeagent.StreamTelemetry, edgeagent.StreamTelemetry, edgeagent.StreamEvent, edgeagent.StreamAlarm,
}

// append appends n records.
func (w *simWorld) append(s edgeagent.Stream, n int) error {
	st := w.b.Stats()
	id, next := simChain{st.Epoch, s}, st.Streams[s].Next
	p := w.now.chains[id]
	if next <= p.given {
		return fmt.Errorf("%w: %s goes on at %d, %d was given", errTwice, s, next, p.given)
	}
	var rs []edgeagent.Reading
	var evs []edgeagent.Event
	made := make([]simRecord, n)
	for i := range made {
		if s == edgeagent.StreamTelemetry {
			rs = append(rs, w.reading())
			made[i] = readingContent(&rs[i], w.b.RunID())
		} else {
			evs = append(evs, w.event())
			made[i] = eventContent(&evs[i], w.b.RunID())
		}
		r := simID{id, next + edgeagent.Seq(i)}
		w.offered[r] = append(w.offered[r], made[i])
	}
	p.offered = max(p.offered, next+edgeagent.Seq(n)-1)
	w.now.chains[id] = p
	w.mark()
	var last edgeagent.Seq
	var err error
	if s == edgeagent.StreamTelemetry {
		last, err = w.b.Append(context.Background(), rs)
	} else {
		last, err = w.b.AppendEvents(context.Background(), s, evs)
	}
	if w.b.Stats().Memory {
		return errInMemory
	}
	if err == nil && last != next+edgeagent.Seq(n)-1 {
		return fmt.Errorf("%w: %s: last is %d, want %d", errTwice, s, last, next+edgeagent.Seq(n)-1)
	}
	if last >= next { // a call of many may have come a part of its way
		for i := range made[:last-next+1] {
			w.accepted[simID{id, next + edgeagent.Seq(i)}] = made[i]
			w.order[id] = append(w.order[id], next+edgeagent.Seq(i))
		}
		p.given = last
		w.now.chains[id] = p
		w.waiting = append(w.waiting, simWaiting{id, last, w.clock.run})
	}
	if errors.Is(err, ErrFull) {
		w.full++
		err = nil
	}
	w.promise(false)
	return w.suffer(err)
}

// errInMemory: the buffer has given the disk up, and what comes is not held against it.
var errInMemory = errors.New("the buffer is in memory")

// suffer notes an error, which is none if the disk is meant to fail.
func (w *simWorld) suffer(err error) error {
	if err != nil && w.tolerant && !errors.Is(err, errInMemory) {
		w.suffered = append(w.suffered, err)
		return nil
	}
	return err
}

func (w *simWorld) reading() edgeagent.Reading {
	w.counter++
	v := float64(w.counter) / 100
	if w.rnd.IntN(4) == 0 {
		v = math.Float64frombits(w.rnd.Uint64())
	}
	return edgeagent.Reading{
		Series: series(w.rnd.IntN(3 + min(w.counter%1_000_000/100, 40))), Value: v, Recorded: true,
		At: edgeagent.Instant{Wall: w.clock.wall.UnixMilli()*1e6 + int64(w.counter)*1e6},
	}
}

func (w *simWorld) event() edgeagent.Event {
	w.counter++
	return edgeagent.Event{
		Kind: edgeagent.KindAlarm, ID: "r/" + strconv.Itoa(w.counter), N: 1, Recorded: true,
		At:   edgeagent.Instant{Wall: w.clock.wall.UnixMilli()*1e6 + int64(w.counter)*1e6},
		Text: strings.Repeat("x", w.rnd.IntN(200)),
	}
}

func readingContent(r *edgeagent.Reading, run edgeagent.Run) simRecord {
	return simRecord{run: run, name: r.Series.String(), value: math.Float64bits(r.Value), wall: r.At.Wall}
}

func eventContent(e *edgeagent.Event, run edgeagent.Run) simRecord {
	return simRecord{run: run, name: e.ID, wall: e.At.Wall, detail: e.Text}
}

func rollupContent(r *edgeagent.Rollup, run edgeagent.Run) simRecord {
	return simRecord{
		run: run, name: r.Series.String(), value: r.Count, wall: r.At.Wall,
		detail: fmt.Sprint(r.Bucket, r.Sum, r.Min, r.Max, r.First, r.Last),
	}
}

func (w *simWorld) sync() error {
	err := w.b.Sync(context.Background())
	if err == nil {
		if w.b.Stats().Memory {
			return errInMemory
		}
		w.promise(true)
	}
	return w.suffer(err)
}

// ack confirms some of what was given, mostly the oldest.
func (w *simWorld) ack() error {
	for _, s := range edgeagent.Streams() {
		id := simChain{w.now.epoch, s}
		p := w.now.chains[id]
		if p.given == 0 || w.rnd.IntN(2) == 0 {
			continue
		}
		to := 1 + edgeagent.Seq(w.rnd.Uint64N(uint64(p.given)))
		from := edgeagent.Seq(1)
		if w.rnd.IntN(4) == 0 {
			from = 1 + edgeagent.Seq(w.rnd.Uint64N(uint64(to)))
		}
		for _, d := range w.dests {
			a := simAck{d, id, edgeagent.Range{From: from, To: to}}
			w.acks = append(w.acks, a)
			w.mark()
			if err := w.suffer(w.b.Ack(context.Background(), d, id.epoch, id.stream, []edgeagent.Range{a.Range})); err != nil {
				return err
			}
		}
	}
	return nil
}

// deliver sends the newest readings, whatever is durable of them, after the series
// that they name.
func (w *simWorld) deliver() error {
	c, err := w.b.Cursor(w.dests[0], edgeagent.StreamTelemetry)
	if err != nil {
		return err
	}
	epoch, next := c.Head()
	batch, ok, err := c.Live(max(1, next-min(next-1, 20))).Next(context.Background(), edgeagent.Limit{})
	if err != nil || !ok || batch.MaxSeriesID <= w.highest[epoch] {
		return w.suffer(err)
	}
	names, err := seriesNames(w.b, epoch, w.highest[epoch], batch.MaxSeriesID)
	if err != nil {
		return err
	}
	for id := w.highest[epoch] + 1; id <= batch.MaxSeriesID; id++ {
		if names[id] == "" {
			return fmt.Errorf("%w: series %d is used and has no name", errWrong, id)
		}
		w.named = append(w.named, simName{epoch, id, names[id]})
	}
	w.highest[epoch] = batch.MaxSeriesID
	w.mark()
	return nil
}

// seriesNames returns the names of the ids in (above, upTo] as a receiver learns
// them.
func seriesNames(b *Buffer, e edgeagent.Epoch, above, upTo uint32) (map[uint32]string, error) {
	blocks, err := b.SeriesBlocks(e, above, upTo, 0)
	if err != nil {
		return nil, err
	}
	names := map[uint32]string{}
	var dec block.Decoder
	for _, blk := range blocks {
		_, _, list, _, err := dec.Series(blk.Encoded)
		if err != nil {
			return nil, err
		}
		for _, x := range list {
			names[x.ID] = edgeagent.NewSeries(x.Key).String()
		}
	}
	return names, nil
}

// checkNames looks whether ids that have left still mean what they meant.
func (w *simWorld) checkNames(b *Buffer, n *simNote, tol simTolerance) error {
	known := map[edgeagent.Epoch]map[uint32]string{}
	for _, x := range w.named[:n.named] {
		if known[x.epoch] == nil {
			names, err := seriesNames(b, x.epoch, 0, maxSeries)
			if err != nil {
				return err
			}
			known[x.epoch] = names
		}
		if name := known[x.epoch][x.id]; name != x.name && (name != "" || !tol.loss) {
			return fmt.Errorf("%w: series %d was sent as %s, and is %q", errWrong, x.id, x.name, name)
		}
	}
	return nil
}

// squeeze appends while the disk is nearly full: what is confirmed goes.
func (w *simWorld) squeeze() error {
	w.free = 1 << 20
	err := w.append(edgeagent.StreamTelemetry, 5)
	w.free = 1 << 40
	return err
}

// ballast leaves little of the budget: the file LOCK is counted, and never read.
func (w *simWorld) ballast(bytes int) error {
	f, err := os.OpenFile(filepath.Join(w.dir, lockName), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, bytes), 0)
	return errors.Join(err, f.Close())
}

// reopen ends the process, orderly or not, and starts it again in the same boot.
func (w *simWorld) reopen() error {
	if w.rnd.IntN(2) == 0 {
		w.b.crash()
	} else {
		err := w.b.Close(context.Background())
		if err == nil {
			w.promise(true)
		} else if err = w.suffer(err); err != nil {
			return err
		}
	}
	_, err := w.open()
	for range 50 {
		if err != nil && w.tolerant { // whoever supervises the agent starts it again
			w.suffered = append(w.suffered, err)
			_, err = w.open()
		}
	}
	return err
}

// live does n random things.
func (w *simWorld) live(n int) error {
	for range n {
		var err error
		switch p := w.rnd.IntN(200); {
		case p < 120:
			err = w.append(simStreams[w.rnd.IntN(len(simStreams))], 1+w.rnd.IntN(5))
		case p < 140:
			err = w.append(edgeagent.StreamTelemetry, 1+w.rnd.IntN(w.burst))
		case p < 155:
			err = w.sync()
		case p < 175:
			err = w.ack()
		case p < 180:
			err = w.squeeze()
		case p < 183:
			err = w.reopen()
		case p < 190:
			err = w.deliver()
		case p < 192:
			w.clock.wall = w.clock.wall.Add(time.Duration(w.rnd.Int64N(int64(48*time.Hour))) - 24*time.Hour)
		case p < 193:
			w.clock.unsynced = !w.clock.unsynced
		default:
			w.clock.advance(time.Duration(w.rnd.IntN(700)) * time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// simHeld is what a buffer holds of a chain.
type simHeld struct {
	records map[edgeagent.Seq]simRecord
	ranges  edgeagent.Ranges
}

// readChain reads a chain from end to end, without any destination's eyes.
func readChain(b *Buffer, id simChain) (simHeld, error) {
	h := simHeld{records: map[edgeagent.Seq]simRecord{}}
	for from := edgeagent.Seq(1); ; {
		batch, ok, err := b.Read(context.Background(), id.epoch, id.stream, from, edgeagent.Limit{})
		if err != nil {
			return h, err
		}
		if !ok {
			return h, nil
		}
		if batch.First < from || batch.Epoch != id.epoch || batch.Stream != id.stream {
			return h, fmt.Errorf("%w: asked for %d, got %+v", errWrong, from, batch.BatchHeader)
		}
		if err := h.take(batch); err != nil {
			return h, err
		}
		from = batch.Last() + 1
	}
}

func (h *simHeld) take(batch edgeagent.Batch) error {
	h.ranges.Add(batch.Range())
	if batch.Stream == edgeagent.StreamTelemetry {
		rs, err := batch.Readings(nil)
		for i := range rs {
			h.records[batch.First+edgeagent.Seq(i)] = readingContent(&rs[i], batch.Run)
		}
		return err
	}
	if batch.Stream == edgeagent.StreamRollup {
		rows, err := batch.Rollups(nil)
		for i := range rows {
			h.records[batch.First+edgeagent.Seq(i)] = rollupContent(&rows[i], batch.Run)
		}
		return err
	}
	evs, err := batch.Events(nil)
	for i := range evs {
		h.records[batch.First+edgeagent.Seq(i)] = eventContent(&evs[i], batch.Run)
	}
	return err
}

// simTolerance is what a crash may do beyond what is promised of a power cut.
type simTolerance struct {
	loss      bool // records may be lost, if the ledger says so
	newEpoch  bool // the state may be
	damage    bool // files may be called damaged
	evictions bool // records may have given way
	head      bool // what was in the newest head file may look as if the power had taken it
}

// check holds an open buffer against what was promised at a note. It returns what
// is there.
func (w *simWorld) check(b *Buffer, report Report, n *simNote, tol simTolerance) (map[simChain]simHeld, error) {
	if (len(report.Quarantined) > 0 || b.Health().Code == "buffer-damaged") && !tol.damage {
		return nil, fmt.Errorf("%w: report %+v, %v", errAlarm, report, b.Health())
	}
	if n.epoch != 0 && b.Epoch() != n.epoch && !tol.newEpoch {
		return nil, fmt.Errorf("%w: a new epoch, because %s", errLost, report.NewEpoch)
	}
	ids := slices.Collect(maps.Keys(n.chains))
	for _, s := range edgeagent.Streams() {
		if id := (simChain{b.Epoch(), s}); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	out := map[simChain]simHeld{}
	for _, id := range ids {
		h, err := readChain(b, id)
		if err != nil {
			if strings.Contains(err.Error(), errUnknownEpoch.Error()) && n.chains[id].durable == 0 {
				continue // the epoch never became real
			}
			return nil, fmt.Errorf("%s of %s: %w", id.stream, id.epoch, err)
		}
		if err := w.checkChain(b, id, &h, n, tol); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", id.stream, id.epoch, err)
		}
		out[id] = h
	}
	if err := w.checkNames(b, n, tol); err != nil {
		return nil, err
	}
	if err := w.checkRollups(b, out, n); err != nil {
		return nil, err
	}
	// All numbers are read first: reading may find damage.
	for _, id := range ids {
		if err := w.checkDelivery(b, id, out[id], n); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", id.stream, id.epoch, err)
		}
	}
	return out, nil
}

// confirmed returns what every destination had confirmed, at most.
func (w *simWorld) confirmed(id simChain, n *simNote) edgeagent.Ranges {
	var all edgeagent.Ranges
	for i, d := range w.dests {
		set := w.confirmedBy(d, id, n)
		if i == 0 {
			all = set
			continue
		}
		var both edgeagent.Ranges
		for _, r := range all {
			both.Add(r)
			for _, missing := range set.Missing(r) {
				both = rangesWithout(both, missing)
			}
		}
		all = both
	}
	return all
}

func rangesWithout(rs edgeagent.Ranges, r edgeagent.Range) (out edgeagent.Ranges) {
	var cut edgeagent.Ranges
	cut.Add(r)
	for _, x := range rs {
		for _, part := range cut.Missing(x) {
			out.Add(part)
		}
	}
	return out
}

func (w *simWorld) confirmedBy(dest string, id simChain, n *simNote) (set edgeagent.Ranges) {
	for _, a := range w.acks[:n.acks] {
		if a.dest == dest && a.simChain == id {
			set.Add(a.Range)
		}
	}
	return set
}

// ledgerOf returns what is in the ledger of a chain, low included.
func ledgerOf(b *Buffer, id simChain) (all edgeagent.Ranges, gaps []Gap) {
	if id.epoch == b.Epoch() {
		if low := b.Stats().Streams[id.stream].Low; low > 1 {
			all.Add(edgeagent.Range{From: 1, To: low - 1})
		}
	}
	for _, g := range b.Gaps() {
		if g.Epoch == id.epoch && g.Stream == id.stream && g.Destination == "" {
			all.Add(g.Range)
			gaps = append(gaps, g)
		}
	}
	return all, gaps
}

// checkChain is check for one chain.
func (w *simWorld) checkChain(b *Buffer, id simChain, h *simHeld, n *simNote, tol simTolerance) error {
	p := n.chains[id]
	if next := b.Stats().Streams[id.stream].Next; id.epoch == b.Epoch() && next <= p.given {
		return fmt.Errorf("%w: numbers go on at %d, %d was given", errTwice, next, p.given)
	}
	lost, gaps := ledgerOf(b, id)
	confirmed := w.confirmed(id, n)
	if id.stream == edgeagent.StreamRollup {
		return checkBelow(b, id, h, lost, confirmed)
	}
	for seq, c := range h.records {
		r := simID{id, seq}
		if seq > p.offered {
			return fmt.Errorf("%w: number %d was never offered (up to %d)", errWrong, seq, p.offered)
		}
		want, ok := w.accepted[r]
		if ok && seq <= p.given && c != want || !slices.Contains(w.offered[r], c) {
			return fmt.Errorf("%w: number %d holds %+v, want %+v", errWrong, seq, c, want)
		}
		if lost.Contains(seq) {
			return fmt.Errorf("%w: number %d is there, and in the ledger", errLedger, seq)
		}
	}
	newest := edgeagent.Seq(0)
	if len(h.ranges) > 0 {
		newest = h.ranges[len(h.ranges)-1].To
	}
	gone := map[int]uint64{}
	for _, seq := range w.order[id] {
		if seq > p.given {
			break
		}
		if _, there := h.records[seq]; there || confirmed.Contains(seq) {
			continue
		}
		i := slices.IndexFunc(gaps, func(g Gap) bool { return g.Contains(seq) })
		if i >= 0 {
			gone[i]++
		}
		switch {
		case i >= 0 && gaps[i].Reason == Evicted && tol.evictions, i >= 0 && gaps[i].Reason == RolledUp && w.thins:
		case tol.newEpoch && id.epoch != b.Epoch() && seq > newest: // with the state went how far it had come
		case !lost.Contains(seq):
			return fmt.Errorf("%w: number %d (given %d, durable %d), gaps %+v", errUnexplained, seq, p.given, p.durable, gaps)
		case tol.loss:
		case seq <= p.durable:
			return fmt.Errorf("%w: number %d (given %d, durable %d), gaps %+v", errLost, seq, p.given, p.durable, gaps)
		case seq < newest:
			return fmt.Errorf("%w: number %d, and %d is there", errLost, seq, newest)
		}
	}
	for i, lostThere := range gone {
		if gaps[i].AtMost < lostThere && (!tol.head || gaps[i].Reason != PowerCut) {
			return fmt.Errorf("%w: %d records are gone, and %+v", errLedger, lostThere, gaps[i])
		}
	}
	return checkBelow(b, id, h, lost, confirmed)
}

// checkRollups looks whether the rollups that the ledger names speak of as many
// readings of each series as have given way to them.
func (w *simWorld) checkRollups(b *Buffer, held map[simChain]simHeld, n *simNote) error {
	for id := range held {
		rolls, ok := held[simChain{id.epoch, edgeagent.StreamRollup}]
		if id.stream != edgeagent.StreamTelemetry || !ok {
			continue
		}
		_, gaps := ledgerOf(b, id)
		for _, g := range gaps {
			if g.Reason == RolledUp && id.epoch == b.Epoch() && g.Rollup.To >= b.Stats().Streams[edgeagent.StreamRollup].Next {
				return fmt.Errorf("%w: rollups that were never made: %+v", errLedger, g)
			}
			// Rollups may have given way themselves.
			if g.Reason != RolledUp || len(rolls.ranges.Missing(g.Rollup)) > 0 {
				continue
			}
			got := map[string]uint64{}
			for seq := g.Rollup.From; seq <= g.Rollup.To; seq++ {
				row := rolls.records[seq]
				got[row.name] += row.value
				w.rolled += row.value
			}
			least, most := w.countable(id, g.Range, n)
			for name := range most {
				if got[name] < least[name] || got[name] > most[name] {
					return fmt.Errorf("%w: rollups speak of %d readings of %s, and %d to %d have given way: %+v", errWrong, got[name], name, least[name], most[name], g)
				}
				delete(got, name)
			}
			if len(got) > 0 {
				return fmt.Errorf("%w: rollups of readings that nobody took: %v, %+v", errWrong, got, g)
			}
		}
	}
	return nil
}

// countable returns how many readings of each series rollups of a range must speak
// of, and may: those that were confirmed or not accepted are no promise.
func (w *simWorld) countable(id simChain, r edgeagent.Range, n *simNote) (least, most map[string]uint64) {
	least, most = map[string]uint64{}, map[string]uint64{}
	confirmed := w.confirmed(id, n)
	for x, list := range w.offered {
		if x.simChain != id || !r.Contains(x.seq) {
			continue
		}
		for _, c := range list {
			if v := math.Float64frombits(c.value); !math.IsNaN(v) && !math.IsInf(v, 0) {
				most[c.name]++
			}
		}
		c, ok := w.accepted[x]
		if v := math.Float64frombits(c.value); ok && len(list) == 1 && x.seq <= n.chains[id].given && !confirmed.Contains(x.seq) && !math.IsNaN(v) && !math.IsInf(v, 0) {
			least[c.name]++
		}
	}
	return least, most
}

// checkBelow looks whether every number below the next is accounted for.
func checkBelow(b *Buffer, id simChain, h *simHeld, lost, confirmed edgeagent.Ranges) error {
	if id.epoch != b.Epoch() {
		return nil
	}
	next := b.Stats().Streams[id.stream].Next
	known := slices.Clone(h.ranges)
	for _, r := range slices.Concat(lost, confirmed) {
		known.Add(r)
	}
	if missing := known.Missing(edgeagent.Range{From: 1, To: next - 1}); len(missing) > 0 {
		return fmt.Errorf("%w: %v, next is %d", errUnexplained, missing, next)
	}
	return nil
}

// checkDelivery looks whether each destination is given all that is there and that
// it has not confirmed.
func (w *simWorld) checkDelivery(b *Buffer, id simChain, h simHeld, n *simNote) error {
	if id.epoch != b.Epoch() {
		return nil
	}
	for _, d := range w.dests {
		if err := b.Register(Destination{Name: d}); err != nil {
			return err
		}
		c, err := b.Cursor(d, id.stream)
		if err != nil {
			return err
		}
		_, next := c.Head()
		got := simHeld{records: map[edgeagent.Seq]simRecord{}}
		for r := c.Backlog(next, nil); ; {
			batch, ok, err := r.Next(context.Background(), edgeagent.Limit{})
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if batch.Epoch != id.epoch {
				continue
			}
			if err := got.take(batch); err != nil {
				return err
			}
		}
		confirmed := w.confirmedBy(d, id, n)
		for seq, c := range h.records {
			if delivered, ok := got.records[seq]; ok && delivered != c || !ok && !confirmed.Contains(seq) {
				return fmt.Errorf("%w: %s is given %+v as number %d, %v, want %+v", errCursor, d, delivered, seq, ok, c)
			}
		}
	}
	return nil
}
