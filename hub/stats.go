package hub

import (
	"cmp"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
)

// counters since the hub was made.
type counters struct {
	messages, bytes, records  uint64
	badTopics, refused, marks uint64
	forgotten, released       uint64
	quarantined               [causes]uint64
	sinkErrors                uint64
	sinkError                 string // of the last commit, "" if it worked
	acks, ackErrors, replays  uint64
	reloads                   uint64
	unfit                     uint64 // blocks that the sink refuses for good
}

// Stats is what a hub has received and what it holds.
type Stats struct {
	Messages  uint64 // received
	Bytes     uint64 // of their payloads
	Records   uint64 // stored
	Resent    uint64 // records that came again and were left out
	BadTopics uint64 // messages whose topic names no device
	Refused   uint64 // messages and blocks over a bound
	Marks     uint64 // marks blocks
	Forgotten uint64 // epochs that gave way to newer ones of the same device

	Quarantined       map[Cause]uint64 // blocks put into quarantine, ever
	Released          uint64           // blocks taken out when their names came
	QuarantineBytes   int              // kept now
	QuarantineDropped uint64           // blocks that gave way to newer ones

	SinkErrors uint64 // commits that failed and were tried again
	SinkError  string // of the last commit, "" if it worked
	Acks       uint64 // end-to-end acks sent
	AckErrors  uint64 // end-to-end acks that could not be sent and were sent later
	Replays    uint64 // requests for what is missing
	Reloads    uint64 // times that another worker had changed the store first
	Queued     int    // messages that wait for the next commit; at most 512 and 4 MiB for each input, which waits then

	Devices []DeviceStats // by tenant and name
}

// DeviceStats is what the hub knows of one device.
type DeviceStats struct {
	Tenant, Device string
	Seen           time.Time
	Epochs         []EpochStats // in order of first sight
}

// EpochStats is what the hub knows of one epoch.
type EpochStats struct {
	Epoch   edgeagent.Epoch
	Seen    time.Time
	Series  int // names known
	Waiting int // blocks that wait for names
	Streams []StreamStats
}

// StreamStats is what the hub holds of one stream.
type StreamStats struct {
	Stream   edgeagent.Stream
	Held     uint64        // records
	Ranges   int           // they lie in
	Top      edgeagent.Seq // the highest number
	Next     edgeagent.Seq // the number that the agent will give next, 0 while it has not said so
	Lost     uint64        // records that the agent cannot deliver any more, at most
	Missing  uint64        // numbers below Top that are neither held nor named by the agent
	Complete bool          // everything below Next is held, or the agent has named why not
	// Resent are records that came again and were left out. A message that brings nothing
	// else is not worth a commit: what it adds is stored with the next commit to the stream,
	// and until then known to this hub only. So a hub that dies forgets a few, and of several
	// on one store each counts all that is stored and what it has had since itself.
	Resent    uint64
	Conflicts uint64 // blocks
	Seen      time.Time
	Newest    time.Time     // of the records' own times
	Lag       time.Duration // from Newest to now
}

// Gap is a hole: numbers that are not held below one that is.
type Gap struct {
	Tenant, Device string
	Epoch          edgeagent.Epoch
	Stream         edgeagent.Stream
	edgeagent.Range
	// Reason is why the agent cannot deliver them, empty while it has not said so:
	// then they may still come.
	Reason string
	AtMost uint64 // records in it, if there is a reason
}

// Stats returns the hub's counters and what it holds of each device.
func (h *Hub) Stats() Stats {
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &h.count
	s := Stats{
		Messages: c.messages, Bytes: c.bytes, Records: c.records, BadTopics: c.badTopics, Refused: c.refused,
		Marks: c.marks, Forgotten: c.forgotten, Released: c.released, Quarantined: map[Cause]uint64{},
		QuarantineBytes: h.kept.bytes, QuarantineDropped: h.kept.dropped,
		SinkErrors: c.sinkErrors, SinkError: c.sinkError, Acks: c.acks, AckErrors: c.ackErrors, Replays: c.replays, Reloads: c.reloads,
	}
	for cause, n := range c.quarantined {
		if n > 0 {
			s.Quarantined[Cause(cause)] = n
		}
	}
	for _, q := range h.runs {
		s.Queued += q.depth()
	}
	for _, d := range h.sorted() {
		ds := d.stats(now)
		s.Devices = append(s.Devices, ds)
		for _, e := range ds.Epochs {
			for _, st := range e.Streams {
				s.Resent += st.Resent
			}
		}
	}
	return s
}

// sorted returns the devices by tenant and name; h.mu is held.
func (h *Hub) sorted() []*device {
	out := make([]*device, 0, len(h.devices))
	for _, d := range h.devices {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *device) int {
		return cmp.Or(cmp.Compare(a.key.tenant, b.key.tenant), cmp.Compare(a.key.device, b.key.device))
	})
	return out
}

func (d *device) stats(now time.Time) DeviceStats {
	out := DeviceStats{Tenant: d.key.tenant, Device: d.key.device, Seen: d.seen}
	for _, e := range d.epochs {
		es := EpochStats{Epoch: e.id, Seen: e.seen, Series: e.names.count, Waiting: len(e.waiting)}
		for _, id := range edgeagent.Streams() {
			if s := e.streams[id]; s != nil {
				es.Streams = append(es.Streams, s.stats(id, now, e.ended))
			}
		}
		out.Epochs = append(out.Epochs, es)
	}
	return out
}

func (s *stream) stats(id edgeagent.Stream, now time.Time, ended bool) StreamStats {
	out := StreamStats{
		Stream: id, Held: s.held.Count() - s.lost, Ranges: len(s.held), Missing: total(s.unexplained(s.due(ended))),
		Next: s.said.next, Complete: s.complete(), Resent: s.resent + s.again, Conflicts: s.disputes, Seen: s.seen,
	}
	for _, g := range s.said.gaps {
		out.Lost += g.AtMost
	}
	if len(s.held) > 0 {
		out.Top = s.held[len(s.held)-1].To
		out.Newest = time.Unix(0, s.newest)
		out.Lag = now.Sub(out.Newest)
	}
	return out
}

// Gaps returns every hole, with the agent's reason if it has given one, by device,
// epoch and stream. Of what lies below the agent's low only the gaps are listed.
func (h *Hub) Gaps() []Gap {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Gap
	for _, d := range h.sorted() {
		for _, e := range d.epochs {
			for _, id := range edgeagent.Streams() {
				s := e.streams[id]
				if s == nil {
					continue
				}
				for _, g := range s.gaps(e.ended) {
					g.Tenant, g.Device, g.Epoch, g.Stream = d.key.tenant, d.key.device, e.id, id
					out = append(out, g)
				}
			}
		}
	}
	return out
}

// Held returns what the hub holds of one stream.
func (h *Hub) Held(tenant, device string, id edgeagent.Epoch, s edgeagent.Stream) edgeagent.Ranges {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[deviceKey{tenant, device}]
	if d == nil || !s.Valid() {
		return nil
	}
	e := d.find(id)
	if e == nil || e.streams[s] == nil {
		return nil
	}
	return slices.Clone(e.streams[s].held)
}

// Quarantine describes the blocks in quarantine, oldest first.
func (h *Hub) Quarantine() []Quarantined {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.kept.list()
	slices.SortStableFunc(out, func(a, b Quarantined) int { return a.At.Compare(b.At) })
	return out
}
