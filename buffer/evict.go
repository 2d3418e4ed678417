package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

const (
	// reserveBytes is the part of the budget that ordinary commits leave to
	// state.db, so that an eviction can always be written down.
	reserveBytes = 192 << 10
	// maxFloor and floorPart: a file system with less free space than the
	// smaller of the two counts as full.
	maxFloor  = 64 << 20
	floorPart = 20
	// quotaPart: alarms and events give way to themselves beyond a tenth of the
	// budget each, so that a storm of them cannot push out the readings.
	quotaPart = 10
)

// makeRoom evicts until need more bytes fit into the budget and leave the file
// system its floor, or fails with [ErrFull]. b.disk is held. For the budget it may
// evict any segment, the open one of a chain included. For the floor only what
// nobody needs any more may go: on a disk that somebody else fills, giving up
// readings would feed them to the flood one by one until none are left.
func (b *Buffer) makeRoom(need int64) error {
	for {
		budget := b.overBudget(need)
		disk, err := b.overDisk(need)
		if budget <= 0 && disk <= 0 {
			return nil
		}
		list := b.candidates()
		if budget <= 0 {
			list = slices.DeleteFunc(list, candidate.needed)
		} else {
			err = fmt.Errorf("max_bytes is %s and nothing may give way", b.o.MaxBytes)
		}
		i := pickVictim(list, int64(b.o.MaxBytes)/quotaPart)
		if i < 0 {
			return edgeagent.WithHint(fmt.Errorf("%w: %w", ErrFull, err),
				"raise buffer.max_bytes, or free space on the file system of buffer.dir")
		}
		if err := b.evict(list[i]); err != nil {
			return err
		}
	}
}

// overBudget returns how many bytes of the budget need more would be over it.
func (b *Buffer) overBudget(need int64) int64 {
	return b.usedBytes() + need + reserveBytes - int64(b.o.MaxBytes)
}

// overDisk returns how many bytes the file system has too few for need more and its
// floor, and says so in an error.
func (b *Buffer) overDisk(need int64) (int64, error) {
	free, total, known := b.o.space(b.dir)
	if !known {
		return 0, nil
	}
	floor := min(int64(total/floorPart), maxFloor)
	return need + floor - int64(free), fmt.Errorf("the file system has %s left, %s are kept free", edgeagent.Bytes(free), edgeagent.Bytes(floor))
}

// usedBytes returns what the buffer takes of the disk, by allocated blocks.
func (b *Buffer) usedBytes() int64 {
	used := dirBytes(filepath.Join(b.dir, quarantineDir)) + deadBytes(b.dir)
	for _, name := range []string{lockName, stateFile} {
		if fi, err := os.Lstat(filepath.Join(b.dir, name)); err == nil {
			used += allocated(fi)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			for _, sg := range ep.streams[s].segs {
				used += sg.bytes
			}
		}
	}
	return used
}

func dirBytes(dir string) (n int64) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range list {
		if fi, err := e.Info(); err == nil {
			n += allocated(fi)
		}
	}
	return n
}

// candidate is something that may give way.
type candidate struct {
	quarantine string // path of a file there; the rest is empty then
	sg         *seg
	ch         *chain
	stream     edgeagent.Stream
	epoch      int // 0 is the oldest
	first      edgeagent.Seq
	bytes      int64
	maxTime    int64
	confirmed  bool
	open       bool // still written to
}

// needed reports whether somebody still waits for what the candidate holds.
func (c candidate) needed() bool { return c.quarantine == "" && !c.confirmed }

// yield orders the streams: what gives way first.
var yield = []edgeagent.Stream{
	edgeagent.StreamTelemetry, edgeagent.StreamRollup, edgeagent.StreamEvent, edgeagent.StreamAlarm,
}

// pickVictim returns the index of what gives way next, -1 if nothing may: copies
// of damaged files, confirmed segments by age, the oldest of a stream of events
// or alarms that takes more than quota, and then the oldest of the lowest stream.
func pickVictim(list []candidate, quota int64) int {
	var taken [5]int64
	for _, c := range list {
		if c.quarantine == "" && !c.confirmed {
			taken[c.stream] += c.bytes
		}
	}
	rank := func(c candidate) int {
		over := c.stream == edgeagent.StreamAlarm || c.stream == edgeagent.StreamEvent
		over = over && taken[c.stream] > quota
		switch {
		case c.quarantine != "":
			return 0
		case c.confirmed && !c.open:
			return 1
		case c.confirmed:
			return 2
		case over && !c.open:
			return 3
		}
		return 4 + slices.Index(yield, c.stream)
	}
	best := -1
	for i, c := range list {
		if best < 0 || rank(c) < rank(list[best]) || rank(c) == rank(list[best]) && c.older(list[best]) {
			best = i
		}
	}
	return best
}

func (c candidate) older(d candidate) bool {
	switch {
	case c.quarantine != d.quarantine:
		return c.quarantine < d.quarantine
	case c.epoch != d.epoch:
		return c.epoch < d.epoch
	case c.stream == d.stream:
		return c.first < d.first
	case c.maxTime != d.maxTime:
		return c.maxTime < d.maxTime
	}
	return slices.Index(yield, c.stream) < slices.Index(yield, d.stream)
}

// candidates lists what may give way.
func (b *Buffer) candidates() []candidate {
	var out []candidate
	quarantined, err := os.ReadDir(filepath.Join(b.dir, quarantineDir))
	if err == nil {
		for _, e := range quarantined {
			out = append(out, candidate{quarantine: filepath.Join(b.dir, quarantineDir, e.Name())})
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			ch := ep.streams[s]
			for _, sg := range ch.segs {
				if sg.records == 0 {
					continue
				}
				out = append(out, candidate{
					sg: sg, ch: ch, stream: s, epoch: i, first: sg.first, bytes: sg.bytes, maxTime: sg.maxTime,
					confirmed: len(b.owed(ch, sg)) == 0, open: ch.open == sg,
				})
			}
		}
	}
	return out
}

// owed returns the numbers of a segment that some registered destination has not
// confirmed; all of it if there is none. b.mu is held.
func (b *Buffer) owed(ch *chain, sg *seg) edgeagent.Ranges {
	var owed edgeagent.Ranges
	list := b.holding()
	if len(list) == 0 {
		for _, r := range ch.lostRanges().Missing(sg.rng()) {
			owed.Add(r)
		}
	}
	for _, d := range list {
		for _, r := range d.place(ch.epoch, ch.stream).set.Missing(sg.rng()) {
			owed.Add(r)
		}
	}
	return owed
}

// evict gives up a segment: what is still owed goes to the ledger, the ledger and
// the cursors that let the rest go are made durable, and then the file is
// unlinked. A crash in between is made good by the next open.
func (b *Buffer) evict(c candidate) error {
	if c.quarantine != "" {
		b.log.Warn("copy of a damaged file removed to make room", "path", c.quarantine)
		if err := segment.Remove(c.quarantine, b.o.faults); err != nil {
			return fmt.Errorf("evict: %w", err)
		}
		return nil
	}
	sg, ch := c.sg, c.ch
	if c.open {
		b.seal(ch)
	}
	b.unsaved = slices.DeleteFunc(b.unsaved, func(x *seg) bool { return x == sg })
	b.mu.Lock()
	owed := b.owed(ch, sg)
	next := ch.clone()
	b.mu.Unlock()
	for _, r := range owed {
		next.lost(Gap{Range: r, Reason: Evicted, AtMost: r.Len(), TFrom: sg.minTime, TTo: sg.maxTime})
	}
	gone := next.lostRanges()
	for _, r := range gone.Missing(sg.rng()) {
		next.released.Add(r)
	}
	err := b.save([]segment.Change{next.change(), unset(bucketSegments, segmentKey(sg.epoch, sg.stream, sg.first))})
	if err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	b.mu.Lock()
	ch.adopt(next)
	b.coverLost(ch)
	ch.remove(sg)
	b.count.evicted[ch.stream] += owed.Count()
	b.mu.Unlock()
	if n := owed.Count(); n > 0 {
		b.log.Warn("records dropped to make room", "stream", ch.stream.String(), "from", sg.first, "to", sg.last, "records", n)
	}
	return b.unlink(sg)
}

// unlink removes the file of a segment that is in no chain any more.
func (b *Buffer) unlink(sg *seg) error {
	sg.io.Lock()
	defer sg.io.Unlock()
	sg.gone = true
	err := errors.Join(b.closeHandle(sg), segment.Remove(sg.path, b.o.faults))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("evict: %w", err)
	}
	return nil
}
