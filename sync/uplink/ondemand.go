package uplink

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

const (
	// idleLimit is how long a session that is there on demand waits for the receiver's
	// word, or for a lane that is held up.
	idleLimit = 30 * time.Second
	// parkedRetry is the wait before a link is opened again for what could not be sent.
	parkedRetry = time.Minute
	// eventsEvery is how often events alone open a link that is there on demand: logging
	// in costs as much as a hundred of them.
	eventsEvery = 15 * time.Minute
)

var errNoReasons = Refused("no reason codes on this link, but ack is reason",
	"use a server and links[].protocol with MQTT 5, or ack: transport")

// idleOnDemand reports whether a session that is there on demand has done what it is
// for.
func (m *machine) idleOnDemand(now time.Duration) bool {
	return m.budget.onDemand && !m.stopping && now >= m.idleAt(now)
}

// idleAt returns when a session on demand is over if nothing happens.
func (m *machine) idleAt(now time.Duration) time.Duration {
	if len(m.flights) > 0 || !m.opened {
		return never
	}
	last := max(m.upAt, m.count.lastAccepted, m.count.lastAck)
	if m.may(LaneAlarm, now) || m.may(LaneEvent, now) || m.awaited() || m.heldUp(now) {
		return last + idleLimit
	}
	return last
}

// awaited reports whether the receiver's word for an alarm or event is waited for.
func (m *machine) awaited() bool {
	for _, e := range m.accepted.entries {
		if e.stream == edgeagent.StreamAlarm || e.stream == edgeagent.StreamEvent {
			return true
		}
	}
	return m.marks.waiting
}

// heldUp reports whether a lane that may send waits for something.
func (m *machine) heldUp(now time.Duration) bool {
	for l := range m.lanes {
		x := &m.lanes[l]
		if m.budget.lanes[l] && x.ready && (x.blocked || now < x.until || !m.budget.affords(Lane(l), now)) {
			return true
		}
	}
	return false
}

// park is called when a session has ended because there was nothing that it might
// send.
func (m *machine) park(now time.Duration) {
	m.revertFlights()
	m.isUp, m.opened, m.parked, m.shorts = false, false, false, 0
	m.enter(backingOff, now)
	wait := m.back.Base
	if m.left() {
		wait = parkedRetry
	}
	m.retryAt = now + wait
}

// left reports whether alarms or events were ready that did not go.
func (m *machine) left() bool {
	for _, l := range []Lane{LaneAlarm, LaneEvent} {
		if m.lanes[l].ready && m.budget.lanes[l] {
			return true
		}
	}
	return false
}

// budgetDue returns when the budget lets something go, or must be looked at again.
func (m *machine) budgetDue(now time.Duration) time.Duration {
	t := m.budget.until
	if m.budget.onDemand {
		t = min(t, m.idleAt(now))
	}
	for l := range m.lanes {
		if at, wait := m.budget.affordsAt(Lane(l), now); wait && m.lanes[l].ready {
			t = min(t, at)
		}
	}
	return t
}

// calendar looks at what may be sent now, and whether the link is wanted.
func (e *engine) calendar(now time.Duration) {
	m := e.m
	if e.wire != nil {
		m.budget.seen(now, e.wire())
	}
	e.release(now)
	if now >= m.budget.until {
		was := m.budget.onDemand
		m.budget.look(now, e.clock.Wall(), e.clock.Synced())
		if was && !m.budget.onDemand && m.phase == backingOff { // not everybody at once
			m.retryAt = max(m.retryAt, now+m.back.spread())
		}
	}
	m.urgent = m.budget.onDemand && m.phase == backingOff && e.wanted(now)
}

// wanted reports whether something is unsent that may open the link.
func (e *engine) wanted(now time.Duration) bool {
	m := e.m
	for _, s := range []edgeagent.Stream{edgeagent.StreamAlarm, edgeagent.StreamEvent} {
		if !m.budget.lanes[laneOf(s)] || s == edgeagent.StreamEvent && m.upAt > 0 && now < m.upAt+eventsEvery {
			continue
		}
		accepted := uint64(0)
		for _, x := range m.accepted.entries {
			if x.stream != s {
				continue
			}
			if now >= x.at+m.accepted.timeout {
				return true
			}
			accepted += uint64(x.records)
		}
		if e.f.sources[s].cursor.Unconfirmed() > accepted {
			return true
		}
	}
	return false
}

// remember saves what must outlive the process.
func (e *engine) remember(exact bool) {
	q := &e.m.budget.quota
	data, ceiling, err := q.data(exact)
	if err == nil && e.memory != nil {
		err = e.memory.Save(data)
	}
	q.err = err
	if err != nil {
		q.retryAt = e.clock.Run() + parkedRetry
		e.slog.Warn("the quota's state is not saved", "error", err)
		return
	}
	q.saved, q.again = ceiling, false
}

// restore takes up what an earlier process saved.
func (e *engine) restore() {
	if e.memory == nil || !e.m.budget.quota.bounded() {
		return
	}
	data, err := e.memory.Load()
	if err == nil {
		err = e.m.budget.quota.restore(data)
	}
	if err != nil {
		e.slog.Warn("what was used of the quota before is not known", "error", err)
	}
}

// finish is called once, at the end.
func (e *engine) finish() {
	if e.wire != nil {
		e.m.budget.seen(e.clock.Run(), e.wire())
	}
	if e.m.budget.quota.bounded() {
		e.remember(true)
	}
}

// hint takes what the server asks for.
func (e *engine) hint(payload []byte) {
	h, err := parseHint(payload)
	if err != nil {
		e.m.count.hintsIgnored++
		e.slog.Warn("server's hint is not understood", "error", err)
		return
	}
	e.m.count.hints++
	e.m.budget.take(e.clock.Run(), e.clock.Wall(), h)
	e.m.back.hinted = e.m.budget.hint.spread()
	e.slog.Info("server asks for patience", "reconnect_spread", e.m.back.hinted, "max_rate", int(h.MaxRate), "pause_until", h.PauseUntil)
}

// holdEvery is how often it is asked whether records whose times are not right must
// still wait.
const holdEvery = time.Second

// hold makes a lane wait until the times of its records are right.
func (m *machine) hold(now time.Duration, l Lane, h edgeagent.BatchHeader) {
	m.lanes[l].held, m.lanes[l].waits = true, h
	m.holdAt = now + holdEvery
}

// holding reports whether a lane waits for that.
func (m *machine) holding() bool {
	for l := range m.lanes {
		if m.lanes[l].held {
			return true
		}
	}
	return false
}

// release lets lanes go on: what was read bears the old times, so it is read again.
func (e *engine) release(now time.Duration) {
	m := e.m
	if now < m.holdAt || !m.opened || !m.holding() {
		return
	}
	m.holdAt = now + holdEvery
	for l := range m.lanes {
		if x := &m.lanes[l]; x.held && !e.hold(x.waits) {
			m.newEpoch()
			return
		}
	}
}
