package uplink

import (
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// flight is a message on its way: handed to the session, without a result.
type flight struct {
	id     uint64
	lane   Lane
	head   edgeagent.BatchHeader
	size   int
	cap    int    // bytes it might have had
	series uint32 // ids up to this one are defined in it; 0 = it defines none
	left   []edgeagent.Range
	at     time.Duration
	mark   mark
}

// sent is called when a message was handed to the session. It returns the
// message's id. series is the highest id whose definition is inside, or 0.
func (m *machine) sent(now time.Duration, l Lane, head edgeagent.BatchHeader, size int, series uint32) uint64 {
	must(m.phase == up && m.opened, oneSession)
	must(m.win.messages == 0 || m.win.messages < int(m.win.open), withinWindow)
	must(m.win.messages == 0 || m.win.bytes < m.win.limit(), withinWindow)
	m.nextID++
	f := &flight{
		id: m.nextID, lane: l, head: head, size: size, cap: m.sizes(l).whole, series: series,
		at: now, mark: m.win.sent(now, size),
	}
	m.flights = append(m.flights, f)
	m.epochs[head.Epoch] = true
	m.sentAs.note(head)
	m.count.sent.add(head.Count, size)
	m.count.lanes[l].add(head.Count, size)
	m.payCredit(l, size)
	m.budget.pay(now, l, size)
	if head.Count == 0 {
		m.lanes[l].blocked = series > 0 // the readings behind it wait for its result
		return f.id
	}
	f.left = []edgeagent.Range{head.Range()}
	if l == LaneLive {
		m.live.first = false
		m.live.read(head.Last() + 1)
	}
	return f.id
}

// take removes a message from the flights.
func (m *machine) take(id uint64) *flight {
	for i, f := range m.flights {
		if f.id == id {
			copy(m.flights[i:], m.flights[i+1:])
			m.flights[len(m.flights)-1] = nil
			m.flights = m.flights[:len(m.flights)-1]
			return f
		}
	}
	return nil
}

// result is called with each result of the session.
func (m *machine) result(now time.Duration, r Result) {
	f := m.take(r.ID)
	if f == nil {
		m.count.strays++
		return
	}
	if f.head.Count == 0 {
		m.lanes[f.lane].blocked = false
	}
	if len(m.flights) == 0 {
		m.budget.settle(now)
	}
	if r.Class == NoReceiver && m.cfg.NoSubscriber == AcceptAnyway {
		m.count.unheard++
		r.Class = Accepted
	}
	if r.Class == Accepted {
		m.win.done(now, f.mark, f.size)
		m.acceptedFlight(now, f)
		return
	}
	m.win.gone(f.size)
	m.refused(now, f, r)
}

func (m *machine) acceptedFlight(now time.Duration, f *flight) {
	m.accepts++
	m.largest = max(m.largest, f.size)
	m.lanes[f.lane].pause = 0
	m.count.accepted.add(f.head.Count, f.size)
	m.count.lastAccepted = now
	if f.series > 0 {
		m.series[f.head.Epoch] = max(m.series[f.head.Epoch], f.series)
	}
	if f.head.Count == 0 {
		return
	}
	if len(m.poison.suspects) > 0 {
		m.poison.clear(place{f.head.Epoch, f.head.Stream}, f.head.Range())
	}
	if m.cfg.Ack != AckEndToEnd {
		m.confirm(AckTransport, f.head.Epoch, f.head.Stream, f.head.Range())
		m.count.confirmed.add(f.head.Count, f.size)
		return
	}
	if len(f.left) == 0 {
		m.count.confirmed.add(f.head.Count, f.size)
		return // the receiver was faster than the transport
	}
	if m.rewound[f.head.Epoch] != nil { // nobody will confirm it: it is read again, to be moved
		m.reopen[f.head.Stream] = true
		return
	}
	m.accepted.add(entry{f.head.Epoch, f.head.Stream, f.left, f.head.Count, f.size, now})
}

// refused handles every class but Accepted. The records are unsent again, and what
// differs is when they are tried again. Only what is refused twice for what it is will
// be given up.
func (m *machine) refused(now time.Duration, f *flight, r Result) {
	m.count.refused[r.Class]++
	m.count.resent.add(f.head.Count, f.size)
	if f.head.Count > 0 {
		m.reopen[f.head.Stream] = true
	}
	switch r.Class {
	case Throttled: // the server, not the lane
		m.win.throttled()
		for l := range m.lanes {
			m.pauseLane(now, Lane(l), r.After, r.Err)
		}
	case NoReceiver: // it may come up a moment after us
		m.pauseFrom(now, f.lane, firstUnheard, r.After, r.Err)
	case Poison:
		m.refusedForGood(now, f, r.Err)
	case ConfigError:
		m.denied = r.Err
		m.pauseLane(now, f.lane, longestPause, r.Err)
	case Unknown: // if the session is not over yet, it is of no use
		m.broken = fmt.Errorf("message %d was lost: %w", f.id, or(r.Err, errEnded))
	case Accepted:
	}
}

// outstanding returns what has been sent in a stream and is not known to be confirmed,
// by epoch: a new walk over the backlog leaves it out.
func (m *machine) outstanding(s edgeagent.Stream) map[edgeagent.Epoch]edgeagent.Ranges {
	out := map[edgeagent.Epoch]edgeagent.Ranges{}
	add := func(e edgeagent.Epoch, of edgeagent.Stream, ranges []edgeagent.Range) {
		if of != s {
			return
		}
		rs := out[e]
		for _, r := range ranges {
			rs.Add(r)
		}
		if len(rs) > 0 {
			out[e] = rs
		}
	}
	for _, f := range m.flights {
		add(f.head.Epoch, f.head.Stream, f.left)
	}
	for _, e := range m.accepted.entries {
		add(e.epoch, e.stream, e.left)
	}
	for k, rs := range m.confirms.due {
		add(k.epoch, k.stream, rs)
	}
	return out
}

// confirm queues ranges for the log.
func (m *machine) confirm(because AckLevel, e edgeagent.Epoch, s edgeagent.Stream, ranges ...edgeagent.Range) {
	must((because == AckEndToEnd) == (m.cfg.Ack == AckEndToEnd), onlyConfirmAllowed)
	m.confirms.add(e, s, ranges)
}

// confirms is what the log has still to be told. Ranges of one stream are merged,
// so it stays small even when the log refuses for long.
type confirms struct {
	due   map[place]edgeagent.Ranges
	pause time.Duration // after a refusal by the log
	until time.Duration
	err   error
}

type place struct {
	epoch  edgeagent.Epoch
	stream edgeagent.Stream
}

func (c *confirms) add(e edgeagent.Epoch, s edgeagent.Stream, ranges []edgeagent.Range) {
	if c.due == nil {
		c.due = map[place]edgeagent.Ranges{}
	}
	rs := c.due[place{e, s}]
	for _, r := range ranges {
		rs.Add(r)
	}
	if len(rs) > 0 {
		c.due[place{e, s}] = rs
	}
}

func (c *confirms) next(now time.Duration) (action, bool) {
	if now < c.until {
		return action{}, false
	}
	for p, rs := range c.due {
		return action{kind: actConfirm, epoch: p.epoch, stream: p.stream, ranges: rs}, true
	}
	return action{}, false
}

func (c *confirms) retryAt() time.Duration {
	if len(c.due) == 0 {
		return never
	}
	return c.until
}

// confirmed is called when the log has taken an actConfirm.
func (m *machine) confirmed(a action) {
	delete(m.confirms.due, place{a.epoch, a.stream})
	m.count.confirms++
	m.confirms.pause, m.confirms.until, m.confirms.err = 0, 0, nil
}

// confirmFailed is called when the log could not: it is asked again later.
func (m *machine) confirmFailed(now time.Duration, err error) {
	c := &m.confirms
	c.pause = min(max(2*c.pause, time.Second), time.Minute)
	c.until, c.err = now+c.pause, err
	m.count.confirmErrors++
}
