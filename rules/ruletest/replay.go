package ruletest

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// maxAlarms bounds the alarms that a replay keeps.
const maxAlarms = 100_000

// Outcome is what rules made of recorded readings.
type Outcome struct {
	From, To time.Time // of the readings
	Readings int
	Stored   int // of them, and of summaries, what shaping passes on
	Rules    []RuleOutcome
	Alarms   []edgeagent.Event // transitions, in order
	Dropped  int               // alarms beyond the bound
	Note     string            // what the rules could not watch, and what to do; mostly empty
}

// RuleOutcome is what one rule did.
type RuleOutcome struct {
	ID     string
	Alerts int
	// Firing is how long its instances fired in all, up to the end of the readings.
	Firing time.Duration
	// PerDay is Alerts by day, or for readings of less than a day Alerts.
	PerDay float64
}

// Replay runs rules over readings in the order in which they were recorded. Their
// own times are the clock; one that goes back counts as now.
func Replay(files []rules.File, o rules.Options, readings iter.Seq2[edgeagent.Reading, error]) (Outcome, error) {
	e, err := o.Compile(files)
	if err != nil {
		return Outcome{}, err
	}
	shaper, err := rules.NewShaper(files)
	if err != nil {
		return Outcome{}, err
	}
	p := player{engine: e, shaper: shaper, open: map[string]int64{}, byRule: map[string]*RuleOutcome{}}
	for _, id := range e.Rules() {
		p.byRule[id] = &RuleOutcome{ID: id}
	}
	for r, err := range readings {
		if err != nil {
			return Outcome{}, fmt.Errorf("read recorded readings: %w", err)
		}
		p.take(r)
	}
	return p.finish(), nil
}

// player replays readings in groups of one time, as a sensor hands them on.
type player struct {
	engine *rules.Engine
	shaper *rules.Shaper
	out    Outcome
	first  int64 // wall time
	now    edgeagent.Instant
	group  []edgeagent.Reading
	shaped []edgeagent.Reading
	open   map[string]int64 // run time at which an alarm was raised, by id
	byRule map[string]*RuleOutcome
}

func (p *player) take(r edgeagent.Reading) {
	if p.out.Readings == 0 {
		p.first = r.At.Wall
		p.out.From, p.out.To = time.Unix(0, r.At.Wall).UTC(), time.Unix(0, r.At.Wall).UTC()
	}
	run := max(r.At.Wall-p.first, p.now.Run)
	if run != p.now.Run {
		p.flush()
	}
	// The wall time rises with the run time: both are the time of the readings.
	p.now = edgeagent.Instant{Wall: p.first + run, Run: run}
	r.At.Run = run
	p.group = append(p.group, r)
	p.out.Readings++
	if t := time.Unix(0, r.At.Wall).UTC(); t.After(p.out.To) {
		p.out.To = t
	}
}

func (p *player) flush() {
	if len(p.group) == 0 {
		return
	}
	p.note(p.engine.Eval(nil, p.group))
	p.engine.Effects(nil)
	p.shaped = p.shaper.Tick(p.shaped[:0], p.now)
	p.shaped = p.shaper.Shape(p.shaped, p.group)
	p.out.Stored += len(p.shaped)
	p.group = p.group[:0]
}

func (p *player) note(events []edgeagent.Event) {
	for _, ev := range events {
		r := p.rule(ev.Attrs["rule"])
		switch since, raised := p.open[ev.ID]; {
		case ev.N == 1:
			r.Alerts++
			p.open[ev.ID] = ev.At.Run
		case raised && ev.Attrs["state"] == edgeagent.AlarmCleared:
			r.Firing += time.Duration(ev.At.Run - since)
			delete(p.open, ev.ID)
		}
		if len(p.out.Alarms) < maxAlarms {
			p.out.Alarms = append(p.out.Alarms, ev)
		} else {
			p.out.Dropped++
		}
	}
}

// rule returns what one rule did so far. Checks of series with facts are added when
// they fire.
func (p *player) rule(id string) *RuleOutcome {
	r := p.byRule[id]
	if r == nil {
		r = &RuleOutcome{ID: id}
		p.byRule[id] = r
	}
	return r
}

func (p *player) finish() Outcome {
	p.flush()
	p.note(p.engine.Tick(nil, p.now))
	p.out.Stored += len(p.shaper.Flush(nil))
	for id, since := range p.open {
		rule, _, _ := strings.Cut(id, "/")
		p.rule(rule).Firing += time.Duration(p.now.Run - since)
	}
	days := max(1, time.Duration(p.now.Run).Hours()/24)
	ids := p.engine.Rules()
	for _, id := range slices.Sorted(maps.Keys(p.byRule)) {
		if !slices.Contains(ids, id) { // a check that fired
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		r := p.rule(id)
		r.PerDay = float64(r.Alerts) / days
		p.out.Rules = append(p.out.Rules, *r)
	}
	if h := p.engine.Health(); h.Text != "" {
		p.out.Note = h.Text + "; " + h.Hint
	}
	return p.out
}

// WriteText writes the outcome for people. was is that of other rules over the
// same readings, to compare with, or nil.
func (o Outcome) WriteText(w io.Writer, was *Outcome) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d readings from %s to %s\n", o.Readings, o.From.Format(time.RFC3339), o.To.Format(time.RFC3339))
	fmt.Fprintf(&b, "%-24s %8s %9s %14s\n", "rule", "alerts", "per day", "firing")
	for _, r := range o.Rules {
		fmt.Fprintf(&b, "%-24s %8d %9.2f %14s\n", r.ID, r.Alerts, r.PerDay, short(r.Firing))
	}
	saved := 0.0
	if o.Readings > 0 {
		saved = 100 * (1 - float64(o.Stored)/float64(o.Readings))
	}
	fmt.Fprintf(&b, "shaping stores %d of %d readings: %.1f %% less\n", o.Stored, o.Readings, saved)
	if o.Dropped > 0 {
		fmt.Fprintf(&b, "%d more alarm transitions are not listed\n", o.Dropped)
	}
	if o.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", o.Note)
	}
	if was != nil {
		b.WriteString(compare(*was, o))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Change is an alarm that only one of two outcomes has.
type Change struct {
	Added bool // only this one has it
	Alarm edgeagent.Event
}

// Against lists the alarms that only one of two outcomes has, in order of time.
func (o Outcome) Against(was Outcome) []Change {
	var out []Change
	old, now := was.raised(), o.raised()
	for _, added := range []bool{false, true} {
		mine, other := old, now
		if added {
			mine, other = now, old
		}
		for _, key := range slices.Sorted(maps.Keys(mine)) {
			if _, both := other[key]; !both {
				out = append(out, Change{added, mine[key]})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int { return cmp.Compare(a.Alarm.At.Wall, b.Alarm.At.Wall) })
	return out
}

// compare writes the changes for people.
func compare(was, is Outcome) string {
	changes := is.Against(was)
	if len(changes) == 0 {
		return "against the other rules: the same alerts\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "against the other rules (- only there, + only here):\n")
	for _, c := range changes {
		sign := "-"
		if c.Added {
			sign = "+"
		}
		fmt.Fprintf(&b, "%s %s %s %s\n", sign, time.Unix(0, c.Alarm.At.Wall).UTC().Format(time.RFC3339Nano), c.Alarm.Attrs["rule"], c.Alarm.Text)
	}
	return b.String()
}

// raised returns the alarms by what two sets of rules would call the same: rule,
// instance and moment of firing.
func (o Outcome) raised() map[string]edgeagent.Event {
	out := map[string]edgeagent.Event{}
	for _, ev := range o.Alarms {
		if ev.N == 1 {
			out[fmt.Sprintf("%s %d", ev.ID[:strings.LastIndexByte(ev.ID, '/')], ev.At.Wall)] = ev
		}
	}
	return out
}
