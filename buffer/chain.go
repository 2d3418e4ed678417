package buffer

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/segment"
)

// epoch is one life of the buffer. All but the newest are only read.
type epoch struct {
	id      edgeagent.Epoch
	prev    edgeagent.Epoch // 0 if there was none
	reason  string
	series  registry
	streams [5]*chain // by stream; 0 is none
}

// chain is one stream of one epoch: what is stored, and what is known of the rest.
// Guarded by Buffer.mu; changed only while Buffer.disk is held as well.
type chain struct {
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
	segs   []*seg // rising and disjoint
	open   *seg   // the one that is appended to, nil if the next commit makes one
	tail   tail
	next   edgeagent.Seq
	// durable: a power cut takes no record below it that is here now.
	durable edgeagent.Seq

	limit    edgeagent.Seq
	low      edgeagent.Seq
	runs     []runStart
	released edgeagent.Ranges
	gaps     []Gap
	version  uint64 // counts the changes of low and gaps
}

// seg is one segment of a chain.
type seg struct {
	path   string
	stream edgeagent.Stream
	epoch  edgeagent.Epoch
	first  edgeagent.Seq

	// Guarded by Buffer.mu.
	last             edgeagent.Seq // first-1 while it is empty
	records          uint64
	minTime, maxTime int64
	bytes            int64 // allocated on the disk
	sealed           bool

	// Guarded by Buffer.disk.
	named idSet // the series that it defines, known once it was inspected
	noted bool  // state.db knows that it exists
	// thinned counts the attempts to roll it up.
	thinned int

	// io guards the handle: readers hold it shared, whoever opens, closes or
	// unlinks holds it alone. Taken after Buffer.disk and before Buffer.mu.
	io       sync.RWMutex
	file     *segment.Segment
	verified bool // whole, since the process began
	gone     bool
	used     atomic.Uint64 // tick of the last use, for closing the least recent
}

func (s *seg) rng() edgeagent.Range { return edgeagent.Range{From: s.first, To: s.last} }

// note takes up what a stored block says of itself.
func (s *seg) note(last edgeagent.Seq, count uint64, minTime, maxTime int64) {
	if s.records == 0 {
		s.minTime, s.maxTime = minTime, maxTime
	}
	s.last = last
	s.records += count
	s.minTime, s.maxTime = min(s.minTime, minTime), max(s.maxTime, maxTime)
}

func (s *seg) summary(size int64) summary {
	return summary{size, s.last, s.records, s.minTime, s.maxTime, s.sealed}
}

// segmentPath is <dir>/<stream>/<epoch>-<first>.seg.
func segmentPath(dir string, s edgeagent.Stream, e edgeagent.Epoch, first edgeagent.Seq) string {
	return filepath.Join(dir, s.String(), fmt.Sprintf("%s-%016x.seg", e, uint64(first)))
}

// parseSegmentName is the inverse of segmentPath's last part.
func parseSegmentName(name string) (e edgeagent.Epoch, first edgeagent.Seq, ok bool) {
	base, isSeg := strings.CutSuffix(name, ".seg")
	if !isSeg || len(base) != 33 || base[16] != '-' || base != strings.ToLower(base) {
		return 0, 0, false
	}
	ep, err := strconv.ParseUint(base[:16], 16, 64)
	if err != nil {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(base[17:], 16, 53)
	return edgeagent.Epoch(ep), edgeagent.Seq(n), err == nil && n > 0
}

// find returns the index of the first segment that holds a number at or above s.
func (c *chain) find(s edgeagent.Seq) int {
	i, _ := slices.BinarySearchFunc(c.segs, s, func(x *seg, s edgeagent.Seq) int {
		if x.last < s {
			return -1
		}
		return 1
	})
	return i
}

func (c *chain) remove(s *seg) {
	c.segs = slices.DeleteFunc(c.segs, func(x *seg) bool { return x == s })
	if c.open == s {
		c.open = nil
	}
}

// runAt returns the run that gave number s.
func (c *chain) runAt(s edgeagent.Seq) (edgeagent.Run, bool) {
	for _, r := range slices.Backward(c.runs) {
		if r.First <= s {
			return r.Run, true
		}
	}
	return 0, false
}

// maxRuns bounds the run table of a stream; the oldest are forgotten.
const maxRuns = 1024

// begin notes that run gives the numbers from next on.
func (c *chain) begin(run edgeagent.Run) { c.beginAt(c.next, run) }

// beginAt notes that run gives the numbers from first on.
func (c *chain) beginAt(first edgeagent.Seq, run edgeagent.Run) {
	c.runs = slices.DeleteFunc(c.runs, func(r runStart) bool { return r.First >= first })
	c.runs = append(c.runs, runStart{first, run})
	if n := len(c.runs) - maxRuns; n > 0 {
		c.runs = slices.Delete(c.runs, 0, n)
	}
}

// lost adds a gap.
func (c *chain) lost(g Gap) {
	g.Epoch, g.Stream = c.epoch, c.stream
	c.gaps, c.low = foldGaps(addGap(c.gaps, g), c.low)
}

// lostRanges returns what is in the ledger or below low.
func (c *chain) lostRanges() edgeagent.Ranges {
	var rs edgeagent.Ranges
	if c.low > 1 {
		rs.Add(edgeagent.Range{From: 1, To: c.low - 1})
	}
	for _, g := range c.gaps {
		rs.Add(g.Range)
	}
	return rs
}

// clone copies what is stored in state.db, so that a change can be made durable
// before it is true.
func (c *chain) clone() *chain {
	d := *c
	d.runs, d.released, d.gaps = slices.Clone(c.runs), slices.Clone(c.released), slices.Clone(c.gaps)
	return &d
}

// adopt takes over from a clone what became durable.
func (c *chain) adopt(d *chain) {
	if c.low != d.low || !slices.Equal(c.gaps, d.gaps) {
		c.version++
	}
	c.limit, c.low, c.runs, c.released, c.gaps = d.limit, d.low, d.runs, d.released, d.gaps
}

// change stores the chain's record.
func (c *chain) change() segment.Change {
	r := record{Limit: c.limit, Low: c.low, Runs: c.runs, Released: c.released}
	for _, g := range c.gaps {
		r.Gaps = append(r.Gaps, g.stored())
	}
	return set(bucketStreams, streamKey(c.epoch, c.stream), r)
}

// load is the inverse of change.
func (c *chain) load(r record) {
	c.limit, c.low, c.runs, c.released = r.Limit, r.Low, r.Runs, r.Released
	for _, g := range r.Gaps {
		c.gaps = append(c.gaps, g.gap(c.epoch, c.stream))
	}
}
