package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// overBudget returns how many bytes of the budget need more would be over it.
func (b *Buffer) overBudget(need int64) int64 {
	return b.usedBytes() + need + reserveBytes + b.thinReserve() - int64(b.o.MaxBytes)
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

// usedBytes returns what the buffer takes of the disk, by allocated blocks. What
// somebody else has put into its directory does not count: nothing gives way to it.
func (b *Buffer) usedBytes() int64 {
	used := treeBytes(b.dir, ours)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			for _, sg := range ep.streams[s].segs {
				used += sg.bytes
			}
		}
	}
	for _, sg := range b.leftover {
		used += sg.bytes
	}
	return used
}

// ours reports whether an entry of the buffer's directory is part of the budget.
// Segments are too, but are added up as they are known.
func ours(name string) bool {
	switch name {
	case lockName, stateFile, stateFile + ".tmp", quarantineDir, deadDir:
		return true
	}
	return strings.HasPrefix(name, headPrefix)
}

const headPrefix = "head-" // of the files of the head log

// treeBytes adds up the files below dir, of the entries of dir itself only those
// that want names.
func treeBytes(dir string, want func(name string) bool) (n int64) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range list {
		switch fi, err := e.Info(); {
		case err != nil || want != nil && !want(e.Name()):
		case e.IsDir():
			n += treeBytes(filepath.Join(dir, e.Name()), nil)
		default:
			n += allocated(fi)
		}
	}
	return n
}

func dirBytes(dir string) int64 { return treeBytes(dir, nil) }

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
					confirmed: len(b.owed(ch, sg)) == 0, open: ch.open == sg, closed: ep != b.newest(),
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
	next.give(sg, owed, Gap{Reason: Evicted})
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

// unlink removes the file of a segment that is in no chain any more. If it cannot, it
// is tried again when the next room is made, and counts until then.
func (b *Buffer) unlink(sg *seg) error {
	sg.io.Lock()
	defer sg.io.Unlock()
	sg.gone = true
	err := errors.Join(b.closeHandle(sg), segment.Remove(sg.path, b.o.faults))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.mu.Lock()
		b.leftover = append(b.leftover, sg)
		b.mu.Unlock()
		return fmt.Errorf("evict: %w", err)
	}
	return nil
}
