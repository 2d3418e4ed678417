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

// never is later than any run time.
const never = math.MaxInt64

// transition is what a step of a machine raised.
type transition uint8

const (
	noTransition transition = iota
	fired
	cleared
)

// timing holds a rule's durations in nanoseconds.
type timing struct{ hold, clearHold int64 }

// machine is the state of one instance over time. All times are run times in
// nanoseconds. The zero machine is idle.
type machine struct {
	phase    Phase // never Unknown
	counting bool  // the condition holds, so that held grows from since
	since    int64
	held     int64
	onset    int64 // when the condition became true
}

// step takes the values of the two conditions as they are from now on. now never
// goes back, and the caller steps at each deadline on its way (with the values
// unchanged): a condition that ends at the very instant of its deadline has not
// held long enough.
func (m *machine) step(t timing, when, clear expression.Truth, now int64) transition {
	if m.counting {
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
		m.follow(when, Idle, now)
	case Firing:
		if clear == expression.True {
			m.enter(Clearing, now)
		}
	case Clearing:
		m.follow(clear, Firing, now)
	}
	switch {
	case m.phase == Pending && m.counting && m.held >= t.hold:
		m.leave(Firing)
		return fired
	case m.phase == Clearing && m.counting && m.held >= t.clearHold:
		m.leave(Idle)
		return cleared
	}
	return noTransition
}

// enter begins a phase that takes time.
func (m *machine) enter(p Phase, now int64) {
	m.phase, m.counting, m.since, m.held = p, true, now, 0
}

// leave begins a phase that takes none.
func (m *machine) leave(p Phase) {
	m.phase, m.counting = p, false
}

// follow goes on counting while cond is true, waits while it is unknown and goes
// back when it is false.
func (m *machine) follow(cond expression.Truth, back Phase, now int64) {
	switch cond {
	case expression.False:
		m.leave(back)
	case expression.Unknown:
		m.counting = false
	case expression.True:
		m.counting, m.since = true, now
	}
}

// deadline returns when the machine moves by itself, or never.
func (m *machine) deadline(t timing) int64 {
	if !m.counting {
		return never
	}
	if m.phase == Clearing {
		return m.since + t.clearHold - m.held
	}
	return m.since + t.hold - m.held
}
