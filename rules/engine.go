package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Bounds of an engine at work.
const (
	MaxInstances = 1000 // of all rules together; a series over it gets none and is counted
	// maxCached bounds the series whose rules are remembered; over it the memory
	// is emptied and fills again. It is above what a buffer accepts per epoch.
	maxCached = 16 << 10
	// maxInstanceName bounds the text of a star, in bytes.
	maxInstanceName = 128
)

// How old readings of a sensor with a known interval may be.
const (
	staleIntervals = 3
	minStale       = 3 * time.Second
)

// Engine evaluates rules. Make one with [Compile]. It is not safe for concurrent
// use.
type Engine struct {
	rules     []*rule
	run       edgeagent.Run
	intervals map[string]time.Duration

	instances []*instance // in order of creation
	exact     map[string][]target
	starred   []target
	cache     map[edgeagent.Series][]watcher

	started bool
	now     int64  // run time; never goes back
	next    int64  // no timer of any instance is due earlier; may be too early
	group   uint64 // counts groups of readings
	touched []*instance
	orphans []orphan // alarms to clear at the next step

	stats Stats
}

// target is an input that a series may feed.
type target struct {
	rule *rule
	slot int32
}

// watcher is an input of an instance that a series feeds.
type watcher struct {
	instance *instance
	slot     int32
}

func newEngine(rs []*rule) *Engine {
	e := &Engine{
		rules: rs,
		exact: map[string][]target{},
		cache: map[edgeagent.Series][]watcher{},
		next:  never,
	}
	for _, r := range rs {
		for i, in := range r.inputs {
			t := target{r, int32(i)}
			if in.pattern.star {
				e.starred = append(e.starred, t)
			} else {
				e.exact[in.pattern.prefix] = append(e.exact[in.pattern.prefix], t)
			}
		}
		switch {
		case !r.starred:
			e.instance(r, onlyInstance)
		case r.plain:
			r.shared = newInstance(r, "")
			r.shared.setIntervals(nil)
		}
	}
	return e
}

// SetRun sets the run that the ids of alarms begin with; 0 without it. Call it
// before the first Eval or Tick.
func (e *Engine) SetRun(run edgeagent.Run) { e.run = run }

// SetIntervals tells the engine how often sensors are sampled, by sensor name, so
// that readings of a silent sensor become unknown (see Rule.StaleAfter). Call it
// before the first Eval or Tick.
func (e *Engine) SetIntervals(intervals map[string]time.Duration) {
	e.intervals = intervals
	for _, r := range e.rules {
		if r.shared != nil {
			r.shared.setIntervals(intervals)
		}
	}
	for _, in := range e.instances {
		in.setIntervals(intervals)
	}
}

// Eval takes readings in the order of their arrival and appends the alarm events
// they give to dst. It allocates nothing but events and, once per series, memory.
func (e *Engine) Eval(dst []edgeagent.Event, rs []edgeagent.Reading) []edgeagent.Event {
	for len(rs) > 0 {
		n := 0
		dst, n = e.take(dst, rs)
		rs = rs[n:]
	}
	return dst
}

// take moves the timers to before the first reading, sets the values of all
// readings of its instant, one per series, and evaluates the instances they touch.
func (e *Engine) take(dst []edgeagent.Event, rs []edgeagent.Reading) (_ []edgeagent.Event, n int) {
	first := stamp{rs[0].At, rs[0].Recorded}
	now := max(e.now, first.at.Run)
	if !e.started {
		e.now = now
	}
	dst = e.expire(dst, now-1, first)
	e.now = now
	e.group++
	e.touched = e.touched[:0]
	for n < len(rs) && rs[n].At.Run == first.at.Run && e.apply(&rs[n]) {
		n++
	}
	e.stats.Readings += uint64(n)
	if !e.started {
		return e.start(dst, first), n
	}
	return e.evaluateTouched(dst), n
}

// apply sets what a reading feeds. It refuses a second reading of a series in one
// group, which would hide the first from the rules.
func (e *Engine) apply(r *edgeagent.Reading) bool {
	ws, known := e.cache[r.Series]
	if !known {
		ws = e.resolve(r.Series)
	}
	for _, w := range ws {
		if w.instance.slots[w.slot].group == e.group {
			return false
		}
	}
	for _, w := range ws {
		in := w.instance
		in.slots[w.slot].group = e.group
		in.set(w.slot, r, e.now)
		in.last = stamp{r.At, r.Recorded}
		if in.group != e.group && in != in.rule.shared {
			in.group = e.group
			e.touched = append(e.touched, in)
		}
	}
	return true
}

// start evaluates every instance for the first time, so that a rule about a
// sensor that never speaks has a beginning, and clears what has no rule.
func (e *Engine) start(dst []edgeagent.Event, st stamp) []edgeagent.Event {
	e.started = true
	dst = e.clearOrphans(dst, st)
	dst = e.evaluateTouched(dst)
	for _, in := range e.instances {
		if in.group != e.group {
			dst = e.evaluate(dst, in, st)
		}
	}
	return dst
}

// evaluateTouched evaluates the instances that the last group of readings feeds.
func (e *Engine) evaluateTouched(dst []edgeagent.Event) []edgeagent.Event {
	for _, in := range e.touched {
		dst = e.evaluate(dst, in, in.last)
	}
	return dst
}

// evaluate computes an instance's conditions and moves it to now.
func (e *Engine) evaluate(dst []edgeagent.Event, in *instance, st stamp) []edgeagent.Event {
	e.stats.Evaluations++
	in.evaluate()
	return e.step(dst, in, st)
}

// step moves an instance to now and appends the alarm it gives.
func (e *Engine) step(dst []edgeagent.Event, in *instance, st stamp) []edgeagent.Event {
	t := in.step(e.now, st.at)
	e.next = min(e.next, in.next)
	switch t {
	case fired:
		in.lastOnset = max(in.machine.onset/int64(time.Millisecond), in.lastOnset+1)
		in.id = fmt.Sprintf("%s/%s/%s-%d", in.rule.id, in.name, e.run, in.lastOnset)
		in.n, in.severity = 1, in.rule.severity
		dst = append(dst, in.event(edgeagent.AlarmFiring, st))
	case cleared:
		in.n++
		dst = append(dst, in.event(edgeagent.AlarmCleared, st))
	default:
		return dst
	}
	e.stats.Transitions++
	return dst
}

// Tick moves the timers to now and appends the alarm events that gives to dst. It
// need not be called at all while readings come, and may come late.
func (e *Engine) Tick(dst []edgeagent.Event, now edgeagent.Instant) []edgeagent.Event {
	st := stamp{at: now}
	e.group, e.touched = e.group+1, e.touched[:0]
	if !e.started {
		e.now = max(e.now, now.Run)
		return e.start(dst, st)
	}
	dst = e.clearOrphans(dst, st)
	dst = e.expire(dst, now.Run, st)
	e.now = max(e.now, now.Run)
	return dst
}

// NextTimer returns the run time at which Tick has to be called next, readings or
// not. It may be early, and it may have passed. ok is false when there is no timer.
func (e *Engine) NextTimer() (run time.Duration, ok bool) {
	if !e.started || len(e.orphans) > 0 {
		return time.Duration(e.now), true
	}
	return time.Duration(e.next), e.next != never
}

// expire handles every timer up to and including limit, in order of time, those
// of one time in order of the instances' creation. st is the time of what led
// here.
func (e *Engine) expire(dst []edgeagent.Event, limit int64, st stamp) []edgeagent.Event {
	for e.next <= limit {
		in := e.earliest()
		if in == nil || in.next > limit {
			break
		}
		e.now = max(e.now, in.next)
		due := timerStamp(in, e.now, st)
		// What held up to now has held: stale values come after.
		dst = e.step(dst, in, due)
		in.age(e.now)
		dst = e.evaluate(dst, in, due)
	}
	return dst
}

// earliest returns the instance with the earliest timer, and sets e.next to it.
func (e *Engine) earliest() *instance {
	var found *instance
	e.next = never
	for _, in := range e.instances {
		if in.next < e.next {
			found, e.next = in, in.next
		}
	}
	return found
}

// timerStamp dates a timer of an instance that ran out at run. Wall time comes
// from the instance's own readings where their source dates them, since the
// machine's clock is not theirs; else from st.
func timerStamp(in *instance, run int64, st stamp) stamp {
	if in.last.recorded || st.recorded && in.last != (stamp{}) {
		st = in.last
	}
	st.at = edgeagent.Instant{Wall: st.at.Wall + run - st.at.Run, Run: run}
	return st
}

// resolve finds what a series feeds, making instances on the way.
func (e *Engine) resolve(s edgeagent.Series) []watcher {
	name := s.String()
	var ws []watcher
	for _, t := range e.starred {
		star, ok := t.rule.inputs[t.slot].pattern.match(name)
		if !ok {
			continue
		}
		if in := e.instance(t.rule, star); in != nil {
			ws = append(ws, watcher{in, t.slot})
		}
	}
	for _, t := range e.exact[name] {
		if t.rule.shared != nil {
			ws = append(ws, watcher{t.rule.shared, t.slot})
		}
		for _, in := range e.instances {
			if in.rule == t.rule {
				ws = append(ws, watcher{in, t.slot})
			}
		}
	}
	slices.SortStableFunc(ws, func(a, b watcher) int { return a.instance.rule.index - b.instance.rule.index })
	if len(e.cache) >= maxCached {
		clear(e.cache)
	}
	e.cache[s] = ws
	return ws
}

// instance returns the rule's instance of that name, made if need be, or nil when
// there are too many.
func (e *Engine) instance(r *rule, name string) *instance {
	if in := r.instances[name]; in != nil {
		return in
	}
	if len(e.instances) >= MaxInstances || len(name) > maxInstanceName {
		e.stats.Refused++
		return nil
	}
	// The name may be part of a larger string, and outlives it.
	in := newInstance(r, strings.Clone(name))
	in.setIntervals(e.intervals)
	in.inherit(r.shared, e.now)
	r.instances[in.name] = in
	e.instances = append(e.instances, in)
	if r.shared != nil {
		clear(e.cache) // the shared series feed one more
	}
	return in
}
