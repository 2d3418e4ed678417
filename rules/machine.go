package rules

import (
	"fmt"
	"math"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// Phase is where an instance of a rule stands.
type Phase uint8

// The phases. Unknown is shown in place of Idle while the condition is unknown;
// the other phases are kept through it.
const (
	Idle Phase = iota
	Pending
	Firing
	Clearing
	Unknown
)

var phaseNames = [...]string{"idle", "pending", "firing", "clearing", "unknown"}

// String returns the name used by status and the API.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// MarshalText writes the name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the name.
func (p *Phase) UnmarshalText(text []byte) error {
	for i, name := range phaseNames {
		if string(text) == name {
			*p = Phase(i)
			return nil
		}
	}
	return fmt.Errorf("unknown state %q, want idle, pending, firing, clearing or unknown", text)
}

// never is later than any time.
const never = math.MaxInt64

// transition is what a step of a machine raised.
type transition uint8

const (
	noTransition transition = iota
	fired
	escalated
	cleared
)

// timing holds a rule's durations in nanoseconds.
type timing struct {
	hold, clearHold int64
	cooldown        int64 // from one firing to the next, at least
	escalate        int64 // from firing to escalation; 0: none
	gap             Gap
}

// machine is the state of one instance over time. All times are rules times in
// nanoseconds. The zero machine is idle.
type machine struct {
	phase     Phase // never Unknown
	counting  bool  // held grows from since
	blind     bool  // the condition is unknown; nothing fires or clears meanwhile
	escalated bool
	fired     bool  // firedAt is set
	since     int64 // may lie ahead: see resume
	held      int64
	onset     int64 // when the condition became true
	firedAt   int64 // when it fired last
}

// step takes the values of the two conditions as they are from now on. now never
// goes back, and the caller steps at each deadline on its way (with the values
// unchanged): a condition that ends at the very instant of its deadline has not
// held long enough.
func (m *machine) step(t timing, when, clear expression.Truth, now int64) transition {
	if m.counting && now > m.since {
		m.held += now - m.since
		m.since = now
	}
	if when == expression.True {
		clear = expression.False // or the alarm would clear and fire for ever
	}
	switch m.phase {
	case Idle:
		if when == expression.True {
			m.enter(Pending, now)
			m.onset = now
		}
	case Pending:
		m.follow(t.gap, when, Idle, now)
	case Firing:
		if clear == expression.True {
			m.enter(Clearing, now)
		}
	case Clearing:
		m.follow(t.gap, clear, Firing, now)
	}
	ready := m.counting && !m.blind
	switch {
	case m.phase == Pending && ready && m.held >= t.hold && now >= m.cool(t):
		m.leave(Firing)
		m.fired, m.firedAt, m.escalated = true, now, false
		return fired
	case m.phase == Clearing && ready && m.held >= t.clearHold:
		m.leave(Idle)
		return cleared
	case m.escalates(t) <= now:
		m.escalated = true
		return escalated
	}
	return noTransition
}

// enter begins a phase that takes time.
func (m *machine) enter(p Phase, now int64) {
	m.phase, m.counting, m.blind, m.since, m.held = p, true, false, now, 0
}

// leave begins a phase that takes none.
func (m *machine) leave(p Phase) {
	m.phase, m.counting, m.blind = p, false, false
}

// follow goes on counting while cond is true, does what gap says while it is
// unknown and goes back when it is false.
func (m *machine) follow(gap Gap, cond expression.Truth, back Phase, now int64) {
	switch {
	case cond == expression.False || cond == expression.Unknown && gap == Reset:
		m.leave(back)
	case cond == expression.Unknown:
		m.counting, m.blind = m.counting && gap == Count, true
	default:
		m.counting, m.blind, m.since = true, false, max(m.since, now)
	}
}

// cool is when the cooldown ends.
func (m *machine) cool(t timing) int64 {
	if !m.fired || t.cooldown == 0 {
		return math.MinInt64
	}
	return m.firedAt + t.cooldown
}

// escalates is when the alarm escalates, or never.
func (m *machine) escalates(t timing) int64 {
	if t.escalate == 0 || m.escalated || m.phase != Firing && m.phase != Clearing {
		return never
	}
	return m.firedAt + t.escalate
}

// deadline returns when the machine moves by itself, or never.
func (m *machine) deadline(t timing) int64 {
	due := m.escalates(t)
	if !m.counting || m.blind {
		return due
	}
	if m.phase == Clearing {
		return min(due, m.since+t.clearHold-m.held)
	}
	return min(due, max(m.since+t.hold-m.held, m.cool(t)))
}

// resume takes a time into account in which the agent was down. It ends at now; the
// steps that follow may come from before that, and count nothing.
func (m *machine) resume(gap Gap, down, now int64) {
	if !m.counting || down <= 0 {
		return
	}
	switch gap {
	case Hold:
		m.held += now - down - m.since
		m.since = now
	case Reset:
		m.since, m.held = now, 0
	}
}
