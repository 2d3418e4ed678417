package rules

import (
	"maps"
	"math"
	"time"
	"unsafe"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// onlyInstance names the instance of a rule without a star.
const onlyInstance = "-"

// instance is a rule over the series of one text of its stars.
type instance struct {
	rule   *rule
	name   string
	index  int       // place among all instances
	series []string  // names, per input
	values []float64 // per input, then per call; NaN while unknown
	slots  []slot    // per input
	calls  []bound   // per call

	machine     machine
	when, clear expression.Truth // as last evaluated
	next        int64            // rules time at which something happens by itself, or never
	due         int64            // next, or earlier: see timers
	pos         int              // in the engine's heap of timers
	group       uint64           // the group of readings that touched it last
	queued      bool             // waits for another rule's sake

	last  stamp // of the last reading; zero before the first
	phase Phase // as shown
	since edgeagent.Instant

	// The alarm that is firing, or was last.
	id       string
	n        uint32
	severity edgeagent.Severity
	text     string
	// onset of the alarm to come: the run in which the condition became true, and
	// when, in milliseconds of that run.
	onsetRun edgeagent.Run
	onsetMs  int64
	// lastOnset is that of id in milliseconds if it began in this run, else -1:
	// two alarms may not have one id.
	lastOnset int64

	ring  *captureRing // nil without a capture
	boost int64        // rules time until which sensors are sampled faster, or never

	changed bool // has to go to the journal
}

// slot is what an instance knows of an input besides its value.
type slot struct {
	series     edgeagent.Series // of the last reading
	staleAfter int64            // ns; never: readings do not age
	staleAt    int64            // rules time at which the value becomes unknown, or never
	group      uint64           // the group of readings that fed it last
	set        uint64           // the group of readings that set its value last
}

// stamp is the time of an event, and whether its wall time came from the source.
type stamp struct {
	at       edgeagent.Instant
	recorded bool
}

func newInstance(r *rule, name string) *instance {
	in := &instance{
		rule:      r,
		name:      name,
		series:    make([]string, len(r.inputs)),
		values:    make([]float64, len(r.inputs)+len(r.calls)),
		slots:     make([]slot, len(r.inputs)),
		next:      never,
		boost:     never,
		when:      expression.Unknown,
		clear:     expression.Unknown,
		phase:     Unknown,
		severity:  r.severity,
		lastOnset: -1,
	}
	for i := range in.values {
		in.values[i] = math.NaN()
	}
	for i, input := range r.inputs {
		in.series[i] = input.pattern.name(name)
		in.slots[i] = slot{staleAfter: never, staleAt: never}
	}
	if c := r.capture; c != nil {
		in.ring = newCaptureRing(c)
	}
	return in
}

// cost is the memory an instance takes, in bytes, without what its series share
// with others.
func (r *rule) cost() int64 {
	const names = 96 // an instance's name and the names of its series, beside the strings' headers
	size := int64(unsafe.Sizeof(instance{})) +
		int64(len(r.inputs))*(int64(unsafe.Sizeof(slot{}))+8+16+names) +
		int64(len(r.calls))*(int64(unsafe.Sizeof(bound{}))+8)
	if r.capture != nil {
		size += int64(r.capture.Readings) * capturedSize
	}
	for i := range r.calls {
		if r.calls[i].fn == fractionFn {
			size += r.calls[i].spec.cost()
		}
	}
	return size
}

// setIntervals decides how long the readings of each input count.
func (in *instance) setIntervals(every func(series string) time.Duration) {
	for i := range in.slots {
		if in.rule.stale > 0 {
			in.slots[i].staleAfter = int64(in.rule.stale)
		} else {
			in.slots[i].staleAfter = staleAfter(every(in.series[i]))
		}
	}
}

// inherit takes the values of the shared inputs as they are at now.
func (in *instance) inherit(shared *instance, now int64) {
	if shared == nil {
		return
	}
	for i, input := range in.rule.inputs {
		if !input.pattern.star {
			in.values[i] = shared.values[i]
			in.slots[i].series, in.slots[i].staleAt = shared.slots[i].series, shared.slots[i].staleAt
		}
	}
	in.age(now)
}

// counts reports whether a reading's value can be used.
func counts(r *edgeagent.Reading) bool {
	return r.Quality < edgeagent.Stale && expression.Known(r.Value)
}

// set takes a reading at rules time now.
func (in *instance) set(i int32, r *edgeagent.Reading, now int64) {
	s := &in.slots[i]
	s.series = r.Series
	if !counts(r) {
		in.values[i], s.staleAt = math.NaN(), never
		return
	}
	in.values[i], s.staleAt = r.Value, never
	if s.staleAfter != never {
		s.staleAt = now + s.staleAfter
	}
}

// age forgets the values that are too old at now.
func (in *instance) age(now int64) {
	for i := range in.slots {
		if s := &in.slots[i]; s.staleAt <= now {
			in.values[i], s.staleAt = math.NaN(), never
		}
	}
}

// fires reports whether the alarm is raised.
func (in *instance) fires() bool {
	return in.machine.phase == Firing || in.machine.phase == Clearing
}

// evaluate computes the calls and the conditions anew.
func (e *Engine) compute(in *instance) {
	for i := range in.calls {
		in.values[len(in.slots)+i] = e.value(in, &in.calls[i])
	}
	in.when = in.rule.when.Eval(in.values)
	if in.rule.clear == nil {
		in.clear = in.when.Not()
	} else {
		in.clear = in.rule.clear.Eval(in.values)
	}
}

// show updates what status shows. at is the time of the step.
func (in *instance) show(at edgeagent.Instant) {
	shown := in.machine.phase
	if shown == Idle && in.when == expression.Unknown {
		shown = Unknown
	}
	if shown != in.phase || in.since == (edgeagent.Instant{}) {
		in.phase, in.since = shown, at
	}
}

// plan returns when something happens to the instance by itself.
func (e *Engine) plan(in *instance) int64 {
	next := min(in.machine.deadline(in.rule.timing), in.boost)
	if in.ring != nil {
		next = min(next, in.ring.until)
	}
	for i := range in.slots {
		next = min(next, in.slots[i].staleAt)
	}
	for i := range in.calls {
		next = min(next, e.due(in, &in.calls[i]))
	}
	return next
}

// field returns what a text calls field.
func (in *instance) field(field string) string {
	switch field {
	case "rule":
		return in.rule.id
	case "instance":
		return in.name
	case "series":
		return in.series[in.rule.first]
	case "reason":
		return in.reason()
	}
	i := in.rule.slot(field)
	v := forPeople(in.values[i])
	if label, ok := in.slots[i].series.Key().Labels.Get(v); ok {
		return label
	}
	return v
}

// reason is what the detectors of the instance say of their last alert.
func (in *instance) reason() string {
	for i := range in.calls {
		t := in.calls[i].track
		if in.calls[i].fn == faultyFn {
			if c, ok := t.detector.(Checker); ok {
				if why, _, faulty := c.Faulty(); faulty {
					return why
				}
				return "as it should be again"
			}
		}
		if t != nil && t.detector != nil {
			if why := t.detector.Reason(); why != "" {
				return why
			}
		}
	}
	return "no detector spoke"
}

// event describes the transition that just happened.
func (in *instance) event(state string, st stamp) edgeagent.Event {
	in.text = in.rule.text.fill(in.field)
	attrs := map[string]string{"rule": in.rule.id, "state": state}
	if p := in.rule.priority; p != "" {
		attrs["priority"] = p
	}
	for i, input := range in.rule.inputs {
		attrs[input.name] = exact(in.values[i])
	}
	ev := in.record(st, attrs)
	ev.Series = in.series[in.rule.first]
	return ev
}

// record makes an event of the alarm as the instance remembers it.
func (in *instance) record(st stamp, attrs map[string]string) edgeagent.Event {
	return edgeagent.Event{
		At:       st.at,
		Kind:     edgeagent.KindAlarm,
		Severity: in.severity,
		ID:       in.id,
		N:        in.n,
		Text:     in.text,
		Attrs:    attrs,
		Recorded: st.recorded,
	}
}

// closing returns the event that clears an alarm nobody watches any more.
func closing(last edgeagent.Event, reason string, st stamp) edgeagent.Event {
	attrs := maps.Clone(last.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["state"], attrs["reason"] = edgeagent.AlarmCleared, reason
	last.At, last.Recorded = st.at, st.recorded
	last.N++
	last.Attrs = attrs
	return last
}
