package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// reserveNumbers is how far ahead numbers are reserved: after a power cut that
// many are left out, so that none is ever given twice.
const reserveNumbers = 1 << 32

// saveCursorsEvery bounds how old the stored cursors are. What is lost of them is
// sent again.
const saveCursorsEvery = time.Second

// commit makes a group durable and publishes it; b.disk is held.
//
// Numbers are given here, one group after the other, and become real only with
// success: nobody has seen those of a group that failed, so the next group gets
// them again. Whether the failed one is on the disk is unknown, so the segment it
// was meant for is never written again and the next begins at the very number
// where it failed. Reading stops at the beginning of the next segment: what may
// lie behind it was never accepted.
func (b *Buffer) commit(g *group) error {
	err := writeError(b.commitGroup(g))
	gone, looked := b.lookAround()
	b.mu.Lock()
	defer b.mu.Unlock()
	if looked {
		b.gone = gone
	}
	// A full disk refuses every append: the log gets the first refusal and the end.
	switch before := b.fault; {
	case err != nil && before.err == nil:
		b.log.Error("append to the buffer failed", "stream", g.stream.String(), "records", g.len(), "err", err)
	case err == nil && before.err != nil:
		b.log.Info("the buffer takes records again", "failed_commits", before.failed, "last_error", before.err)
	}
	b.fault.report(err, b.o.Clock.Wall())
	if err != nil {
		b.carry[g.stream].starts = true // its cuts are lost: who comes next may follow a step
		b.count.failed++
	}
	return err
}

// lookEvery is the least time between two looks at whether the directory still is
// the one that was opened.
const lookEvery = 5 * time.Second

// lookAround finds out whether somebody has removed or replaced the directory: the
// open files then still take every write, and nothing of it is ever found again.
// looked is false when it is not yet time to look. b.disk is held.
func (b *Buffer) lookAround() (gone, looked bool) {
	now := b.o.Clock.Run()
	if b.looked != 0 && now-b.looked < lookEvery {
		return false, false
	}
	b.looked = max(now, 1)
	ours, err := b.lock.Stat()
	if err != nil {
		return false, false
	}
	theirs, err := os.Stat(filepath.Join(b.dir, lockName))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist), true
	}
	return !os.SameFile(ours, theirs), true
}

func (b *Buffer) commitGroup(g *group) error {
	ch := b.newest().streams[g.stream]
	first, last := ch.next, ch.next+edgeagent.Seq(g.len())-1
	if last > maxSeq {
		return errors.New("the epoch has no numbers left")
	}
	blocks, err := b.encode(g, first)
	if err != nil {
		return err
	}
	n, err := b.room(ch, g, blocks)
	if err != nil {
		return err
	}
	if ch.open == nil {
		if err := b.create(ch); err != nil {
			return err
		}
	}
	sg := ch.open
	if err := b.prepare(ch, last); err != nil {
		return err
	}
	if err := sg.file.Append(blocks, n.blocks); err != nil {
		b.abandon(ch, sg)
		return err
	}
	sg.named = n.set
	b.carry[g.stream].starts = false
	g.first = first
	b.publish(ch, sg, g, blocks)
	return nil
}

// naming is what a segment must define before the blocks of a group.
type naming struct {
	set    idSet // what it defines afterwards
	blocks [][]byte
}

// room finds space for the blocks of a group and for the series that the segment
// must define with them, and seals the open segment if they do not fit into it.
func (b *Buffer) room(ch *chain, g *group, blocks []segment.Block) (n naming, err error) {
	data := int64(segment.Slack)
	for _, blk := range blocks {
		data += int64(len(blk.Encoded)) + 64
	}
	for {
		if err := b.ready(ch); err != nil {
			return naming{}, err
		}
		sg := ch.open
		set, list := b.unnamed(sg, g)
		series, err := encodeSeries(&b.enc, b.o.Device, ch.epoch, list, 0)
		if err != nil {
			return naming{}, err
		}
		n, need := naming{set: set}, data
		for _, blk := range series {
			n.blocks = append(n.blocks, blk.Encoded)
			need += 3*int64(len(blk.Encoded)) + 64 // state.db may need them as well, twice for a moment
		}
		if sg != nil && sg.records > 0 && sg.file.Used()+need > b.o.segmentSize() {
			b.seal(ch)
			continue
		}
		if err := b.makeRoomFor(ch.stream, need); err != nil {
			return naming{}, err
		}
		if ch.open == sg { // else it had to give way itself
			return n, nil
		}
	}
}

// unnamed returns the series of a group that the segment does not define yet, and
// the set that it defines with them.
func (b *Buffer) unnamed(sg *seg, g *group) (idSet, []block.SeriesEntry) {
	var named idSet
	if sg != nil {
		named = slices.Clone(sg.named)
	}
	var list []block.SeriesEntry
	b.mu.Lock()
	defer b.mu.Unlock()
	byID := b.newest().series.byID
	for i := range g.rows {
		if id := g.rows[i].Series; !named.has(id) {
			named.add(id)
			list = append(list, block.SeriesEntry{ID: id, Key: byID[id-1].Key()})
		}
	}
	slices.SortFunc(list, func(a, b block.SeriesEntry) int { return int(a.ID) - int(b.ID) })
	return named, list
}

// create makes the segment that begins at the next number.
func (b *Buffer) create(ch *chain) error {
	sg := &seg{
		path: segmentPath(b.dir, ch.stream, ch.epoch, ch.next), stream: ch.stream, epoch: ch.epoch,
		first: ch.next, last: ch.next - 1, verified: true,
	}
	// A file of that name saw no commit that anybody knows of: see commit.
	if _, err := os.Lstat(sg.path); err == nil {
		if err := segment.Remove(sg.path, b.o.faults); err != nil {
			return fmt.Errorf("remove unused segment: %w", err)
		}
	}
	f, err := segment.Create(sg.path, int(b.o.segmentSize()), b.o.faults)
	if err != nil {
		return err
	}
	sg.file = f
	b.mu.Lock()
	ch.segs, ch.open = append(ch.segs, sg), sg
	b.mu.Unlock()
	b.opened(sg)
	b.measure(sg)
	return nil
}

// ready sees to it that the open segment, if there is one, can be written to.
func (b *Buffer) ready(ch *chain) error {
	sg := ch.open
	if sg == nil {
		return nil
	}
	err := b.openHandle(sg, true)
	if errors.Is(err, segment.ErrDamaged) {
		return b.heal(sg, err)
	}
	return err
}

// seal ends the open segment: the next commit makes a new one.
func (b *Buffer) seal(ch *chain) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch.open.sealed = true
	b.unsaved = append(b.unsaved, ch.open)
	ch.open = nil
}

// abandon ends a segment whose last append failed.
func (b *Buffer) abandon(ch *chain, sg *seg) {
	sg.io.Lock()
	sg.verified = false
	_ = b.closeHandle(sg)
	b.mu.Lock()
	ch.open, sg.sealed = nil, true
	if empty := sg.records == 0; empty {
		ch.remove(sg)
		sg.gone = true
	} else {
		b.unsaved = append(b.unsaved, sg)
	}
	b.mu.Unlock()
	sg.io.Unlock()
	if sg.gone {
		b.late = append(b.late, unset(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first)))
		_ = segment.Remove(sg.path, b.o.faults) // create tries again
		return
	}
	b.measure(sg)
}

// prepare makes durable what must be before the records up to last are: their
// series, the reservation of their numbers, and that the segment exists.
func (b *Buffer) prepare(ch *chain, last edgeagent.Seq) error {
	var changes []segment.Change
	ep := b.newest()
	b.mu.Lock()
	byID, durable := ep.series.byID, ep.series.durable
	b.mu.Unlock()
	header := b.header
	if n := uint32(len(byID)); n > durable {
		blocks, err := b.seriesChanges(ep.id, entries(byID, durable, n))
		if err != nil {
			return err
		}
		header.Series = n
		changes = append(changes, blocks...)
		changes = append(changes, set(bucketBuffer, keyHeader, header))
	}
	next := ch.clone()
	for last >= next.limit {
		next.limit += reserveNumbers
	}
	if next.limit != ch.limit {
		changes = append(changes, next.change())
	}
	if !ch.open.noted {
		changes = append(changes, b.summaryChange(ch.open))
	}
	due := b.o.Clock.Run()-b.cursorsSaved >= saveCursorsEvery
	if len(changes) == 0 && !due {
		return nil
	}
	if err := b.save(changes); err != nil {
		return err
	}
	b.header = header
	b.mu.Lock()
	ch.adopt(next)
	ep.series.durable = header.Series
	b.mu.Unlock()
	ch.open.noted = true
	return nil
}

// save commits changes to state.db together with all that waits for it: cursors
// and sealed segments. b.disk is held.
func (b *Buffer) save(changes []segment.Change) error {
	changes = slices.Concat(b.late, changes, b.cursorChanges(), b.summaryChanges())
	if len(changes) == 0 {
		return nil
	}
	if err := b.store.Commit(changes); err != nil {
		return err
	}
	b.unsaved, b.late = b.unsaved[:0], b.late[:0]
	b.cursorsSaved = b.o.Clock.Run()
	b.mu.Lock()
	b.count.stateCommits++
	for _, d := range b.dests {
		for _, p := range d.places {
			p.dirty = p.dirty && p.version != p.saving
		}
	}
	b.mu.Unlock()
	return nil
}

// summaryChanges stores what is known of the segments that were sealed since.
func (b *Buffer) summaryChanges() []segment.Change {
	var changes []segment.Change
	for _, sg := range b.unsaved {
		if !sg.gone {
			changes = append(changes, b.summaryChange(sg))
		}
	}
	return changes
}

func (b *Buffer) summaryChange(sg *seg) segment.Change {
	size := int64(0)
	if fi, err := os.Lstat(sg.path); err == nil {
		size = fi.Size()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return set(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first), sg.summary(size))
}

// publish makes a committed group known to readers.
func (b *Buffer) publish(ch *chain, sg *seg, g *group, blocks []segment.Block) {
	b.measure(sg)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, blk := range blocks {
		h, _ := block.ParseHeader(blk.Encoded)
		sg.note(h.Last(), uint64(h.Count), h.MinTime, h.MaxTime)
		b.cache.add(ch.stream, stored{blk, h})
	}
	ch.next = sg.last + 1
	b.count.commits++
	b.count.records[ch.stream] += uint64(g.len())
	b.appends++
	close(b.changed)
	b.changed = make(chan struct{})
}

// encode cuts a group into blocks that begin at number first.
func (b *Buffer) encode(g *group, first edgeagent.Seq) ([]segment.Block, error) {
	var out []segment.Block
	span := b.carry[g.stream]
	cuts := append(slices.Clone(g.cuts), cut{at: g.len()})
	from := 0
	for _, c := range cuts {
		for from < c.at {
			n := min(c.at-from, b.o.BlockSize)
			blk, n, err := b.encodeSpan(g, from, n, first, span.unsynced)
			if err != nil {
				return nil, err
			}
			out = append(out, segment.Block{First: first + edgeagent.Seq(from), Starts: span.starts, Encoded: blk})
			span.starts = false
			from += n
		}
		if c.at < g.len() {
			span = c
		}
	}
	b.carry[g.stream].unsynced = span.unsynced // of whoever comes next, whatever becomes of these
	return out, nil
}

// encodeSpan encodes up to n records from index from on, as many as fit.
func (b *Buffer) encodeSpan(g *group, from, n int, first edgeagent.Seq, unsynced bool) ([]byte, int, error) {
	id := block.ID{
		Stream: g.stream, Epoch: b.Epoch(), First: first + edgeagent.Seq(from),
		Run: b.run, Unsynced: unsynced, Resolution: eventResolution,
	}
	if g.stream != edgeagent.StreamTelemetry {
		return shrink(n, block.MaxStored, func(n int) ([]byte, error) {
			return b.enc.Events(nil, id, g.events[from:from+n])
		})
	}
	b.mu.Lock()
	res := b.newest().series.res
	b.mu.Unlock()
	return shrink(n, block.MaxStored, func(n int) ([]byte, error) {
		rows := g.rows[from : from+n]
		id.Resolution = res[rows[0].Series-1]
		for i := range rows {
			id.Resolution = min(id.Resolution, res[rows[i].Series-1])
		}
		return b.enc.Readings(nil, id, rows)
	})
}

// shrink encodes n records, or as many of them as give a block of at most limit
// bytes, but never less than one.
func shrink(n, limit int, encode func(n int) ([]byte, error)) ([]byte, int, error) {
	for {
		blk, err := encode(n)
		switch {
		case errors.Is(err, block.ErrTooLarge) && n > 1:
			n /= 2
			continue
		case err != nil:
			return nil, 0, fmt.Errorf("encode block: %w", err)
		case len(blk) <= limit || n == 1:
			return blk, n, nil
		}
		n = max(1, min(n-1, int(int64(n)*int64(limit)/int64(len(blk))*15/16)))
	}
}
