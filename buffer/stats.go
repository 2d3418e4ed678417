package buffer

import (
	"errors"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/headlog"
)

// counters count since Open. Guarded by Buffer.mu.
type counters struct {
	records      [5]uint64
	commits      uint64
	checkpoints  uint64
	stateCommits uint64
	failed       uint64
	waits        uint64
	confirmed    uint64
	damaged      uint64
	evicted      [5]uint64
	rolledUp     uint64
	forgotten    uint64
	pendingMost  int
}

// Stats says how the buffer is. Counters count since Open.
type Stats struct {
	Epoch    edgeagent.Epoch
	Run      edgeagent.Run
	Epochs   int
	Series   int
	Used     int64 // bytes on the disk, by allocated blocks
	MaxBytes int64
	Streams  map[edgeagent.Stream]StreamStats

	Commits        uint64            // of segments; each is two syncs of the disk
	StateCommits   uint64            // of cursors, series and the ledger; two syncs each
	HeadSyncs      uint64            // fdatasyncs of the head log
	Syncs          uint64            // of all three, without those of growing files
	Checkpoints    uint64            // that went well
	FailedCommits  uint64            // writes that the disk refused
	Pending        uint64            // records in memory and head log that no segment holds yet
	PendingBytes   int               // of records in memory that no segment holds yet; at most 2 MiB
	PendingMost    int               // the most that there were
	HeadUsed       int64             // bytes of the head file that is written to
	HeadSize       int64             // bytes of each of the two
	Unsynced       int64             // bytes of the head log that a power cut would take
	Waits          uint64            // appends that had to wait for a checkpoint
	Confirmed      uint64            // records, by all destinations together
	DamagedFiles   uint64            // segments found damaged since Open
	Unconfirmed    map[string]uint64 // records by destination
	OpenSegments   int
	Memory         bool   // the disk has failed: nothing outlives the process
	Forgotten      uint64 // records that memory had no room for since then
	LedgeredRanges int
}

// StreamStats says how one stream is.
type StreamStats struct {
	Next     edgeagent.Seq // number of the next record
	Low      edgeagent.Seq // nothing below can be delivered
	Stored   uint64        // records, confirmed or not, over all epochs
	Segments int
	Bytes    int64  // on the disk
	Oldest   int64  // earliest wall time stored, Unix ns; 0 when nothing is
	Appended uint64 // records since Open
	Evicted  uint64 // records that went unconfirmed since Open
	RolledUp uint64 // records that went into rollups since Open
}

// Stats returns a snapshot.
func (b *Buffer) Stats() Stats {
	used, head := b.usedBytes(), b.headStats()
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.count
	st := Stats{
		Epoch: b.newest().id, Run: b.run, Epochs: len(b.epochs), Series: len(b.newest().series.byID),
		Used: used, MaxBytes: int64(b.o.MaxBytes), Streams: map[edgeagent.Stream]StreamStats{},
		Commits: c.commits, StateCommits: c.stateCommits, Syncs: 2*(c.commits+c.stateCommits) + head.Syncs,
		HeadSyncs: head.Syncs, Checkpoints: c.checkpoints, HeadUsed: head.Used, HeadSize: head.Size, Unsynced: head.Unsynced,
		PendingBytes:  b.tailBytes,
		FailedCommits: c.failed, PendingMost: c.pendingMost, Waits: c.waits, Confirmed: c.confirmed,
		DamagedFiles: c.damaged, Unconfirmed: map[string]uint64{},
		OpenSegments: len(b.handles), Memory: b.head == nil, Forgotten: c.forgotten,
	}
	for _, s := range edgeagent.Streams() {
		st.Streams[s] = b.streamStats(s)
		for _, ep := range b.epochs {
			st.Pending += uint64(ep.streams[s].tail.len())
		}
		for _, ep := range b.epochs {
			st.LedgeredRanges += len(ep.streams[s].gaps)
		}
		for _, d := range b.holding() {
			st.Unconfirmed[d.name] += b.unconfirmed(d, s)
		}
	}
	return st
}

// headStats returns what the head log says of itself.
func (b *Buffer) headStats() headlog.Stats {
	if head := b.headLog(); head != nil {
		return head.Stats()
	}
	return headlog.Stats{Size: b.headSize}
}

func (b *Buffer) streamStats(s edgeagent.Stream) StreamStats {
	ch := b.newest().streams[s]
	st := StreamStats{Next: ch.next, Low: ch.low, Appended: b.count.records[s], Evicted: b.count.evicted[s]}
	if s == edgeagent.StreamTelemetry {
		st.RolledUp = b.count.rolledUp
	}
	for _, ep := range b.epochs {
		for _, sg := range ep.streams[s].segs {
			st.Bytes += sg.bytes
			st.Segments++
			st.Stored += sg.records
			if sg.records > 0 && (st.Oldest == 0 || sg.minTime < st.Oldest) {
				st.Oldest = sg.minTime
			}
		}
		t := &ep.streams[s].tail
		st.Stored += uint64(t.len())
		if oldest, _ := t.times(); t.len() > 0 && (st.Oldest == 0 || oldest < st.Oldest) {
			st.Oldest = oldest
		}
	}
	return st
}

// Pressure returns how near the buffer is to refusing records or giving some up: 0
// is far, 1 is there. It is the part of the budget that nobody may drop without a
// gap, or how much of the last quarter of memory and head log is taken, if a
// checkpoint is late.
func (b *Buffer) Pressure() float64 {
	used, head := b.usedBytes(), b.headStats()
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.fault.err, ErrFull) {
		return 1
	}
	for _, ep := range b.epochs {
		for _, s := range edgeagent.Streams() {
			for _, sg := range ep.streams[s].segs {
				if len(b.owed(ep.streams[s], sg)) == 0 {
					used -= sg.bytes
				}
			}
		}
	}
	late := max(float64(b.tailBytes)/maxTail, float64(head.Used)/float64(head.Size))
	if b.head == nil {
		return min(late, 1)
	}
	return min(max(float64(used)/float64(b.o.MaxBytes), 4*late-3, 0), 1)
}

// fault is the last error of a commit, until one succeeds.
type fault struct {
	err    error
	since  time.Time
	failed uint64 // commits
}

func (f *fault) report(err error, now time.Time) {
	switch {
	case err == nil:
		*f = fault{}
	case f.err == nil:
		*f = fault{err, now, 1}
	default:
		f.err = err
		f.failed++
	}
}

// Health says what is wrong: commits that fail, records that had to give way,
// files that were damaged.
func (b *Buffer) Health() edgeagent.Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	var evicted uint64
	for _, n := range b.count.evicted {
		evicted += n
	}
	damaged := b.count.damaged
	switch f := b.fault; {
	case b.head == nil && full(b.noDisk):
		return edgeagent.Health{
			Level: edgeagent.Failed, Code: "buffer-memory", Since: b.noDiskSince,
			Text: "the disk was full at the start: records are kept in 2 MiB of memory, the oldest give way, and all are lost with the process: " + b.noDisk.Error(),
			Hint: "free space on the file system of buffer.dir; the buffer tries it again every minute",
		}
	case b.head == nil:
		return edgeagent.Health{
			Level: edgeagent.Failed, Code: "buffer-memory", Since: b.noDiskSince,
			Text: "the disk has failed: records are kept in 2 MiB of memory, the oldest give way, and all are lost with the process: " + b.noDisk.Error(),
			Hint: "look at the kernel log for errors of the disk under buffer.dir; the buffer tries it again every 10 minutes",
		}
	case b.gone:
		return edgeagent.Health{
			Level: edgeagent.Failed, Code: "buffer-gone",
			Text: "the buffer's directory was removed or replaced under the agent: what it holds is lost when the agent stops",
			Hint: "let the uplink drain, then restart the agent; buffer.dir must not be touched while it runs",
		}
	case errors.Is(f.err, ErrFull):
		return edgeagent.Health{
			Level: edgeagent.Failed, Code: "buffer-full", Text: f.err.Error(), Since: f.since,
			Hint: "free space on the file system of buffer.dir, or raise buffer.max_bytes",
		}
	case f.err != nil:
		return edgeagent.Health{
			Level: edgeagent.Failed, Code: "buffer-write", Text: f.err.Error(), Since: f.since,
			Hint: "look at the kernel log for errors of the disk under buffer.dir",
		}
	case damaged > 0:
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "buffer-damaged",
			Text: strconv.FormatUint(damaged, 10) + " damaged files were found in the buffer",
			Hint: "look at the kernel log for errors of the disk under buffer.dir",
		}
	case evicted > 0:
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "buffer-evicting",
			Text: strconv.FormatUint(evicted, 10) + " records gave way to newer ones before they were delivered",
			Hint: "raise buffer.max_bytes, or see why the destination does not take them",
		}
	case b.count.rolledUp > 0:
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "buffer-evicting",
			Text: strconv.FormatUint(b.count.rolledUp, 10) + " readings gave way to summaries by the minute before they were delivered",
			Hint: "raise buffer.max_bytes, or see why the destination does not take them",
		}
	}
	return edgeagent.Health{Level: edgeagent.OK}
}
