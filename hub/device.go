package hub

import (
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

// limits bound what remote ends can make a hub remember; see the package comment.
type limits struct {
	devices       int
	epochs        int // a device
	ranges        int // a stream, after folding
	allRanges     int
	series        int // an epoch
	allSeries     int
	need          int // ids asked for at a time
	conflicts     int // told of a stream at a time
	gaps          int // a stream, that an agent names
	corrections   int // of clocks, an epoch
	ackRanges     int // of a stream in one ack
	replayRanges  int // in one request
	tenantSpace   int // bytes of quarantine
	allQuarantine int
}

func defaultLimits() limits {
	return limits{
		devices: 10_000, epochs: 64, ranges: 4096, allRanges: 1 << 20,
		series: 10_000, allSeries: 1 << 18, need: 256, conflicts: 16, ackRanges: 256, replayRanges: 256, gaps: 4096, corrections: 4096,
		tenantSpace: 64 << 20, allQuarantine: 256 << 20,
	}
}

// device is what the hub knows of one device.
type device struct {
	key    deviceKey
	seen   time.Time
	epochs []*epoch  // in order of first sight
	spoke  time.Time // as seen, by the clock of acks
	asked  time.Time // the last request for replay
}

// epoch is one life of a device's buffer.
type epoch struct {
	id      edgeagent.Epoch
	seen    time.Time
	turn    int  // of shortened acks
	ended   bool // a newer one has begun
	names   names
	streams [5]*stream                      // by edgeagent.Stream
	clock   map[edgeagent.Run]time.Duration // what to add to the times of runs that began without a clock
	// waiting are the blocks in quarantine for want of a name.
	waiting map[waitKey]*entry
	need    map[uint32]struct{}
	request request // the last one for replay
	// demanded: somebody has asked for what is missing, under the policy demand.
	demanded bool
	demand   ReplayPolicy
	// pending are the cuts that a Sink has been given, or was about to be, by stream.
	pending [5]*Pending
}

// stream is what is known of one stream of one epoch.
type stream struct {
	facts
	// again are records that were held already and are not in facts.resent: that somebody
	// sends what is held is not worth a commit, so it is stored with the next one.
	again uint64
	time  ripening
}

// facts are what of a stream outlives the hub.
type facts struct {
	version   uint64 // in the store
	held      edgeagent.Ranges
	runs      spans
	conflicts []edgeagent.Conflict // the latest, told in each ack
	seen      time.Time
	newest    int64 // Unix ns, the latest time of a record

	said     claims
	born     edgeagent.Seq // the end of the stream in the first marks, 0 before
	lost     uint64        // numbers below claims.low that were never held, and count as held
	resent   uint64        // records that were held already
	disputes uint64        // blocks
}

// find returns the epoch with the given id, or nil.
func (d *device) find(id edgeagent.Epoch) *epoch {
	for _, e := range slices.Backward(d.epochs) {
		if e.id == id {
			return e
		}
	}
	return nil
}

// stream returns the state of s, making it if need be.
func (e *epoch) stream(s edgeagent.Stream) *stream {
	if e.streams[s] == nil {
		e.streams[s] = &stream{}
	}
	return e.streams[s]
}

// fits reports whether r may be held without more than n ranges: there is room
// for one more, or r touches what is held.
func (s *facts) fits(r edgeagent.Range, n int) bool {
	if len(s.held) < n {
		return true
	}
	near := edgeagent.Range{From: max(r.From-1, 1), To: r.To + 1}
	missing := s.held.Missing(near)
	return len(missing) != 1 || missing[0] != near
}

// hold adds ranges of which nothing was held.
func (s *facts) hold(ranges []edgeagent.Range, run edgeagent.Run, limit int) {
	for _, r := range ranges {
		s.held.Add(r)
		s.runs.add(r, run)
	}
	s.runs.fold(limit)
	s.squeeze(limit)
}

// take adds a cut.
func (s *facts) take(c *Cut, limit int) {
	s.hold(c.Ranges, c.Run, limit)
	s.newest = max(s.newest, c.hdr.MaxTime)
	s.resent += c.hdr.Batch().Range().Len() - total(c.Ranges)
	s.seen = c.Received
}

// dispute remembers a conflict for the next acks.
func (s *facts) dispute(c edgeagent.Conflict, keep int) {
	s.disputes++
	if slices.Contains(s.conflicts, c) {
		return
	}
	if len(s.conflicts) == keep {
		s.conflicts = slices.Delete(s.conflicts, 0, 1)
	}
	s.conflicts = append(s.conflicts, c)
}

// ack returns what the hub says to the agent about e.
func (e *epoch) ack(by string, lim limits) edgeagent.Ack {
	a := edgeagent.Ack{
		By: by, Epoch: e.id,
		Have: map[edgeagent.Stream]edgeagent.Ranges{}, Top: map[edgeagent.Stream]edgeagent.Top{},
	}
	e.turn++
	for _, id := range edgeagent.Streams() {
		s := e.streams[id]
		if s == nil {
			continue
		}
		if len(s.held) > 0 {
			a.Have[id] = shorten(s.held, lim.ackRanges, e.turn)
		}
		if top, ok := s.runs.top(); ok {
			a.Top[id] = top
		}
		// Told each time: Have speaks of the same numbers, and an agent that missed
		// this would take it for a confirmation and never send the block again.
		a.Conflict = append(a.Conflict, s.conflicts...)
	}
	for id := range e.need {
		a.Need.Series = append(a.Need.Series, id)
	}
	slices.Sort(a.Need.Series)
	return a
}

// shorten returns at most n of the ranges: the lowest and highest quarter of n,
// and between them a window that moves on with each turn, so that every range
// has its turn.
func shorten(held edgeagent.Ranges, n, turn int) edgeagent.Ranges {
	if len(held) <= n {
		return slices.Clone(held)
	}
	quarter := n / 4
	middle := held[quarter : len(held)-quarter]
	window := n - 2*quarter
	out := slices.Clone(held[:quarter])
	pages := (len(middle) + window - 1) / window
	from := turn % pages * window
	out = append(out, middle[from:min(from+window, len(middle))]...)
	return append(out, held[len(held)-quarter:]...)
}
