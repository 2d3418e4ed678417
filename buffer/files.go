package buffer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// Segments that are open are mapped, and what was read of them counts as memory of
// the process: at most maxHandles are, and what nobody has used for idleAfter is
// closed.
const (
	maxHandles = 4
	idleAfter  = 10 * time.Second
)

// errGone: the segment was evicted meanwhile.
var errGone = errors.New("segment is gone")

// view calls f with an open segment, opening it if need be.
func (b *Buffer) view(sg *seg, f func(*segment.Segment) error) error {
	for {
		sg.io.RLock()
		if file := sg.file; file != nil {
			sg.used.Store(b.tick.Add(1))
			err := f(file)
			sg.io.RUnlock()
			return err
		}
		sg.io.RUnlock()
		b.mu.Lock()
		writable := !sg.sealed
		b.mu.Unlock()
		if err := b.openHandle(sg, writable); err != nil {
			return err
		}
	}
}

// openHandle opens a segment's file, after verifying it if nobody has since the
// process began. An error that wraps [segment.ErrDamaged] asks for heal.
func (b *Buffer) openHandle(sg *seg, writable bool) error {
	sg.io.Lock()
	defer sg.io.Unlock()
	if sg.gone {
		return errGone
	}
	if sg.file != nil {
		return nil
	}
	if !sg.verified {
		found, err := b.inspect(sg.path, sg.epoch, sg.stream, sg.last)
		if err != nil {
			return err
		}
		b.mu.Lock()
		missing := b.unexplained(sg, found.ranges)
		b.mu.Unlock()
		if len(missing) > 0 {
			return fmt.Errorf("segment %s lacks [%d,%d]: %w", sg.path, missing[0].From, missing[0].To, segment.ErrDamaged)
		}
		sg.verified, sg.named = true, found.named
	}
	file, err := segment.Open(sg.path, !writable, int(b.o.segmentSize()), b.o.faults)
	if err != nil {
		return err
	}
	sg.file = file
	b.opened(sg)
	return nil
}

// unexplained returns the numbers that a segment should hold, and neither does nor
// says why; b.mu is held.
func (b *Buffer) unexplained(sg *seg, found edgeagent.Ranges) []edgeagent.Range {
	known := slices.Clone(found)
	for _, r := range b.epoch(sg.epoch).streams[sg.stream].lostRanges() {
		known.Add(r)
	}
	return known.Missing(sg.rng())
}

// opened notes an open file and closes the least recently used one beyond
// maxHandles, unless somebody reads it at the moment.
func (b *Buffer) opened(sg *seg) {
	sg.used.Store(b.tick.Add(1))
	b.mu.Lock()
	b.handles = append(b.handles, sg)
	var idle *seg
	if len(b.handles) > maxHandles {
		for _, x := range b.handles {
			if x != sg && x.sealed && (idle == nil || x.used.Load() < idle.used.Load()) {
				idle = x
			}
		}
	}
	b.mu.Unlock()
	if idle != nil && idle.io.TryLock() {
		_ = b.closeHandle(idle)
		idle.io.Unlock()
	}
}

// closeIdle closes the segments that nobody has used for a while, those that are
// written to included: opening one again takes less than a checkpoint.
func (b *Buffer) closeIdle() {
	now := b.o.Clock.Run()
	if now-b.swept < idleAfter || !b.disk.try() {
		return
	}
	defer b.disk.Unlock()
	last := b.sweptTick
	b.swept, b.sweptTick = now, b.tick.Load()
	b.mu.Lock()
	handles := slices.Clone(b.handles)
	b.mu.Unlock()
	for _, sg := range handles {
		if sg.used.Load() > last || !sg.io.TryLock() {
			continue
		}
		if err := b.closeHandle(sg); err != nil {
			b.log.Debug("segment not closed in order", "path", sg.path, "err", err)
		}
		sg.io.Unlock()
	}
}

// closeHandle closes a segment's file; sg.io is held alone.
func (b *Buffer) closeHandle(sg *seg) error {
	if sg.file == nil {
		return nil
	}
	err := sg.file.Close()
	sg.file = nil
	b.mu.Lock()
	b.handles = slices.DeleteFunc(b.handles, func(x *seg) bool { return x == sg })
	b.mu.Unlock()
	return err
}

// measure reads again what a segment takes of the disk.
func (b *Buffer) measure(sg *seg) {
	fi, err := os.Lstat(sg.path)
	if err != nil {
		return
	}
	b.mu.Lock()
	sg.bytes = allocated(fi)
	b.mu.Unlock()
}

// found is what a segment turned out to hold.
type found struct {
	ranges           edgeagent.Ranges
	last             edgeagent.Seq
	records          uint64
	minTime, maxTime int64
	named            idSet
	series           []block.SeriesEntry
	size             int64
}

// inspect walks a segment with plain reads and checks every block: its sum, that
// it stands under its own number and in the right chain, and that none overlap.
// Blocks above last (0: none is) were never accepted and do not count.
func (b *Buffer) inspect(path string, e edgeagent.Epoch, s edgeagent.Stream, last edgeagent.Seq) (found, error) {
	var f found
	if fi, err := os.Lstat(path); err == nil {
		f.size = fi.Size()
	}
	var dec block.Decoder
	err := b.contents(path, e, s, func(blk segment.Block) error {
		h, err := block.Check(blk.Encoded)
		if err != nil {
			return fmt.Errorf("%w: %w", segment.ErrDamaged, err)
		}
		if h.Epoch != e || h.Stream != s || h.First != blk.First || h.First <= f.last && f.last > 0 {
			return fmt.Errorf("%w: block %d stands in the wrong place", segment.ErrDamaged, h.First)
		}
		if last == 0 || h.First <= last {
			f.add(h)
		}
		return nil
	}, func(blk []byte) error {
		_, _, list, _, err := dec.Series(blk)
		if err != nil {
			return fmt.Errorf("%w: %w", segment.ErrDamaged, err)
		}
		f.addSeries(list)
		return nil
	})
	return f, err
}

func (f *found) add(h block.Header) {
	if f.records == 0 {
		f.minTime, f.maxTime = h.MinTime, h.MaxTime
	}
	f.ranges.Add(edgeagent.Range{From: h.First, To: h.Last()})
	f.last = h.Last()
	f.records += uint64(h.Count)
	f.minTime, f.maxTime = min(f.minTime, h.MinTime), max(f.maxTime, h.MaxTime)
}

func (f *found) addSeries(list []block.SeriesEntry) {
	for _, e := range list {
		if e.ID > 0 && e.ID <= maxSeries {
			f.named.add(e.ID)
			f.series = append(f.series, e)
		}
	}
}
