package rules

import (
	"strconv"
	"strings"

	"github.com/edgeagent/edgeagent"
)

// orphan is an alarm that fired and that no instance goes on with.
type orphan struct {
	last   edgeagent.Event
	reason string
}

// Restore takes alarm records of earlier runs in the order of their stream: the
// whole stream, what stands behind [Loaded.Place], or the last record of each
// alarm. What fires there goes on firing here: it is not raised again, and clears
// under its id with the next number. An alarm whose rule is gone is cleared at the
// next Eval or Tick, with the attribute reason. Where a loaded state and the
// records differ the later one counts: records that the state knows nothing of
// are taken over, transitions that are not among the records are raised. Call it
// once, after SetRun and Load and before the first Eval or Tick.
func (e *Engine) Restore(events []edgeagent.Event) {
	// The last transition of each alarm, and the alarms in order of their onset: an
	// alarm that clears late must not be taken for the one that began after it.
	last := map[string]edgeagent.Event{}
	var alarms []string
	for _, ev := range events {
		if _, ok := parseAlarmID(ev.ID); ev.Kind != edgeagent.KindAlarm || !ok {
			continue
		}
		if _, seen := last[ev.ID]; !seen {
			alarms = append(alarms, ev.ID)
		}
		last[ev.ID] = ev
	}
	type key struct{ rule, instance string }
	current := map[key]string{}
	var order []key
	for _, alarm := range alarms {
		id, _ := parseAlarmID(alarm)
		k := key{id.rule, id.instance}
		before, seen := current[k]
		if !seen {
			order = append(order, k)
		} else if isFiring(last[before]) {
			e.orphans = append(e.orphans, orphan{last[before], "superseded"}) // its clearing was lost
		}
		current[k] = alarm
	}
	for _, in := range e.instances {
		if in.id == "" || !in.rule.alerts {
			continue
		}
		id, _ := parseAlarmID(in.id)
		k := key{id.rule, id.instance}
		ev, known := last[in.id]
		if known {
			e.reconcile(in, ev)
		} else if other := last[current[k]]; current[k] == "" || laterAlarm(in, other) {
			// The records know nothing of this alarm: they were lost with a power cut.
			e.raise(in, 0)
			if isFiring(other) && current[k] != "" {
				e.orphans = append(e.orphans, orphan{other, "superseded"})
			}
			delete(current, k)
		}
		if known && current[k] == in.id {
			delete(current, k)
		}
	}
	for _, k := range order {
		if current[k] != "" {
			e.restore(last[current[k]])
		}
	}
}

// laterAlarm reports whether the instance's alarm began after the one that the
// records know: within one run by its onset, across runs by the time of its last
// transition.
func laterAlarm(in *instance, ev edgeagent.Event) bool {
	mine, _ := parseAlarmID(in.id)
	theirs, _ := parseAlarmID(ev.ID)
	if mine.run == theirs.run {
		return mine.onset > theirs.onset
	}
	return in.fires() && in.since.Wall > ev.At.Wall
}

// reconcile brings an instance and the last record of its alarm together.
func (e *Engine) reconcile(in *instance, ev edgeagent.Event) {
	switch {
	case ev.N < in.n:
		e.raise(in, ev.N)
		return
	case ev.N == in.n:
		return
	}
	in.n, in.severity, in.text = ev.N, ev.Severity, ev.Text
	in.changed, e.dirty = true, true
	in.machine.escalated = in.machine.escalated || ev.Attrs["state"] == edgeagent.AlarmEscalated
	if !isFiring(ev) {
		in.machine.leave(Idle)
		in.phase, in.since = Idle, edgeagent.Instant{Wall: ev.At.Wall}
		e.calm(in, stamp{at: ev.At})
	}
	in.next = e.plan(in)
	e.timers.fix(in)
}

// raise has the transitions of an instance's alarm behind n raised again.
func (e *Engine) raise(in *instance, n uint32) {
	for k := n + 1; k <= in.n; k++ {
		state := edgeagent.AlarmEscalated
		switch {
		case k == 1:
			state = edgeagent.AlarmFiring
		case k == in.n && !in.fires():
			state = edgeagent.AlarmCleared
		}
		attrs := map[string]string{"rule": in.rule.id, "state": state, "reason": "raised again after a restart"}
		ev := in.record(stamp{}, attrs)
		ev.N, ev.Series = k, in.series[in.rule.first]
		e.missing = append(e.missing, ev)
	}
}

func isFiring(ev edgeagent.Event) bool { return ev.Attrs["state"] != edgeagent.AlarmCleared }

// restore takes the last record of one instance.
func (e *Engine) restore(ev edgeagent.Event) {
	id, _ := parseAlarmID(ev.ID)
	var r *rule
	for _, candidate := range e.rules {
		if candidate.id == id.rule && candidate.alerts && candidate.starred == (id.instance != onlyInstance) {
			r = candidate
		}
	}
	switch {
	case r == nil && isFiring(ev):
		e.orphans = append(e.orphans, orphan{ev, "rule removed"})
		return
	case r == nil || !isFiring(ev) && r.instances[id.instance] == nil:
		return
	}
	in := e.instance(r, id.instance)
	if in == nil {
		return // counted
	}
	if id.run == e.run {
		in.lastOnset = id.onset
	}
	in.id, in.n, in.severity, in.text = ev.ID, ev.N, ev.Severity, ev.Text
	in.changed, e.dirty = true, true
	// A loaded state from before this alarm may still wait for it, or hold the one
	// before it.
	if waits := in.machine.phase == Pending; in.fires() || waits && in.onsetRun == id.run && in.onsetMs <= id.onset {
		in.machine.leave(Idle)
		in.machine.fired, in.machine.firedAt = true, e.now
		in.next = e.plan(in)
		e.timers.fix(in)
	}
	if isFiring(ev) {
		in.machine = machine{phase: Firing, fired: true, firedAt: e.now, escalated: ev.Attrs["state"] == edgeagent.AlarmEscalated}
		in.phase, in.since = Firing, edgeagent.Instant{Wall: ev.At.Wall}
		in.next = e.plan(in)
		e.timers.fix(in)
	}
}

// clearOrphans appends the events that end the alarms of removed rules.
func (e *Engine) clearOrphans(dst []edgeagent.Event, st stamp) []edgeagent.Event {
	for _, o := range e.orphans {
		dst = append(dst, closing(o.last, o.reason, st))
		e.stats.Transitions++
	}
	e.orphans = nil
	return dst
}

// alarmID is rule/instance/onset taken apart. Only the instance may hold slashes.
type alarmID struct {
	rule, instance string
	run            edgeagent.Run
	onset          int64 // ms
}

func parseAlarmID(s string) (id alarmID, ok bool) {
	rule, rest, ok := strings.Cut(s, "/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || rule == "" || i <= 0 {
		return alarmID{}, false
	}
	run, onset, ok := strings.Cut(rest[i+1:], "-")
	if !ok || len(run) != len(edgeagent.Run(0).String()) {
		return alarmID{}, false
	}
	id = alarmID{rule: rule, instance: rest[:i]}
	if err := id.run.UnmarshalText([]byte(run)); err != nil {
		return alarmID{}, false
	}
	ms, err := strconv.ParseUint(onset, 10, 63)
	id.onset = int64(ms)
	return id, err == nil
}
