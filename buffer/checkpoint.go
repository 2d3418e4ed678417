package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/headlog"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// reserveNumbers is how far ahead numbers are reserved: after a power cut that
// many are left out, so that none is ever given twice.
const reserveNumbers = 1 << 32

// blocksPerCommit is how many blocks a checkpoint writes at a time, and how many
// full ones wait before it is due.
const blocksPerCommit = 8

// checkpointDue reports whether enough waits in memory and in the head file to make
// it worth a few syncs.
func (b *Buffer) checkpointDue() bool {
	st := b.headStats()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.head == nil {
		return false
	}
	if st.Used > (st.Size-headReserve)*3/4 || b.tailBytes > maxTail*3/4 {
		return true
	}
	for _, ch := range b.newest().streams {
		if ch == nil {
			continue
		}
		if ch.tail.len() >= blocksPerCommit*b.o.BlockSize || len(ch.tail.events) > 0 && ch.tail.bytes >= blocksPerCommit*block.MaxStored {
			return true
		}
	}
	return false
}

// checkpoint moves what fills blocks into segments, everything if all, and then
// begins a new head file with the rest. b.disk is held.
//
// A failure leaves the records where they are: in memory and in the head log. The
// segment that was written to is never written again, because nobody knows what is
// on the disk; the next begins at the number where that happened, with the same
// records, so that whichever copy is found is right.
func (b *Buffer) checkpoint(ctx context.Context, all bool) error {
	if b.headLog() == nil {
		return nil // there is no disk
	}
	sealed, err := b.sealTails(ctx, all)
	if err == nil && !all && b.crowded() {
		var more int
		more, err = b.sealTails(ctx, true)
		sealed += more
	}
	if err == nil {
		err = b.saveDue(ctx)
	}
	if sealed > 0 || b.wasteful() {
		if e := b.rotate(ctx); err == nil {
			err = e
		}
	}
	b.lookAround()
	if err = writeError(err); err != nil {
		b.failed(err)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.checkpoints++
	if before := b.fault; before.err != nil {
		b.log.Info("the buffer takes records again", "failed_commits", before.failed, "last_error", before.err)
	}
	b.fault.report(nil, b.o.Clock.Wall())
	b.retryAt = 0
	return nil
}

// failed notes that the disk refused something. A full disk refuses for hours: the
// log gets the first refusal and the end.
func (b *Buffer) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault.err == nil {
		b.log.Error("the buffer cannot write to its disk", "err", err)
	}
	b.fault.report(err, b.o.Clock.Wall())
	b.count.failed++
	b.retryAt = b.o.Clock.Run() + retryEvery
}

// crowded reports whether what is left in memory would take more than half of the
// next head file.
func (b *Buffer) crowded() bool {
	size := b.headStats().Size
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tailSize() > size/2
}

// tailSize is about how many bytes of a head file the tails take, packed; b.mu is
// held.
func (b *Buffer) tailSize() (n int64) {
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			t := &ep.streams[s].tail
			if len(t.events) > 0 {
				n += int64(t.bytes)
			}
			n += int64(len(t.rows)*maxRow/2 + len(t.spans)*frameHeader)
		}
	}
	return n
}

// wasteful reports whether a new head file would be much emptier than this one.
func (b *Buffer) wasteful() bool {
	st := b.headStats()
	b.mu.Lock()
	defer b.mu.Unlock()
	return st.Used-b.tailSize() > st.Size/2
}

// rotate begins a new head file with what no segment holds, and lets go of the
// older one.
func (b *Buffer) rotate(ctx context.Context) error {
	for {
		b.in.Lock()
		err := b.rotateNow(ctx)
		b.in.Unlock()
		switch {
		case errors.Is(err, headlog.ErrUnreleased):
			if err := b.releaseHead(ctx); err != nil && !errors.Is(err, headlog.ErrSuspect) {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if err := b.releaseHead(ctx); !errors.Is(err, headlog.ErrSuspect) {
			return err
		}
	}
}

// saveDue stores series and cursors that state.db does not know yet, and reserves
// numbers.
func (b *Buffer) saveDue(ctx context.Context) error {
	ep := b.newest()
	b.mu.Lock()
	stored, n := ep.series.stored, uint32(len(ep.series.byID))
	byID := ep.series.byID
	b.mu.Unlock()
	var changes []segment.Change
	header := b.header
	if n > stored {
		blocks, err := b.seriesChanges(ep.id, entries(byID, stored, n))
		if err != nil {
			return err
		}
		header.Series = n
		changes = append(changes, blocks...)
		changes = append(changes, set(bucketBuffer, keyHeader, header))
	}
	raised, more := b.raised()
	if err := b.save(append(changes, more...)); err != nil {
		return err
	}
	b.header = header
	b.mu.Lock()
	ep.series.stored, ep.series.durable = n, max(ep.series.durable, n)
	b.mu.Unlock()
	return b.raise(ctx, raised)
}

// raised returns the reservations that are half used up, and how to store them. The
// first number is far away: this happens once in years.
func (b *Buffer) raised() (limits [5]edgeagent.Seq, changes []segment.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range edgeagent.Streams() {
		ch := b.newest().streams[s]
		if ch.next+reserveNumbers/2 < ch.limit {
			continue
		}
		next := ch.clone()
		for next.next+reserveNumbers/2 >= next.limit {
			next.limit += reserveNumbers
		}
		limits[s] = next.limit
		changes = append(changes, next.change())
	}
	return limits, changes
}

// raise makes reservations count that state.db has, once the head files have them
// too.
func (b *Buffer) raise(ctx context.Context, limits [5]edgeagent.Seq) error {
	for _, s := range edgeagent.Streams() {
		if limits[s] == 0 {
			continue
		}
		if err := b.head.Raise(ctx, s, limits[s]); err != nil {
			return err
		}
		b.mu.Lock()
		b.newest().streams[s].limit = limits[s]
		b.mu.Unlock()
	}
	return nil
}

// sealTails writes blocks into segments, and returns how many.
func (b *Buffer) sealTails(ctx context.Context, all bool) (sealed int, err error) {
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			n, e := b.sealTail(ctx, ep.streams[s], all || ep != b.newest())
			sealed += n
			if err == nil {
				err = e // what keeps one stream out may let another in
			}
		}
	}
	return sealed, err
}

// sealTail writes the full blocks of a chain, or all of its tail.
func (b *Buffer) sealTail(ctx context.Context, ch *chain, all bool) (sealed int, err error) {
	for {
		g, err := b.encode(ch, all)
		if err != nil || len(g.blocks) == 0 {
			return sealed, err
		}
		if err := b.storeGroup(ctx, ch, &g); err != nil {
			return sealed, err
		}
		sealed += len(g.blocks)
	}
}

// group is what one commit writes: the first n records of a tail.
type group struct {
	n      int
	rows   []block.Row
	blocks []segment.Block
}

// storeGroup writes a group into the open segment, or into a new one.
func (b *Buffer) storeGroup(ctx context.Context, ch *chain, g *group) error {
	if b.uses(ch, g.rows) { // state.db knows a series before a segment uses it
		if err := b.saveDue(ctx); err != nil {
			return err
		}
	}
	first := g.blocks[0].First
	if ch.open != nil && ch.open.last+1 != first {
		b.seal(ch) // numbers were left out
	}
	n, err := b.room(ch, g)
	if err != nil {
		return err
	}
	if ch.open == nil {
		if err := b.create(ch, first); err != nil {
			return err
		}
	}
	sg := ch.open
	if !sg.noted {
		if err := b.save([]segment.Change{b.summaryChange(sg)}); err != nil {
			return err
		}
		sg.noted = true
	}
	if err := b.appendBlocks(sg.file, sg.epoch, sg.stream, g.blocks, n.blocks); err != nil {
		b.abandon(ch, sg)
		return err
	}
	sg.named = n.set
	b.sealed(ch, sg, g)
	return nil
}

// uses reports whether rows use a series that state.db does not know.
func (b *Buffer) uses(ch *chain, rows []block.Row) bool {
	b.mu.Lock()
	stored := b.epoch(ch.epoch).series.stored
	b.mu.Unlock()
	return slices.ContainsFunc(rows, func(r block.Row) bool { return r.Series > stored })
}

// sealed makes it known that a segment holds a group.
func (b *Buffer) sealed(ch *chain, sg *seg, g *group) {
	b.measure(sg)
	b.in.Lock()
	defer b.in.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, blk := range g.blocks {
		h, _ := block.ParseHeader(blk.Encoded)
		sg.note(h.Last(), uint64(h.Count), h.MinTime, h.MaxTime)
	}
	before := ch.tail.bytes
	ch.tail.drop(g.n)
	b.tailBytes -= before - ch.tail.bytes
	b.unsynced[ch.stream].trim(sg.last + 1)
	ch.durable = max(ch.durable, sg.last+1)
	b.count.commits++
}

// lookEvery is the least time between two looks at whether the directory still is
// the one that was opened.
const lookEvery = 5 * time.Second

// lookAround finds out whether somebody has removed or replaced the directory: the
// open files then still take every write, and nothing of it is ever found again.
func (b *Buffer) lookAround() {
	now := b.o.Clock.Run()
	b.mu.Lock()
	early := b.looked != 0 && now-b.looked < lookEvery
	if !early {
		b.looked = max(now, 1)
	}
	b.mu.Unlock()
	if early || b.lock == nil {
		return
	}
	ours, err := b.lock.Stat()
	if err != nil {
		return
	}
	theirs, err := os.Stat(filepath.Join(b.dir, lockName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = err != nil || !os.SameFile(ours, theirs)
}

// naming is what a segment must define before the blocks of a group.
type naming struct {
	set    idSet // what it defines afterwards
	blocks [][]byte
}

// room finds space for the blocks of a group and for the series that the segment
// must define with them, and seals the open segment if they do not fit into it.
func (b *Buffer) room(ch *chain, g *group) (n naming, err error) {
	data := int64(segment.Slack)
	for _, blk := range g.blocks {
		data += int64(len(blk.Encoded)+b.vault.room()) + 64
	}
	for {
		if err := b.ready(ch); err != nil {
			return naming{}, err
		}
		sg := ch.open
		set, list := b.unnamed(ch, sg, g)
		series, err := encodeSeries(&b.enc, b.o.Device, ch.epoch, list, 0)
		if err != nil {
			return naming{}, err
		}
		n, need := naming{set: set}, data
		for _, blk := range series {
			n.blocks = append(n.blocks, blk.Encoded)
			need += 3*int64(len(blk.Encoded)+b.vault.room()) + 64 // state.db may need them as well, twice for a moment
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
func (b *Buffer) unnamed(ch *chain, sg *seg, g *group) (idSet, []block.SeriesEntry) {
	var named idSet
	if sg != nil {
		named = slices.Clone(sg.named)
	}
	var list []block.SeriesEntry
	b.mu.Lock()
	defer b.mu.Unlock()
	byID := b.epoch(ch.epoch).series.byID
	for i := range g.rows {
		if id := g.rows[i].Series; !named.has(id) && !byID[id-1].IsZero() {
			named.add(id)
			list = append(list, block.SeriesEntry{ID: id, Key: byID[id-1].Key()})
		}
	}
	slices.SortFunc(list, func(a, b block.SeriesEntry) int { return int(a.ID) - int(b.ID) })
	return named, list
}

// create makes the segment that begins at a number.
func (b *Buffer) create(ch *chain, first edgeagent.Seq) error {
	sg := &seg{
		path: segmentPath(b.dir, ch.stream, ch.epoch, first), stream: ch.stream, epoch: ch.epoch,
		first: first, last: first - 1, verified: true,
	}
	// A file of that name saw no commit that anybody knows of: see checkpoint.
	if _, err := os.Lstat(sg.path); err == nil {
		if err := segment.Remove(sg.path, b.o.faults); err != nil {
			return fmt.Errorf("remove unused segment: %w", err)
		}
	}
	f, err := segment.Create(sg.path, int(b.o.segmentSize()), b.o.faults)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody has removed the stream's directory. Not more than that is made
		// again: where the whole buffer is gone, nothing would find the segment.
		if err = os.Mkdir(filepath.Dir(sg.path), 0o750); err == nil {
			err = segment.SyncDir(b.dir, b.o.faults)
		}
		if err == nil {
			f, err = segment.Create(sg.path, int(b.o.segmentSize()), b.o.faults)
		}
	}
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

// save commits changes to state.db together with all that waits for it: cursors
// and sealed segments. b.disk is held.
func (b *Buffer) save(changes []segment.Change) error {
	if b.store == nil {
		return nil // there is no disk: see retry
	}
	changes = slices.Concat(b.late, changes, b.cursorChanges(), b.summaryChanges())
	if len(changes) == 0 {
		return nil
	}
	if err := b.store.Commit(changes); err != nil {
		return err
	}
	b.unsaved, b.late = b.unsaved[:0], b.late[:0]
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

// encode cuts the beginning of a tail into blocks, as many as go into one commit.
// The last block is left alone unless it is full, or nothing can be added to it any
// more, or all is wanted.
func (b *Buffer) encode(ch *chain, all bool) (g group, err error) {
	b.mu.Lock()
	t := ch.tail
	t.spans = slices.Clone(t.spans)
	res := b.epoch(ch.epoch).series.res
	b.mu.Unlock()
	bytes := 0
	for i, s := range t.spans {
		if i > 0 && t.rng(i-1).To+1 != s.first && len(g.blocks) > 0 {
			break // a segment has no holes
		}
		last := i == len(t.spans)-1
		for at := s.at; at < t.end(i); {
			n := min(t.end(i)-at, b.o.BlockSize)
			if last && !all && n < b.o.BlockSize && t.weigh(at) < block.MaxStored {
				break
			}
			blk, n, err := b.encodeSpan(ch, &t, s, res, at, n)
			if err != nil {
				return group{}, err
			}
			g.blocks = append(g.blocks, segment.Block{First: s.first + edgeagent.Seq(at-s.at), Starts: s.starts && at == s.at, Encoded: blk})
			at += n
			g.n, bytes = at, bytes+len(blk)
			if len(g.blocks) == blocksPerCommit || bytes >= blocksPerCommit*block.MaxStored {
				g.rows = t.rows[:min(at, len(t.rows))]
				return g, nil
			}
		}
	}
	g.rows = t.rows[:min(g.n, len(t.rows))]
	return g, nil
}

// weigh returns about how many bytes the events from index at on are.
func (t *tail) weigh(at int) (n int) {
	if len(t.events) == 0 {
		return 0
	}
	for i := range t.events[at:] {
		n += eventSize(&t.events[at+i])
	}
	return n
}

// encodeSpan encodes up to n records of a span from index at on, as many as fit.
func (b *Buffer) encodeSpan(ch *chain, t *tail, s section, res []uint8, at, n int) ([]byte, int, error) {
	id := block.ID{
		Stream: ch.stream, Epoch: ch.epoch, First: s.first + edgeagent.Seq(at-s.at),
		Run: s.run, Unsynced: s.unsynced, Resolution: eventResolution,
	}
	return shrink(n, block.MaxStored, func(n int) ([]byte, error) {
		if len(t.events) > 0 {
			return b.enc.Events(nil, id, t.events[at:at+n])
		}
		rows := t.rows[at : at+n]
		id.Resolution = finest(res, rows)
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
