package rules

import (
	"time"

	"github.com/edgeagent/edgeagent/rules/expression"
)

// Part is a part of a condition and what it came to.
type Part = expression.Part

// Explanation says why an instance is where it is.
type Explanation struct {
	State
	When  []Part // the condition and its parts, the whole first
	Clear []Part // nil where clear is "not when"
	// Held is how long the condition of Pending or Clearing has held, and Needs
	// how long it must.
	Held, Needs time.Duration
	// Next is the run time at which something happens without a reading; ok is
	// false when nothing will.
	Next   time.Duration
	NextOK bool
}

// Explain returns the explanation of every instance of a rule as of the last
// reading or tick, in order of their names; ok is false if there is no such rule.
func (e *Engine) Explain(id string) (out []Explanation, ok bool) {
	for _, r := range e.rules {
		ok = ok || r.id == id
	}
	for _, s := range e.States() {
		if s.Rule != id {
			continue
		}
		in := e.ruleOf(id).instances[s.Instance]
		e.compute(in)
		x := Explanation{State: s, When: in.rule.when.Explain(in.values)}
		if in.rule.clear != nil {
			x.Clear = in.rule.clear.Explain(in.values)
		}
		if m := in.machine; m.phase == Pending || m.phase == Clearing {
			held, needs := m.held, in.rule.timing.hold
			if m.counting {
				held += e.now - m.since
			}
			if m.phase == Clearing {
				needs = in.rule.timing.clearHold
			}
			x.Held, x.Needs = time.Duration(held), time.Duration(needs)
		}
		if x.NextOK = in.next != never; x.NextOK {
			x.Next = time.Duration(in.next - e.base)
		}
		out = append(out, x)
	}
	return out, ok
}

func (e *Engine) ruleOf(id string) *rule {
	for _, r := range e.rules {
		if r.id == id {
			return r
		}
	}
	return nil
}

// Rules returns the ids of the rules that the files hold, in order, without the
// checks that series with facts have by themselves.
func (e *Engine) Rules() []string {
	ids := make([]string, 0, len(e.rules))
	for _, r := range e.rules {
		if !r.builtin {
			ids = append(ids, r.id)
		}
	}
	return ids
}
