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
// whole stream, or the last record of each instance. What fires there goes on
// firing here: it is not raised again, and clears under its id with the next
// number. An alarm whose rule is gone is cleared at the next Eval or Tick, with
// the attribute reason. Call it once, after SetRun and before the first Eval or
// Tick.
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
	for _, k := range order {
		e.restore(last[current[k]])
	}
}

func isFiring(ev edgeagent.Event) bool { return ev.Attrs["state"] != edgeagent.AlarmCleared }

// restore takes the last record of one instance.
func (e *Engine) restore(ev edgeagent.Event) {
	id, _ := parseAlarmID(ev.ID)
	var r *rule
	for _, candidate := range e.rules {
		if candidate.id == id.rule && candidate.starred == (id.instance != onlyInstance) {
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
	if isFiring(ev) {
		in.machine = machine{phase: Firing}
		in.phase, in.since = Firing, edgeagent.Instant{Wall: ev.At.Wall}
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
