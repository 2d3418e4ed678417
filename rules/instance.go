package rules

import (
	"maps"
	"math"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/expression"
)

// onlyInstance names the instance of a rule without a star.
const onlyInstance = "-"

// instance is a rule over the series of one text of its stars.
type instance struct {
	rule   *rule
	name   string
	series []string  // names, per input
	values []float64 // per input, NaN while unknown
	slots  []slot    // per input

	machine     machine
	when, clear expression.Truth // as last evaluated
	next        int64            // run time at which something happens by itself, or never
	group       uint64           // the group of readings that touched it last

	last  stamp // of the last reading; zero before the first
	phase Phase // as shown
	since edgeagent.Instant

	// The alarm that is firing, or was last.
	id       string
	n        uint32
	severity edgeagent.Severity
	text     string
	// lastOnset is that of id in milliseconds if it began in this run, else -1:
	// two alarms may not have one id.
	lastOnset int64
}

// slot is what an instance knows of an input besides its value.
type slot struct {
	series     edgeagent.Series // of the last reading
	staleAfter int64            // ns; never: readings do not age
	staleAt    int64            // run time at which the value becomes unknown, or never
	group      uint64           // the group of readings that set it last
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
		values:    make([]float64, len(r.inputs)),
		slots:     make([]slot, len(r.inputs)),
		next:      never,
		when:      expression.Unknown,
		clear:     expression.Unknown,
		phase:     Unknown,
		severity:  r.severity,
		lastOnset: -1,
	}
	for i, input := range r.inputs {
		in.series[i] = input.pattern.name(name)
		in.values[i] = math.NaN()
		in.slots[i] = slot{staleAfter: never, staleAt: never}
	}
	return in
}

// setIntervals decides how long the readings of each input count.
func (in *instance) setIntervals(intervals map[string]time.Duration) {
	for i := range in.slots {
		sensor, _ := edgeagent.SplitName(in.series[i])
		switch every := intervals[sensor]; {
		case in.rule.stale > 0:
			in.slots[i].staleAfter = int64(in.rule.stale)
		case every > 0:
			in.slots[i].staleAfter = int64(max(staleIntervals*every, minStale))
		default:
			in.slots[i].staleAfter = never
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

// set takes a reading at run time now.
func (in *instance) set(i int32, r *edgeagent.Reading, now int64) {
	s := &in.slots[i]
	s.series = r.Series
	if r.Quality >= edgeagent.Stale || !expression.Known(r.Value) {
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

// evaluate computes the conditions anew.
func (in *instance) evaluate() {
	in.when = in.rule.when.Eval(in.values)
	if in.rule.clear == nil {
		in.clear = in.when.Not()
	} else {
		in.clear = in.rule.clear.Eval(in.values)
	}
}

// step moves the machine to now and plans the next timer.
func (in *instance) step(now int64, at edgeagent.Instant) transition {
	t := in.machine.step(in.rule.timing, in.when, in.clear, now)
	in.next = in.machine.deadline(in.rule.timing)
	for i := range in.slots {
		in.next = min(in.next, in.slots[i].staleAt)
	}
	shown := in.machine.phase
	if shown == Idle && in.when == expression.Unknown {
		shown = Unknown
	}
	if shown != in.phase || in.since == (edgeagent.Instant{}) {
		in.phase, in.since = shown, at
	}
	return t
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
	}
	i := in.rule.slot(field)
	v := forPeople(in.values[i])
	if label, ok := in.slots[i].series.Key().Labels.Get(v); ok {
		return label
	}
	return v
}

// event describes the transition that just happened.
func (in *instance) event(state string, st stamp) edgeagent.Event {
	in.text = in.rule.text.fill(in.field)
	attrs := map[string]string{"rule": in.rule.id, "state": state}
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
