package uplink

import (
	"errors"
	"time"

	"github.com/edgeagent/edgeagent"
)

// liveBurst is the number of waiting readings that do not linger: they make a good
// block already.
const liveBurst = 4096

// laneOf returns the lane of a stream's newest records.
func laneOf(s edgeagent.Stream) Lane {
	switch s {
	case edgeagent.StreamAlarm:
		return LaneAlarm
	case edgeagent.StreamEvent:
		return LaneEvent
	case edgeagent.StreamTelemetry:
		return LaneLive
	}
	return LaneBacklog
}

// backlogLane returns the lane of a stream's older records.
func backlogLane(s edgeagent.Stream) Lane {
	if s == edgeagent.StreamTelemetry {
		return LaneBacklog
	}
	return laneOf(s)
}

// pick returns the lane that may send now: alarms and events first, then live
// before backlog, but backlog keeps its floor.
func (m *machine) pick(now time.Duration) (Lane, bool) {
	if !m.win.room() || m.silent(now) || m.proof.waiting {
		return 0, false
	}
	if m.may(LaneAlarm, now) && !m.overfull() {
		return LaneAlarm, true
	}
	if m.held() {
		return 0, false
	}
	if m.may(LaneEvent, now) {
		return LaneEvent, true
	}
	if m.stopping {
		return 0, false
	}
	isLive, isBacklog := m.live.draining && m.may(LaneLive, now), m.may(LaneBacklog, now)
	switch {
	case isBacklog && (!isLive || m.credit > 0):
		return LaneBacklog, true
	case isLive:
		return LaneLive, true
	}
	return 0, false
}

// may reports whether a lane has something to send and is not held up.
func (m *machine) may(l Lane, now time.Duration) bool {
	x := &m.lanes[l]
	if l == LaneLive {
		x.ready = m.live.waiting()
	}
	return x.ready && !x.blocked && !x.held && now >= x.until && m.budget.affords(l, now)
}

// held reports whether so much is accepted and not confirmed that only alarms go
// on.
func (m *machine) held() bool {
	return m.cfg.Ack == AckEndToEnd && m.accepted.holds(m.win, 1)
}

// overfull is the bound at which alarms stop too.
func (m *machine) overfull() bool {
	return m.cfg.Ack == AckEndToEnd && m.accepted.holds(m.win, 2)
}

// payCredit accounts a message of live or backlog.
func (m *machine) payCredit(l Lane, size int) {
	switch l {
	case LaneLive:
		if m.lanes[LaneBacklog].ready {
			m.credit += (size*m.cfg.BacklogShare + 99 - m.cfg.BacklogShare) / (100 - m.cfg.BacklogShare)
			m.credit = min(m.credit, maxMessage) // a lane that is paused saves nothing
		}
	case LaneBacklog:
		m.credit = max(m.credit-size, -maxMessage)
		if !m.live.draining {
			m.credit = 0 // nobody gave way
		}
	case LaneAlarm, LaneEvent:
	}
}

// readersOpen is called when readers are in place. Live starts at from; head is the
// number that the next reading will get.
func (m *machine) readersOpen(now time.Duration, from, head edgeagent.Seq) {
	m.opened, m.credit, m.reopen = true, 0, [5]bool{}
	m.firstMarks(now)
	first := m.live.first
	for i := range m.lanes {
		m.lanes[i].ready, m.lanes[i].blocked, m.lanes[i].held = true, false, false
	}
	m.live = live{first: first || m.nextID == 0, pos: from, head: from}
	m.appended(now, edgeagent.StreamTelemetry, head)
}

// appended is called when a stream's newest number has risen.
func (m *machine) appended(now time.Duration, s edgeagent.Stream, head edgeagent.Seq) {
	if s == edgeagent.StreamTelemetry {
		m.live.appended(now, head)
		return
	}
	m.lanes[laneOf(s)].ready = true
}

// hurry makes live readings go without linger, once.
func (m *machine) hurry(now time.Duration) { m.live.drain(now) }

// raised is called after actRaise: live goes on at from. What waits there may be half
// a window old.
func (m *machine) raised(now time.Duration, from, head edgeagent.Seq) {
	must(from >= m.live.pos, "live only moves forward")
	m.live = live{pos: from, head: from}
	m.live.appended(now, head)
	m.live.since -= m.cfg.LiveWindow / 2
	m.lanes[LaneBacklog].ready = true
}

// newEpoch is called when the log has begun another epoch: all readers are made
// anew.
func (m *machine) newEpoch() { m.opened = false }

// empty is called when a lane had nothing to read.
func (m *machine) empty(l Lane) {
	m.lanes[l].ready = false
	if l == LaneLive {
		m.live.read(m.live.head)
	}
	if l == LaneBacklog {
		m.credit = 0
		m.replay.open = false
	}
}

// failed is called when reading or encoding for a lane failed. The lane waits, the
// others go on.
func (m *machine) failed(now time.Duration, l Lane, err error) {
	m.pauseLane(now, l, 0, err)
}

// pauseLane stops a lane for a while: for as long as the server says, or for a time
// that doubles.
func (m *machine) pauseLane(now time.Duration, l Lane, wanted time.Duration, err error) {
	m.pauseFrom(now, l, firstPause, wanted, err)
}

// pauseFrom is pauseLane with another first pause.
func (m *machine) pauseFrom(now time.Duration, l Lane, first, wanted time.Duration, err error) {
	x := &m.lanes[l]
	x.pause = min(max(2*x.pause, first), longestPause)
	x.until, x.err = now+max(x.pause, min(wanted, time.Hour)), err
	m.count.pauses++
}

var errLane = errors.New("lane is paused")

// paused returns why the highest lane that is paused for longer is so, or nil.
func (m *machine) paused(now time.Duration) (Lane, error) {
	for i, l := range m.lanes {
		if l.until > now && l.pause >= firstPause {
			return Lane(i), or(l.err, errLane)
		}
	}
	return 0, nil
}

// live follows the newest readings: how far they were read, and how long the oldest
// unsent one has waited.
type live struct {
	pos   edgeagent.Seq // the next number to read
	head  edgeagent.Seq // the next number to be appended, as last seen
	first bool          // no live message was sent in this session: no linger

	since    time.Duration // when the oldest unsent reading was seen
	draining bool          // sending up to target
	target   edgeagent.Seq
	beyond   time.Duration // when the oldest reading at or above target was seen
}

func (v *live) waiting() bool { return v.head > v.pos }

func (v *live) appended(now time.Duration, head edgeagent.Seq) {
	if head <= v.head {
		return
	}
	switch {
	case !v.waiting():
		v.since = now
	case v.draining && v.head <= v.target:
		v.beyond = now
	}
	v.head = head
	if v.first || head-v.pos >= liveBurst {
		v.drain(now)
	}
}

// drain makes everything that waits go.
func (v *live) drain(now time.Duration) {
	if v.waiting() && !v.draining {
		v.draining, v.target, v.beyond = true, v.head, now
	}
}

// tick starts draining when linger is over.
func (v *live) tick(now, linger time.Duration) {
	if v.waiting() && now >= v.since+linger {
		v.drain(now)
	}
}

// read says that everything below next was read.
func (v *live) read(next edgeagent.Seq) {
	v.pos = max(v.pos, next)
	if v.draining && v.pos >= v.target {
		v.draining, v.since = false, v.beyond
	}
}

// dueAt returns when linger is over.
func (v *live) dueAt(linger time.Duration) time.Duration {
	if !v.waiting() || v.draining {
		return never
	}
	return v.since + linger
}

// late reports whether the oldest unsent reading has waited for longer than live
// readings may.
func (v *live) late(now, window time.Duration) bool { return now >= v.lateAt(window) }

func (v *live) lateAt(window time.Duration) time.Duration {
	if !v.waiting() {
		return never
	}
	return v.since + window
}
