package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
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
	opts      Options
	rules     []*rule
	facts     []fact
	onExit    []pinExit
	run       edgeagent.Run
	intervals map[string]time.Duration

	instances []*instance // in order of creation
	timers    timers
	exact     map[string][]target
	starred   []target
	cache     map[edgeagent.Series]*feed
	tracks    map[string]*track
	memory    int64 // bytes that instances and series take

	started bool
	base    int64  // rules time less run time
	now     int64  // rules time; never goes back
	group   uint64 // counts groups of readings
	touched []*instance
	queue   []*instance // to be evaluated for another rule's sake
	orphans []orphan    // alarms to clear at the next step
	missing []edgeagent.Event

	wallAhead int64 // wall time less rules time
	wallKnown bool
	unsynced  bool
	tags      bool // some rule has a tag
	layered   bool // some rule asks for the state of another
	resumed   bool // a state was loaded: the world has to be brought in line with it
	// recordedOnly: no wall time came but from sources that date their readings.
	recordedOnly bool

	effects     []Effect
	pins        []*pin
	pinsChanged bool
	dirty       bool // some instance has changed
	urgent      bool // and has to be on the disk before anything else happens
	beat        int64
	journalSeq  uint64
	place       Place
	stored      Stored // nil: nobody knows what was read

	scratch  [maxSamples]float64
	features [64]float64
	stats    Stats
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

// feed is what a series feeds.
type feed struct {
	watchers []watcher
	track    *track // nil if no call looks at it
}

func newEngine(rs []*rule, o Options) *Engine {
	e := &Engine{
		opts:   o,
		rules:  rs,
		exact:  map[string][]target{},
		cache:  map[edgeagent.Series]*feed{},
		tracks: map[string]*track{},
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
	}
	return e
}

// populate makes the instances that need no reading to be made.
func (e *Engine) populate() {
	for _, r := range e.rules {
		switch {
		case !r.starred:
			e.instance(r, onlyInstance)
		case r.plain:
			r.shared = newInstance(r, "")
			r.shared.setIntervals(e.every)
		}
	}
}

// SetRun sets the run that the ids of alarms begin with; 0 without it. Call it
// before the first Eval or Tick.
func (e *Engine) SetRun(run edgeagent.Run) { e.run = run }

// SetSynced says whether the wall time can be trusted; it can without a call.
// While it cannot, hour() and weekday() are unknown.
func (e *Engine) SetSynced(synced bool) {
	if e.unsynced == !synced {
		return
	}
	e.unsynced = !synced
	for _, in := range e.instances {
		if in.rule.calendar {
			in.next = e.now // look again
			e.timers.fix(in)
		}
	}
}

// SetIntervals tells the engine how often sensors are sampled, by sensor name, so
// that readings of a silent sensor become unknown (see Rule.StaleAfter). Facts of
// the rule files go before it. Call it before the first Eval or Tick.
func (e *Engine) SetIntervals(intervals map[string]time.Duration) {
	e.intervals = intervals
	for _, r := range e.rules {
		if r.shared != nil {
			r.shared.setIntervals(e.every)
		}
	}
	for _, in := range e.instances {
		in.setIntervals(e.every)
	}
}

// every returns how often a series speaks, 0 if nobody knows.
func (e *Engine) every(series string) time.Duration {
	if f := e.factsOf(series); f != nil && f.Every > 0 {
		return f.Every
	}
	sensor, _ := edgeagent.SplitName(series)
	return e.intervals[sensor]
}

// Eval takes readings in the order of their arrival and appends the alarm events
// they give to dst. Rules with a tag lower the quality of the readings in rs. It
// allocates nothing but events, effects and, once per series, memory.
func (e *Engine) Eval(dst []edgeagent.Event, rs []edgeagent.Reading) []edgeagent.Event {
	for len(rs) > 0 {
		n := 0
		dst, n = e.take(dst, rs)
		if e.tags {
			e.tag(rs[:n])
		}
		rs = rs[n:]
	}
	return dst
}

// take moves the timers to before the first reading, sets the values of all
// readings of its instant, one per series, and evaluates the instances they touch.
func (e *Engine) take(dst []edgeagent.Event, rs []edgeagent.Reading) (_ []edgeagent.Event, n int) {
	first := stamp{rs[0].At, rs[0].Recorded}
	now := max(e.now, e.base+first.at.Run)
	e.setWall(first)
	if !e.started {
		e.now = now
		e.begin()
	}
	if e.started && (len(e.orphans) > 0 || len(e.missing) > 0 || e.resumed) {
		dst = e.resume(dst, first)
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

// setWall keeps the wall time that hour() looks at. That of the machine goes
// before that of sources which date their readings themselves.
func (e *Engine) setWall(st stamp) {
	if st.recorded && e.wallKnown && !e.recordedOnly {
		return
	}
	ahead := st.at.Wall - (e.base + st.at.Run)
	e.recordedOnly = st.recorded
	e.wallAhead, e.wallKnown = ahead, true
}

// apply sets what a reading feeds. It refuses a second reading of a series in one
// group, which would hide the first from the rules.
func (e *Engine) apply(r *edgeagent.Reading) bool {
	f, known := e.cache[r.Series]
	if !known {
		f = e.resolve(r.Series)
	}
	for _, w := range f.watchers {
		if w.instance.slots[w.slot].group == e.group {
			return false
		}
	}
	order := inOrder
	if f.track != nil {
		var lag int64
		if order, lag = f.track.place(r); order == tooLate {
			e.stats.Late++
			return true
		}
		f.track.take(r, e.now, lag, counts(r), !e.unsynced)
	}
	for _, w := range f.watchers {
		in := w.instance
		in.slots[w.slot].group = e.group
		if order == inOrder {
			in.set(w.slot, r, e.now)
			in.slots[w.slot].set = e.group
		}
		if in.ring != nil {
			in.ring.add(e.now, r)
		}
		in.last = stamp{r.At, r.Recorded}
		if in.group != e.group && in != in.rule.shared {
			in.group = e.group
			e.touched = append(e.touched, in)
		}
	}
	return true
}

// begin notes when tracks began to wait for readings.
func (e *Engine) begin() {
	for _, t := range e.tracks {
		if t.began < 0 {
			t.began = e.now
		}
	}
	for _, in := range e.instances {
		for i := range in.calls {
			if w, ok := in.calls[i].window.(*paneWindow); ok && w.since < 0 {
				w.since = e.now
			}
		}
	}
}

// start evaluates every instance for the first time, so that a rule about a
// sensor that never speaks has a beginning, and clears what has no rule.
func (e *Engine) start(dst []edgeagent.Event, st stamp) []edgeagent.Event {
	e.started = true
	dst = e.resume(dst, st)
	dst = e.evaluateTouched(dst)
	all := slices.Clone(e.instances)
	e.inLayers(all)
	for _, in := range all {
		if in.group != e.group {
			dst = e.evaluate(dst, in, st)
		}
	}
	return e.drain(dst, st)
}

// resume says what a restored engine has to say first.
func (e *Engine) resume(dst []edgeagent.Event, st stamp) []edgeagent.Event {
	for _, ev := range e.missing {
		ev.At, ev.Recorded = st.at, st.recorded
		dst = append(dst, ev)
		e.stats.Transitions++
	}
	e.missing = nil
	dst = e.clearOrphans(dst, st)
	if e.resumed {
		e.resumed = false
		e.reapply(st)
	}
	return dst
}

// reapply drives the outputs and the sampling as the restored state has them: the
// world may have been reset with the agent.
func (e *Engine) reapply(st stamp) {
	for _, p := range e.pins {
		if p.known {
			e.effect(Effect{At: st.at, Output: &SetOutput{p.name, p.high}})
		}
	}
	for _, in := range e.instances {
		for _, a := range in.rule.do {
			if a.sample != nil && in.boost != never && in.boost > e.now && in.fires() {
				e.effect(Effect{Rule: in.rule.id, Instance: in.name, Alarm: in.id, At: st.at, Sample: &SetSampling{a.sample.Series, a.sample.Every}})
			}
		}
	}
}

// evaluateTouched evaluates the instances that the last group of readings feeds.
func (e *Engine) evaluateTouched(dst []edgeagent.Event) []edgeagent.Event {
	e.inLayers(e.touched)
	for _, in := range e.touched {
		in.observe(e)
		dst = e.evaluate(dst, in, in.last)
	}
	if len(e.queue) > 0 && len(e.touched) > 0 {
		dst = e.drain(dst, e.touched[0].last)
	}
	return dst
}

// inLayers has instances whose rules ask for other rules stand behind theirs, so
// that they see the state that the same readings lead to.
func (e *Engine) inLayers(list []*instance) {
	if e.layered {
		slices.SortStableFunc(list, func(a, b *instance) int { return a.rule.depth - b.rule.depth })
	}
}

// observe lets fraction() count what its condition says of the readings just set.
func (in *instance) observe(e *Engine) {
	for i := range in.calls {
		b := &in.calls[i]
		if b.fn != fractionFn {
			continue
		}
		for j := range i { // calls that the condition looks at come before it
			in.values[len(in.slots)+j] = e.value(in, &in.calls[j])
		}
		for _, slot := range b.Condition.Inputs() {
			if in.slots[slot].set == e.group {
				if t := b.Condition.Eval(in.values); t != expression.Unknown {
					b.add(e.now, truthValue(t == expression.True))
				}
				break
			}
		}
	}
}

// evaluate computes an instance's conditions and moves it to now.
func (e *Engine) evaluate(dst []edgeagent.Event, in *instance, st stamp) []edgeagent.Event {
	e.stats.Evaluations++
	e.compute(in)
	return e.step(dst, in, st)
}

// drain evaluates the rules that ask for the state of those that have moved. No
// rule asks for itself, however far around, so it ends.
func (e *Engine) drain(dst []edgeagent.Event, st stamp) []edgeagent.Event {
	for i := 0; i < len(e.queue); i++ {
		e.inLayers(e.queue[i:])
		e.queue[i].queued = false
		dst = e.evaluate(dst, e.queue[i], st)
	}
	e.queue = e.queue[:0]
	return dst
}

// step moves an instance to now and appends the alarm it gives.
func (e *Engine) step(dst []edgeagent.Event, in *instance, st stamp) []edgeagent.Event {
	was := in.machine
	before := was.phase
	t := in.machine.step(in.rule.timing, in.when, in.clear, e.now)
	if before == Idle && in.machine.phase != Idle {
		in.onsetRun, in.onsetMs = e.run, (in.machine.onset-e.base)/int64(time.Millisecond)
	}
	switch m := in.machine; {
	case m.phase != before || t != noTransition:
		in.changed, e.dirty, e.urgent = true, true, true
	case m.counting != was.counting || m.blind != was.blind:
		in.changed, e.dirty = true, true // a power cut may cost it a minute
	}
	in.show(st.at)
	dst = e.transition(dst, in, t, st)
	if c := in.ring; c != nil && c.until <= e.now {
		in.changed, e.dirty = true, true
		e.effect(Effect{Rule: in.rule.id, Instance: in.name, Alarm: c.alarm, At: st.at, Capture: c.finish()})
	}
	if in.boost <= e.now {
		e.calm(in, st)
	}
	in.next = e.plan(in)
	e.timers.fix(in)
	return dst
}

// transition appends the alarm of a transition and does what goes with it.
func (e *Engine) transition(dst []edgeagent.Event, in *instance, t transition, st stamp) []edgeagent.Event {
	state := ""
	switch t {
	case noTransition:
		return dst
	case fired:
		e.name(in)
		in.n, in.severity, state = 1, in.rule.severity, edgeagent.AlarmFiring
	case escalated:
		in.n, in.severity, state = in.n+1, in.rule.escalateTo, edgeagent.AlarmEscalated
	case cleared:
		in.n, state = in.n+1, edgeagent.AlarmCleared
	}
	if in.rule.alerts {
		dst = append(dst, in.event(state, st))
		e.stats.Transitions++
	}
	switch t {
	case fired:
		if in.ring != nil {
			in.ring.begin(in.id, e.now)
		}
		e.act(in, in.rule.do, st)
	case cleared:
		e.calm(in, st)
		e.act(in, in.rule.undo, st)
	}
	if t != escalated {
		e.wake(in.rule)
	}
	return dst
}

// name gives an alarm its id. Two alarms of one run never have one onset.
func (e *Engine) name(in *instance) {
	run, ms := in.onsetRun, in.onsetMs
	if run == e.run {
		ms = max(ms, in.lastOnset+1)
		in.lastOnset = ms
	}
	in.id = fmt.Sprintf("%s/%s/%s-%d", in.rule.id, in.name, run, ms)
}

// wake queues the instances that ask for the state of a rule.
func (e *Engine) wake(r *rule) {
	for _, other := range r.watchers {
		for _, in := range e.instances {
			if in.rule == other && !in.queued {
				in.queued = true
				e.queue = append(e.queue, in)
			}
		}
	}
}

// tag lowers the quality of readings whose rule fires and says so.
func (e *Engine) tag(rs []edgeagent.Reading) {
	for i := range rs {
		f := e.cache[rs[i].Series]
		if f == nil {
			continue
		}
		for _, w := range f.watchers {
			in := w.instance
			q := in.rule.tag
			if in.rule.builtin {
				q = in.checked()
			}
			if q > rs[i].Quality && int(w.slot) == in.rule.first && in.fires() {
				rs[i].Quality = q
			}
		}
	}
}

// checked is what the checks of a series say of its readings.
func (in *instance) checked() edgeagent.Quality {
	if c, ok := in.calls[0].track.detector.(Checker); ok {
		if _, q, faulty := c.Faulty(); faulty {
			return q
		}
	}
	return edgeagent.Good
}

// Tick moves the timers to now and appends the alarm events that gives to dst. It
// need not be called at all while readings come, and may come late.
func (e *Engine) Tick(dst []edgeagent.Event, now edgeagent.Instant) []edgeagent.Event {
	st := stamp{at: now}
	e.group, e.touched = e.group+1, e.touched[:0]
	e.setWall(st)
	if !e.started {
		e.now = max(e.now, e.base+now.Run)
		e.begin()
		return e.start(dst, st)
	}
	dst = e.resume(dst, st)
	dst = e.expire(dst, e.base+now.Run, st)
	e.now = max(e.now, e.base+now.Run)
	return dst
}
