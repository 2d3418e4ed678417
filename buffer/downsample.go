package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/rollup"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// buckets are the lengths that rollups may have. The first is the rule; series that
// are read once a minute need longer ones, or the rollups would take more than the
// readings.
var buckets = [...]time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// worth is by which factor rollups must be smaller than what they replace.
const worth = 4

// thinReserve is the part of the budget that other commits leave free, so that there
// is room for rollups while what they replace is still there.
func (b *Buffer) thinReserve() int64 {
	if b.o.Policy != DownsampleOldest {
		return 0
	}
	return b.o.segmentSize()/worth + 2*segment.Slack
}

// thinning is an eviction in progress, as state.db holds it from before the rollups
// are written until the source is in the ledger. What it says is true if and only if
// the rollups are there.
type thinning struct {
	Epoch edgeagent.Epoch  `json:"epoch"`
	First edgeagent.Seq    `json:"first"` // of the source segment
	Owed  edgeagent.Ranges `json:"owed"`  // numbers that the rollups stand for
	// Rollup is the rollups' numbers, and Sum the checksum of the first block, by
	// which these rollups are told from those of an attempt that failed.
	Rollup edgeagent.Range `json:"rollup"`
	Sum    uint32          `json:"sum"`
	// Skip is what destinations need not be sent: they have confirmed its source.
	Skip map[string]edgeagent.Ranges `json:"skip,omitempty"`
}

var keyThinning = []byte("thinning")

// folded is what a segment was folded to.
type folded struct {
	blocks []segment.Block
	parts  []foldedPart // one for each block
	ids    idSet        // the series in them
	bytes  int64
	next   edgeagent.Seq
}

type foldedPart struct {
	source, rollup edgeagent.Range
	run            edgeagent.Run
	minTime        int64
	maxTime        int64
}

func (f *folded) rng() edgeagent.Range {
	return edgeagent.Range{From: f.parts[0].rollup.From, To: f.next - 1}
}

// maxThinned bounds how often it is tried to roll up a segment: room must be made
// in the end.
const maxThinned = 3

var errNotWorth = errors.New("rollups would not be much smaller")

// thin replaces a segment of readings by rollups of what is owed of it, or evicts
// it if there is nothing to gain. b.disk is held. The order makes a crash harmless
// at every step: the intent, the rollups, the ledger, the unlink, and only then can
// anybody read the rollups. Until the ledger is written the readings are what counts.
func (b *Buffer) thin(c candidate) error {
	sg, ch := c.sg, c.ch
	b.mu.Lock()
	owed := b.owed(ch, sg)
	b.mu.Unlock()
	f, err := b.fold(sg, owed)
	sg.thinned++
	switch {
	case sg.thinned > maxThinned:
		b.log.Warn("readings go without rollups, after several attempts", "from", sg.first, "to", sg.last)
		return b.evict(c)
	case errors.Is(err, segment.ErrDamaged):
		return b.heal(sg, err) // and the caller looks again
	case errors.Is(err, errGone):
		return nil
	case err != nil:
		b.log.Warn("readings go without rollups", "from", sg.first, "to", sg.last, "err", err)
		return b.evict(c)
	}
	if c.open {
		b.seal(ch)
	}
	t := thinning{Epoch: ch.epoch, First: sg.first, Owed: owed, Rollup: f.rng(), Sum: blockSum(f.blocks[0].Encoded)}
	t.Skip = b.skips(ch, f.parts)
	if err := b.writeRollups(t, f); err != nil {
		if errors.Is(writeError(err), ErrFull) {
			b.log.Warn("no room for rollups, readings go without", "from", sg.first, "to", sg.last, "err", err)
			return b.evict(c)
		}
		return fmt.Errorf("roll up [%d,%d]: %w", sg.first, sg.last, err)
	}
	return b.replaceByRollups(c, t, f)
}

// fold folds what is owed of a segment with the shortest buckets that are worth it.
func (b *Buffer) fold(sg *seg, owed edgeagent.Ranges) (f *folded, err error) {
	limit := min(sg.bytes, b.o.segmentSize()) / worth
	for _, bucket := range buckets {
		f, err = b.foldBy(sg, owed, bucket, limit)
		if !errors.Is(err, errNotWorth) {
			break
		}
	}
	if err == nil && len(f.blocks) == 0 {
		err = errors.New("none of them has a value")
	}
	if err != nil {
		return nil, err
	}
	if used, need := b.usedBytes(), f.bytes+2*segment.Slack; used <= int64(b.o.MaxBytes) && used+need > int64(b.o.MaxBytes) {
		return nil, fmt.Errorf("%d bytes are left of max_bytes, rollups need %d", int64(b.o.MaxBytes)-used, need)
	}
	return f, nil
}

// folding is the state of one walk over a segment.
type folding struct {
	b     *Buffer
	out   folded
	limit int64
	fold  *rollup.Folder
	dec   block.Decoder
	rows  []block.Row
	id    block.ID // of the next rollup block
	res   []uint8  // by series id - 1
	begun bool
	prev  block.Header
}

func (b *Buffer) foldBy(sg *seg, owed edgeagent.Ranges, bucket time.Duration, limit int64) (*folded, error) {
	b.mu.Lock()
	ep := b.epoch(sg.epoch)
	x := folding{b: b, limit: limit, fold: rollup.New(bucket), res: ep.series.res}
	x.out.next = ep.streams[edgeagent.StreamRollup].next
	b.mu.Unlock()
	var failed error
	err := b.view(sg, func(file *segment.Segment) error {
		return b.eachBlock(file, sg, sg.first, func(blk segment.Block) bool {
			if blk.First > sg.last {
				return false
			}
			failed = x.block(blk, owed)
			return failed == nil
		})
	})
	if err = errors.Join(err, failed); err == nil {
		err = x.fold.Flush(x.emit)
	}
	return &x.out, err
}

// block folds the owed readings of one block. Rollups do not reach over a border:
// the times on both sides do not compare.
func (x *folding) block(blk segment.Block, owed edgeagent.Ranges) error {
	rows, h, err := x.dec.Readings(x.rows[:0], blk.Encoded)
	if err != nil {
		return fmt.Errorf("%w: block %d: %w", segment.ErrDamaged, blk.First, err)
	}
	x.rows = rows
	if !x.begun || blk.Starts || h.Run != x.prev.Run || h.Unsynced != x.prev.Unsynced {
		if err := x.fold.Flush(x.emit); err != nil {
			return err
		}
		x.begin(h)
	}
	x.prev = h
	i := 0
	for seq := h.First; seq <= h.Last(); seq++ {
		for i < len(owed) && owed[i].To < seq {
			i++
		}
		if i == len(owed) {
			break
		}
		if seq < owed[i].From {
			continue
		}
		if err := x.fold.Add(seq, &rows[seq-h.First], x.emit); err != nil {
			return err
		}
	}
	return nil
}

// begin starts rollups of readings under header h. They bear the run that makes
// them, which is what a number is checked by. Where the clock was not synced they
// bear the run of the readings instead: the one correction of that run is the one that
// fits their times.
func (x *folding) begin(h block.Header) {
	x.begun = true
	x.id = block.ID{Stream: edgeagent.StreamRollup, Epoch: h.Epoch, Run: x.b.run, Unsynced: h.Unsynced}
	if h.Unsynced {
		x.id.Run = h.Run
	}
}

// emit encodes a piece. Blocks are marked as beginnings of clock segments: each has
// its own source, so none merges with another.
func (x *folding) emit(p rollup.Piece) error {
	for rows := p.Rows; len(rows) > 0; {
		id := x.id
		id.First = x.out.next
		blk, n, err := shrink(min(len(rows), block.MaxRecords), block.MaxStored, func(n int) ([]byte, error) {
			id.Resolution = resolutionOf(x.res, rows[:n])
			return x.b.enc.Rollup(nil, id, p.Source, rows[:n])
		})
		if err != nil {
			return err
		}
		if x.out.bytes += int64(len(blk)); x.out.bytes > x.limit {
			return errNotWorth
		}
		x.out.add(blk, p.Source)
		for i := range rows[:n] {
			x.out.ids.add(rows[i].Series)
		}
		rows = rows[n:]
	}
	return nil
}

func (f *folded) add(blk []byte, source block.RollupSource) {
	h, _ := block.ParseHeader(blk)
	f.blocks = append(f.blocks, segment.Block{First: h.First, Starts: true, Encoded: blk})
	f.parts = append(f.parts, foldedPart{
		source: edgeagent.Range{From: source.From, To: source.To}, rollup: h.Batch().Range(),
		run: h.Run, minTime: h.MinTime, maxTime: h.MaxTime,
	})
	f.next = h.Last() + 1
}

// resolutionOf returns the finest resolution of the series in rows.
func resolutionOf(res []uint8, rows []block.RollupRow) uint8 {
	finest := uint8(len(pow10) - 1)
	for i := range rows {
		id := rows[i].Series
		if id == 0 || int(id) > len(res) {
			return 0
		}
		finest = min(finest, res[id-1])
	}
	return finest
}

// blockSum returns the checksum that a block bears.
func blockSum(blk []byte) uint32 { return binary.LittleEndian.Uint32(blk[4:8]) }

// skips returns what each destination need not be sent of the parts.
func (b *Buffer) skips(ch *chain, parts []foldedPart) map[string]edgeagent.Ranges {
	b.mu.Lock()
	defer b.mu.Unlock()
	var skip map[string]edgeagent.Ranges
	for name, d := range b.dests {
		var has edgeagent.Ranges
		for _, p := range parts {
			if len(d.place(ch.epoch, ch.stream).set.Missing(p.source)) == 0 {
				has.Add(p.rollup)
			}
		}
		if len(has) > 0 {
			if skip == nil {
				skip = map[string]edgeagent.Ranges{}
			}
			skip[name] = has
		}
	}
	return skip
}

// writeRollups makes the intent durable, and then the rollups.
func (b *Buffer) writeRollups(t thinning, f *folded) error {
	ch := b.newest().streams[edgeagent.StreamRollup]
	if t.Rollup.To > maxSeq {
		return errors.New("the epoch has no numbers left")
	}
	if b.doubtful != nil { // see retract
		if err := b.save([]segment.Change{set(bucketBuffer, keyThinning, *b.doubtful)}); err != nil {
			return err
		}
		b.doubtful = nil
	}
	if err := b.ready(ch); err != nil {
		return err
	}
	if sg := ch.open; sg != nil && sg.records > 0 && sg.file.Used()+f.bytes+segment.Slack > b.o.segmentSize() {
		b.seal(ch)
	}
	if ch.open == nil {
		if err := b.create(ch, ch.next); err != nil {
			return err
		}
	}
	sg := ch.open
	b.mu.Lock()
	next := ch.clone()
	b.mu.Unlock()
	for t.Rollup.To >= next.limit {
		next.limit += reserveNumbers
	}
	for _, p := range f.parts {
		if run, ok := next.runAt(p.rollup.From); !ok || run != p.run {
			next.beginAt(p.rollup.From, p.run)
		}
	}
	changes := []segment.Change{set(bucketBuffer, keyThinning, t), next.change()}
	if !sg.noted {
		changes = append(changes, b.summaryChange(sg))
	}
	if err := b.save(changes); err != nil {
		return err
	}
	sg.noted = true
	b.mu.Lock()
	ch.adopt(next)
	b.mu.Unlock()
	named, series, err := b.define(sg, f.ids)
	if err != nil {
		return err
	}
	if err := b.appendBlocks(sg.file, sg.epoch, sg.stream, f.blocks, series); err != nil {
		b.abandon(ch, sg)
		return err
	}
	sg.named = named
	b.measure(sg)
	return nil
}

// define returns the blocks that define those of the series that the segment does
// not define yet, and the set that it defines with them.
func (b *Buffer) define(sg *seg, ids idSet) (idSet, [][]byte, error) {
	named := slices.Clone(sg.named)
	var list []block.SeriesEntry
	b.mu.Lock()
	byID := b.newest().series.byID
	b.mu.Unlock()
	for id := uint32(1); id <= uint32(len(byID)); id++ {
		if ids.has(id) && !named.has(id) && !byID[id-1].IsZero() {
			named.add(id)
			list = append(list, block.SeriesEntry{ID: id, Key: byID[id-1].Key()})
		}
	}
	series, err := encodeSeries(&b.enc, b.o.Device, sg.epoch, list, 0)
	if err != nil {
		return nil, nil, err
	}
	blocks := make([][]byte, 0, len(series))
	for _, s := range series {
		blocks = append(blocks, s.Encoded)
	}
	return named, blocks, nil
}

// replaceByRollups enters the source into the ledger, unlinks it, and lets readers
// have the rollups.
func (b *Buffer) replaceByRollups(c candidate, t thinning, f *folded) error {
	sg, ch := c.sg, c.ch
	b.unsaved = slices.DeleteFunc(b.unsaved, func(x *seg) bool { return x == sg })
	b.mu.Lock()
	next := ch.clone()
	b.mu.Unlock()
	next.give(sg, t.Owed, Gap{Reason: RolledUp, Rollup: t.Rollup})
	err := b.save([]segment.Change{
		next.change(), unset(bucketBuffer, keyThinning), unset(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first)),
	})
	if err != nil {
		b.retract(t)
		return fmt.Errorf("roll up [%d,%d]: %w", sg.first, sg.last, err)
	}
	b.mu.Lock()
	ch.adopt(next)
	b.coverLost(ch)
	ch.remove(sg)
	b.count.rolledUp += t.Owed.Count()
	b.mu.Unlock()
	err = b.unlink(sg)
	b.publishRollups(t, f)
	b.log.Info("readings rolled up to make room", "from", sg.first, "to", sg.last, "records", t.Owed.Count(), "rollups", t.Rollup.Len())
	return err
}

// retract ends the rollup segment after the ledger could not be written: the rollups
// in it do not count, and the next attempt gives their numbers again, in another
// file. But the ledger may be on the disk all the same, and the next open would
// believe it: so the file stays until state.db is known to hold the intent alone,
// which is true with the file and means nothing without it.
func (b *Buffer) retract(t thinning) {
	b.doubtful = &t
	ch := b.newest().streams[edgeagent.StreamRollup]
	sg := ch.open
	sg.io.Lock()
	defer sg.io.Unlock()
	sg.verified = false
	_ = b.closeHandle(sg)
	b.mu.Lock()
	defer b.mu.Unlock()
	ch.open, sg.sealed = nil, true
	if sg.records > 0 {
		b.unsaved = append(b.unsaved, sg)
		return
	}
	ch.remove(sg)
	sg.gone = true
	b.late = append(b.late, unset(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first)))
}

// publishRollups makes rollups known to readers.
func (b *Buffer) publishRollups(t thinning, f *folded) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := b.newest().streams[edgeagent.StreamRollup]
	for _, p := range f.parts {
		ch.open.note(p.rollup.To, p.rollup.Len(), p.minTime, p.maxTime)
	}
	ch.next = f.next
	b.count.records[edgeagent.StreamRollup] += t.Rollup.Len()
	b.skip(t)
	b.appends++
	b.tell()
}

// skip confirms for destinations what they need not be sent; b.mu is held.
func (b *Buffer) skip(t thinning) {
	for _, name := range slices.Sorted(maps.Keys(t.Skip)) {
		if d := b.dests[name]; d != nil {
			p := d.place(t.Epoch, edgeagent.StreamRollup)
			for _, r := range t.Skip[name] {
				// A receiver must be told why it never gets these numbers, though
				// nothing is lost in them: it has the readings.
				g := d.gap(t.Epoch, edgeagent.StreamRollup, r, Expired)
				g.AtMost = 0
				p.own = p.own.with(g)
			}
			p.cover()
		}
	}
}

// give enters what is owed of a segment into the ledger for reason, and notes that
// the rest was let go of.
func (c *chain) give(sg *seg, owed edgeagent.Ranges, why Gap) {
	for _, r := range owed {
		g := why
		g.Range, g.AtMost, g.TFrom, g.TTo = r, r.Len(), sg.minTime, sg.maxTime
		c.lost(g)
	}
	gone := c.lostRanges()
	for _, r := range gone.Missing(sg.rng()) {
		c.released.Add(r)
	}
}

// finishThinning brings an eviction to its end that a crash has interrupted: if its
// rollups are there, the source goes, and else nothing has happened. It returns
// what to store; the sources whose files go are in b.leftover. Called by open only.
func (b *Buffer) finishThinning() []segment.Change {
	if b.store.Get(bucketBuffer, keyThinning) == nil {
		return nil
	}
	done := []segment.Change{unset(bucketBuffer, keyThinning)}
	var t thinning
	if err := get(b.store, bucketBuffer, keyThinning, &t); err != nil {
		b.log.Warn("note of an interrupted eviction is damaged, the readings stay", "err", err)
		return done
	}
	ep := b.epoch(t.Epoch)
	if ep == nil || !b.hasRollups(ep, t) {
		return done
	}
	ch := ep.streams[edgeagent.StreamTelemetry]
	i := slices.IndexFunc(ch.segs, func(sg *seg) bool { return sg.first == t.First })
	if i < 0 {
		return done
	}
	sg := ch.segs[i]
	before := slices.Clone(ch.gaps)
	ch.give(sg, t.Owed, Gap{Reason: RolledUp, Rollup: t.Rollup})
	for _, g := range ch.gaps {
		if !slices.Contains(before, g) {
			b.report.Gaps = append(b.report.Gaps, g)
		}
	}
	ch.remove(sg)
	b.unsaved = slices.DeleteFunc(b.unsaved, func(x *seg) bool { return x == sg })
	b.skip(t)
	b.leftover = append(b.leftover, sg) // nobody else is there yet
	b.log.Info("interrupted roll-up finished", "from", sg.first, "to", sg.last)
	return append(done, unset(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first)))
}

// hasRollups reports whether the rollups of t are stored.
func (b *Buffer) hasRollups(ep *epoch, t thinning) bool {
	ch := ep.streams[edgeagent.StreamRollup]
	i := ch.find(t.Rollup.From)
	if i == len(ch.segs) {
		return false
	}
	found := false
	err := b.contents(ch.segs[i].path, ch.epoch, ch.stream, func(blk segment.Block) error {
		if blk.First == t.Rollup.From && blk.First <= ch.segs[i].last {
			found = blockSum(blk.Encoded) == t.Sum
		}
		return nil
	}, func([]byte) error { return nil })
	return found && err == nil
}

// removeLeftover unlinks segments that are in no chain any more and whose files are
// still there. state.db does not name them.
func (b *Buffer) removeLeftover() error {
	b.mu.Lock()
	list := b.leftover
	b.mu.Unlock()
	for len(list) > 0 {
		list[0].gone = true
		if err := segment.Remove(list[0].path, b.o.faults); err != nil {
			return fmt.Errorf("remove unused segment: %w", err)
		}
		list = list[1:]
		b.mu.Lock()
		b.leftover = list
		b.mu.Unlock()
	}
	return nil
}
