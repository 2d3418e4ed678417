package buffer

import (
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Bounds of what is held in memory until a segment holds it.
const (
	maxTail       = 2 << 20 // bytes, over all streams and epochs
	rowBytes      = 32      // of one reading
	eventOverhead = 64      // estimated bytes of an event beside its strings
	// alarmPart of the memory, and of a head file, is for alarms alone: a disk
	// that takes nothing else still takes those.
	alarmPart = 16
	// eventPart of both is not for readings: what fills a buffer that may give
	// nothing up are readings, and events have a part of the budget as well.
	eventPart = 16
)

// tail holds the records of a chain that no segment holds yet. The head log holds
// them too; readers get them from here. Changed under Buffer.in and Buffer.mu, read
// under either.
type tail struct {
	spans  []section
	rows   []block.Row
	events []edgeagent.Event
	bytes  int
}

// section is a part of a tail without a hole or a border: what one block may hold.
type section struct {
	first    edgeagent.Seq
	at       int // index of the first record
	run      edgeagent.Run
	unsynced bool
	starts   bool // a clock segment; false once its first record is sealed
}

func (t *tail) len() int { return len(t.rows) + len(t.events) }

// end returns the index behind the last record of a span.
func (t *tail) end(i int) int {
	if i+1 < len(t.spans) {
		return t.spans[i+1].at
	}
	return t.len()
}

// rng returns the numbers of a span.
func (t *tail) rng(i int) edgeagent.Range {
	s := t.spans[i]
	return edgeagent.Range{From: s.first, To: s.first + edgeagent.Seq(t.end(i)-s.at) - 1}
}

// next returns the number behind the last record, 0 when there is none.
func (t *tail) next() edgeagent.Seq {
	if len(t.spans) == 0 {
		return 0
	}
	return t.rng(len(t.spans)-1).To + 1
}

// begin says where the records that come next belong.
func (t *tail) begin(s section) {
	if n := len(t.spans); n > 0 {
		last := t.spans[n-1]
		if !s.starts && t.next() == s.first && last.run == s.run && last.unsynced == s.unsynced {
			return
		}
	}
	s.at = t.len()
	t.spans = append(t.spans, s)
}

// addRows appends rows behind what begin said. It grows by as much as is needed,
// up to the bound, so that a quiet stream takes little.
func (t *tail) addRows(rows []block.Row) {
	if need := len(t.rows) + len(rows); need > cap(t.rows) {
		grown := make([]block.Row, len(t.rows), max(need, min(2*cap(t.rows), maxTail/rowBytes), 256))
		copy(grown, t.rows)
		t.rows = grown
	}
	t.rows = append(t.rows, rows...)
	t.bytes += len(rows) * rowBytes
}

func (t *tail) addEvents(evs []edgeagent.Event) {
	for i := range evs {
		t.bytes += eventSize(&evs[i])
	}
	t.events = append(t.events, evs...)
}

// drop forgets the first n records.
func (t *tail) drop(n int) {
	gone := 0
	for gone < len(t.spans) && t.end(gone) <= n {
		gone++
	}
	t.spans = slices.Delete(t.spans, 0, gone)
	for i := range t.spans {
		if s := &t.spans[i]; s.at < n {
			s.first, s.at, s.starts = s.first+edgeagent.Seq(n-s.at), 0, false
		} else {
			s.at -= n
		}
	}
	if len(t.events) > 0 {
		for i := range t.events[:n] {
			t.bytes -= eventSize(&t.events[i])
		}
		t.events = slices.Delete(t.events, 0, n)
		return
	}
	t.bytes -= n * rowBytes
	t.rows = t.rows[:copy(t.rows, t.rows[n:])]
}

// find returns the span that holds s, or the first behind it; len(spans) if there
// is none.
func (t *tail) find(s edgeagent.Seq) int {
	for i := range t.spans {
		if t.rng(i).To >= s {
			return i
		}
	}
	return len(t.spans)
}

// time returns the wall time of a record.
func (t *tail) time(i int) int64 {
	if len(t.events) > 0 {
		return t.events[i].At.Wall
	}
	return t.rows[i].Time
}

// times returns the earliest and the latest wall time.
func (t *tail) times() (oldest, newest int64) {
	for i := range t.len() {
		at := t.time(i)
		if i == 0 {
			oldest, newest = at, at
		}
		oldest, newest = min(oldest, at), max(newest, at)
	}
	return oldest, newest
}

// eventSize is about how much memory an event takes.
func eventSize(ev *edgeagent.Event) int {
	n := eventOverhead + len(ev.Kind) + len(ev.ID) + len(ev.Series) + len(ev.Text) + len(ev.Data)
	for k, v := range ev.Attrs {
		n += len(k) + len(v)
	}
	return n
}
