package rules

import (
	"time"

	"github.com/edgeagent/edgeagent"
)

// NextTimer returns the run time at which Tick has to be called next, readings or
// not. It may be early, and it may have passed. ok is false when there is no timer.
func (e *Engine) NextTimer() (run time.Duration, ok bool) {
	if !e.started || len(e.orphans) > 0 || len(e.missing) > 0 || e.resumed {
		return time.Duration(e.now - e.base), true
	}
	next := e.nextDue(never - 1)
	if next == never {
		return 0, false
	}
	return time.Duration(next - e.base), true
}

// nextDue returns when something is due next; what is beyond limit may be early.
func (e *Engine) nextDue(limit int64) int64 {
	next := e.timers.next(limit)
	for _, p := range e.pins {
		next = min(next, p.due())
	}
	return next
}

// expire handles every timer up to and including limit, in order of time, those
// of one time in order of the instances' creation, pins last. st is the time of
// what led here.
func (e *Engine) expire(dst []edgeagent.Event, limit int64, st stamp) []edgeagent.Event {
	for again := 0; ; {
		next := e.nextDue(limit)
		if next == never || next > limit || !e.started {
			return dst
		}
		if again++; next > e.now {
			again = 0
		}
		e.now = max(e.now, next)
		if again > 8*(len(e.instances)+len(e.pins)) && len(e.timers) > 0 {
			// Whatever is due at one moment is done long before: a timer that is
			// due for ever must not stop the readings.
			e.unstick()
			again = 0
			continue
		}
		if e.timers.next(limit) > next {
			e.movePins(st)
			continue
		}
		in := e.timers[0]
		due := e.timerStamp(in, e.now, st)
		// What held up to now has held: stale values come after.
		dst = e.step(dst, in, due)
		in.age(e.now)
		dst = e.evaluate(dst, in, due)
		dst = e.drain(dst, due)
	}
}

// unstick puts off what is due now.
func (e *Engine) unstick() {
	e.stats.Stuck++
	if in := e.timers[0]; in.next <= e.now {
		in.next = e.now + int64(time.Second)
		e.timers.fix(in)
	}
	for _, p := range e.pins {
		if p.due() <= e.now {
			p.offAt, p.wanted, p.known = never, p.high, true
		}
	}
}

// movePins drives the pins whose time has come.
func (e *Engine) movePins(st stamp) {
	for _, p := range e.pins {
		if p.due() <= e.now {
			at := edgeagent.Instant{Wall: st.at.Wall + e.now - e.base - st.at.Run, Run: e.now - e.base}
			e.movePin(p.name, Effect{At: at})
		}
	}
}

// timerStamp dates a timer of an instance that ran out at rules time at. Wall time
// comes from the instance's own readings where their source dates them, since the
// machine's clock is not theirs; else from st. What ran out before this run began
// is dated at its beginning.
func (e *Engine) timerStamp(in *instance, at int64, st stamp) stamp {
	if in.last.recorded || st.recorded && in.last != (stamp{}) {
		st = in.last
	}
	run := max(0, at-e.base)
	st.at = edgeagent.Instant{Wall: st.at.Wall + run - st.at.Run, Run: run}
	return st
}
