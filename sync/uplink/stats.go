package uplink

import (
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
)

// State is what an uplink is doing.
type State string

// The states.
const (
	Backoff    State = "backoff"    // no session; the next attempt is at NextRetry
	Connecting State = "connecting" // an attempt is under way
	Up         State = "up"
	Waiting    State = "waiting" // no session: the times of day, the quota or the server do not want one until NextRetry
	Stopped    State = "stopped" // Run has not begun, or has returned, or nothing may be sent: see Health
)

// Stats is what an uplink says of itself. Counts are since it was made.
type Stats struct {
	Name   string
	Link   string // without secrets
	Format string
	Ack    AckLevel

	State     State
	Since     time.Time // of State
	NextRetry time.Time // with Backoff
	LastError string    // why the last session or attempt ended; stays
	ErrorAt   time.Time
	LastUp    time.Time // when the last session became ready
	LastAck   time.Time // when something was last accepted, or acknowledged end to end

	Connects uint64 // sessions that came up
	Failures uint64 // sessions and attempts that ended by themselves

	Sent      Count    // handed to the transport, repetitions included
	Accepted  Count    // acknowledged by the transport
	Confirmed Count    // what the ack level asks for has come
	Resent    Count    // unsent again: lost with a session, refused, or never confirmed
	Lanes     [4]Count // of Sent, by Lane

	InFlight    int     // messages without a result
	InFlightLen int     // their bytes
	Unconfirmed Count   // accepted and not confirmed, now; always 0 with AckTransport
	Window      int     // bytes that may be in flight
	Rate        float64 // bytes a second that the link was measured to carry; 0 = unknown

	// Backlog counts the records of each stream that are held and not confirmed.
	Backlog map[edgeagent.Stream]uint64

	Acks          uint64 // end-to-end acknowledgements taken
	AcksIgnored   uint64 // not for us, not understood, or overtaken by newer ones
	Strays        uint64 // results of messages that were never sent
	ConfirmErrors uint64 // the log did not take an acknowledgement; tried again
	Pauses        uint64 // of lanes, after errors and refusals
	Replays       uint64 // requests for replay taken
	Moved         uint64 // records that got new numbers, because their epoch was put back
	DeadLetters   uint64 // records given up because they are refused whatever is done
	Unheard       uint64 // messages that counted as delivered although nobody is subscribed
	Hints         uint64 // taken from the server

	WireBytes  uint64    // sent and received, or an estimate of it where nobody counts
	QuotaUsed  int64     // bytes of the month
	QuotaLimit int64     // 0 = no quota
	QuotaUntil time.Time // when the month ends; zero before the clock is right
}

// Stats returns the counters and the state.
func (u *Uplink) Stats() Stats {
	u.mu.Lock()
	s := u.stats
	u.mu.Unlock()
	s.Backlog = map[edgeagent.Stream]uint64{}
	for _, stream := range edgeagent.Streams() {
		s.Backlog[stream] = u.log.Cursor(stream).Unconfirmed()
	}
	return s
}

// Health says whether the destination is reached and acknowledges.
func (u *Uplink) Health() edgeagent.Health {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.health
}

// publish makes the machine's state visible. Only Run calls it.
func (u *Uplink) publish() {
	run, wall := u.clock.Run(), u.clock.Wall()
	at := func(t time.Duration) time.Time {
		if t == 0 {
			return time.Time{}
		}
		return wall.Add(t - run)
	}
	s := u.snapshot(at)
	s.Since = wall.Add(u.engine.m.since - run)
	h := u.judge(run)
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &u.engine.m.count
	if n := c.confirms + c.moved + c.deadLetters; n != u.told {
		u.told = n
		for w := range u.waiters {
			select {
			case w <- struct{}{}:
			default:
			}
		}
	}
	h.Since = u.health.Since
	if h.Code != u.health.Code || h.Since.IsZero() {
		h.Since = wall
	}
	u.stats, u.health = s, h
}

func (u *Uplink) snapshot(at func(time.Duration) time.Time) Stats {
	m, c := u.engine.m, &u.engine.m.count
	s := Stats{
		Name: u.cfg.Name, Link: u.transport.String(), Format: u.cfg.Format, Ack: u.cfg.Ack,
		State: m.state(), LastUp: at(m.upAt), ErrorAt: at(m.errAt),
		LastAck:  at(max(c.lastAccepted, c.lastAck)),
		Connects: c.connects, Failures: c.failures,
		Sent: c.sent, Accepted: c.accepted, Confirmed: c.confirmed, Resent: c.resent, Lanes: c.lanes,
		InFlight: m.win.messages, InFlightLen: m.win.bytes, Window: m.win.limit(), Rate: m.win.rate,
		Acks: c.acks, AcksIgnored: c.acksIgnored, Strays: c.strays, ConfirmErrors: c.confirmErrors, Pauses: c.pauses,
		Replays: c.replays, Moved: c.moved, DeadLetters: c.deadLetters, Unheard: c.unheard, Hints: c.hints,
		WireBytes: m.budget.total, QuotaLimit: int64(m.budget.quota.Limit), QuotaUsed: m.budget.quota.used, QuotaUntil: m.budget.quota.to,
	}
	s.Unconfirmed = m.accepted.total()
	if m.phase == backingOff && !m.stopping && m.halted == nil {
		s.NextRetry = at(m.retryAt)
	}
	if s.State == Waiting {
		s.NextRetry = m.budget.wall
	}
	if m.lastErr != nil {
		s.LastError = m.lastErr.Error()
	}
	return s
}

func (m *machine) state() State {
	switch m.phase {
	case connecting:
		return Connecting
	case up:
		return Up
	case backingOff, closing:
	}
	switch {
	case m.stopping || m.halted != nil:
		return Stopped
	case m.budget.onDemand && !m.urgent:
		return Waiting
	}
	return Backoff
}

// judge returns the worst thing that can be said.
func (u *Uplink) judge(now time.Duration) edgeagent.Health {
	m := u.engine.m
	link := u.transport.String()
	lane, paused := m.paused(now)
	switch {
	case m.proof.waiting || m.halted != nil:
		return m.rewindHealth()
	case m.phase != up && m.lastErr != nil && !m.stopping && m.state() != Waiting:
		h := down(link, m.lastErr)
		if h.Hint == "" && m.unstable(now) {
			h.Hint = unstableHint
		}
		return h
	case m.confirms.err != nil:
		return edgeagent.Health{Level: edgeagent.Degraded, Code: "uplink-confirm", Text: "the buffer does not take acknowledgements: " + m.confirms.err.Error()}
	case m.phase == up && m.held():
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "uplink-receiver-silent",
			Text: fmt.Sprintf("%s accepts messages but %s does not acknowledge them: only alarms are sent", link, m.cfg.Receiver),
			Hint: "check that the receiver runs and is named as in destinations[].receiver",
		}
	case paused != nil && m.phase == up:
		return edgeagent.Health{Level: edgeagent.Degraded, Code: "uplink-paused", Text: fmt.Sprintf("lane %s is paused: %v", lane, paused)}
	case m.phase == up && m.unstable(now):
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "uplink-unstable",
			Text: fmt.Sprintf("the last %d sessions with %s ended soon after they began: %v", m.shorts, link, m.lastErr),
			Hint: unstableHint,
		}
	}
	return m.budget.health()
}

// rewindHealth says what became of a rewind of the newest epoch.
func (m *machine) rewindHealth() edgeagent.Health {
	h := edgeagent.Health{
		Level: edgeagent.Failed, Code: "uplink-rewind",
		Text: m.cfg.Receiver + " holds records that this buffer never wrote: the buffer was restored from an old copy; ",
		Hint: `wait for the agent to start again by itself, or run "edgeagent service restart"`,
	}
	if m.halted == nil || m.restarting {
		h.Text += "the agent starts again with a new epoch"
		return h
	}
	h.Text += "a new epoch less than an hour ago did not help, so nothing is sent any more"
	h.Hint = "look for another gateway with the same device.id; then restart the agent"
	return h
}

// Two clients with one id end each other's sessions for ever. The server does not
// say so, and a cloned card or a copied configuration is how it comes about.
const unstableHint = "look for another gateway with the same device.id or destinations[].links[].client_id, then at the broker's log and its access list: some brokers hang up on what they forbid"

// down is the health without a session.
func down(link string, err error) edgeagent.Health {
	h := edgeagent.Health{Level: edgeagent.Degraded, Code: "uplink-down", Text: fmt.Sprintf("not connected to %s: %v", link, err)}
	if _, refused := errors.AsType[*RefusedError](err); refused {
		h.Code = "uplink-refused"
	}
	if hint, ok := errors.AsType[edgeagent.Hinter](err); ok {
		h.Hint = hint.Hint()
	}
	return h
}
