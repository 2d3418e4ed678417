package ruletest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// Report is the outcome of a file of tests.
type Report struct {
	Results []Result
	// NeverFired are the rules that fired in none of the tests, in order.
	NeverFired []string
}

// Failed returns how many tests failed.
func (r Report) Failed() (n int) {
	for _, t := range r.Results {
		if len(t.Failures) > 0 {
			n++
		}
	}
	return n
}

// Result is the outcome of one test.
type Result struct {
	Name     string
	Failures []Failure
	Timeline []Line // all that happened, in order
}

// Failure is an expectation that was not met.
type Failure struct {
	Index     int // in Test.Expect
	When      string
	Want, Got string
	At        time.Duration // where in the timeline to look
	Rule      string
}

// Line is something that happened.
type Line struct {
	At   time.Duration
	Rule string // empty for what belongs to none
	Text string
}

// Run runs all tests against the rules. It returns an error only if the rules do
// not compile. Every test begins with new rules.
func Run(files []rules.File, tests []Test, o rules.Options) (Report, error) {
	var report Report
	fired := map[string]bool{}
	var ids []string
	for _, t := range tests {
		s, err := newStory(files, t, o)
		if err != nil {
			return Report{}, err
		}
		if err := s.play(); err != nil {
			return Report{}, fmt.Errorf("test %q: %w", t.Name, err)
		}
		report.Results = append(report.Results, s.result())
		maps.Copy(fired, s.fired)
		ids = s.engine.Rules()
	}
	for _, id := range ids {
		if !fired[id] {
			report.NeverFired = append(report.NeverFired, id)
		}
	}
	return report, nil
}

// story is a test being played.
type story struct {
	test   Test
	files  []rules.File
	opts   rules.Options
	engine *rules.Engine
	start  time.Time

	events   []edgeagent.Event
	states   map[string]rules.State
	pins     map[string]string
	sampled  map[string]time.Duration
	fired    map[string]bool
	lines    []Line
	failures []Failure
	// stored are the readings so far, for a restart. There are as many as the test
	// spells out.
	stored []edgeagent.Reading
}

func newStory(files []rules.File, t Test, o rules.Options) (*story, error) {
	e, err := o.Compile(files)
	if err != nil {
		return nil, err
	}
	if t.Every == 0 {
		t.Every = defaultEvery
	}
	if t.Start == "" {
		t.Start = defaultStart
	}
	start, err := time.Parse(time.RFC3339, t.Start)
	if err != nil {
		return nil, fmt.Errorf("test %q: %w", t.Name, err)
	}
	return &story{
		test: t, files: files, opts: o, engine: e, start: start,
		states: map[string]rules.State{}, pins: map[string]string{}, sampled: map[string]time.Duration{}, fired: map[string]bool{},
	}, nil
}

func (s *story) instant(at time.Duration) edgeagent.Instant {
	return edgeagent.Instant{Wall: s.start.Add(at).UnixNano(), Run: int64(at)}
}

// play goes through all moments at which something comes in or is asked.
func (s *story) play() error {
	inputs, steps := map[string][]value{}, 0
	for series, text := range s.test.Input {
		vs, err := parseValues(text)
		if err != nil {
			return err
		}
		inputs[series], steps = vs, max(steps, len(vs))
	}
	names := slices.Sorted(maps.Keys(inputs))
	var stops []time.Duration // besides the steps
	for _, x := range s.test.Expect {
		if x.At != nil {
			stops = append(stops, *x.At)
		} else {
			stops = append(stops, x.Between...)
		}
	}
	stops = append(stops, s.test.RestartAt...)
	slices.Sort(stops)
	stops = slices.Compact(stops)
	for i := 0; i < steps || len(stops) > 0; {
		at := time.Duration(i) * s.test.Every
		if len(stops) > 0 && (i >= steps || stops[0] < at) {
			s.advance(stops[0])
			if err := s.stop(stops[0]); err != nil {
				return err
			}
			stops = stops[1:]
			continue
		}
		s.advance(at)
		s.feed(at, names, inputs, i)
		if len(stops) > 0 && stops[0] == at {
			if err := s.stop(at); err != nil {
				return err
			}
			stops = stops[1:]
		}
		i++
	}
	for i, x := range s.test.Expect {
		if x.Between != nil {
			s.checkBetween(i, x)
		}
	}
	slices.SortStableFunc(s.failures, func(a, b Failure) int { return a.Index - b.Index })
	return nil
}

// advance lets timers run out before a moment, each at its own time.
func (s *story) advance(to time.Duration) {
	for range 100_000 {
		next, ok := s.engine.NextTimer()
		if !ok || next >= to || len(s.lines) == 0 && len(s.states) == 0 {
			return
		}
		s.take(next, s.engine.Tick(nil, s.instant(next)))
	}
}

func (s *story) feed(at time.Duration, names []string, inputs map[string][]value, i int) {
	var rs []edgeagent.Reading
	for _, name := range names {
		if i < len(inputs[name]) && !inputs[name][i].none {
			v := inputs[name][i]
			sensor, metric := edgeagent.SplitName(name)
			rs = append(rs, edgeagent.Reading{
				Series: edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: metric}),
				At:     s.instant(at), Value: v.v, Quality: v.quality,
			})
		}
	}
	if len(rs) > 0 {
		s.stored = append(s.stored, rs...)
		s.take(at, s.engine.Eval(nil, rs))
	} else {
		s.take(at, s.engine.Tick(nil, s.instant(at)))
	}
}

// stop asks and restarts at a moment.
func (s *story) stop(at time.Duration) error {
	s.take(at, s.engine.Tick(nil, s.instant(at)))
	if slices.Contains(s.test.RestartAt, at) {
		e, err := s.opts.Compile(s.files)
		if err != nil {
			return err
		}
		e.SetStored(func(since time.Time, take func([]edgeagent.Reading)) error {
			from := sort.Search(len(s.stored), func(i int) bool { return s.stored[i].At.Wall >= since.UnixNano() })
			take(s.stored[from:])
			return nil
		})
		if _, err := e.Load(s.engine.Snapshot(nil), nil, s.instant(at), true); err != nil {
			return err
		}
		e.Restore(slices.Clone(s.events))
		s.engine = e
		s.lines = append(s.lines, Line{At: at, Text: "restart"})
		s.take(at, e.Tick(nil, s.instant(at)))
	}
	for i, x := range s.test.Expect {
		if x.At != nil && *x.At == at {
			s.checkAt(i, x)
		}
	}
	return nil
}

// take notes what a step gave.
func (s *story) take(at time.Duration, events []edgeagent.Event) {
	for _, ev := range events {
		s.events = append(s.events, ev)
		s.lines = append(s.lines, Line{
			time.Duration(ev.At.Run), ev.Attrs["rule"],
			fmt.Sprintf("alarm %s %s %s: %s", ev.ID, ev.Attrs["state"], ev.Severity, ev.Text),
		})
	}
	for _, x := range s.engine.Effects(nil) {
		line := Line{At: time.Duration(x.At.Run), Rule: x.Rule}
		switch {
		case x.Output != nil:
			level := map[bool]string{true: "high", false: "low"}[x.Output.High]
			if s.pins[x.Output.Pin] == level {
				continue // said again after a restart
			}
			s.pins[x.Output.Pin] = level
			line.Text = fmt.Sprintf("gpio %s %s", x.Output.Pin, level)
		case x.Sample != nil && s.sampled[x.Sample.Series] == x.Sample.Every:
			continue // the same
		case x.Sample != nil && x.Sample.Every > 0:
			s.sampled[x.Sample.Series] = x.Sample.Every
			line.Text = fmt.Sprintf("sample %s every %v", x.Sample.Series, x.Sample.Every)
		case x.Sample != nil:
			delete(s.sampled, x.Sample.Series)
			line.Text = fmt.Sprintf("sample %s as configured", x.Sample.Series)
		case x.Run != nil:
			line.Text = fmt.Sprintf("run %s %q", x.Run.Name, x.Run.Args)
		case x.Capture != nil:
			line.Text = fmt.Sprintf("capture of %d readings", len(x.Capture.Readings))
		}
		s.lines = append(s.lines, line)
	}
	for _, st := range s.engine.States() {
		key := st.Rule + "/" + st.Instance
		if st.State == rules.Firing {
			s.fired[st.Rule] = true
		}
		if before, seen := s.states[key]; seen && before.State == st.State {
			continue
		}
		s.states[key] = st
		s.lines = append(s.lines, Line{at, st.Rule, fmt.Sprintf("%s is %s", key, st.State)})
	}
}

func (s *story) fail(i int, rule string, at time.Duration, when, want, got string) {
	s.failures = append(s.failures, Failure{Index: i, When: when, Want: want, Got: got, At: at, Rule: rule})
}

func (s *story) checkAt(i int, x Expect) {
	when := "at " + x.At.String()
	if x.State != nil {
		if got, ok := s.state(x); !ok {
			s.fail(i, x.Rule, *x.At, when, fmt.Sprintf("%s %s", x.Rule, x.State), got)
		}
	}
	for _, pin := range slices.Sorted(maps.Keys(x.GPIO)) {
		got := s.pins[pin]
		if got == "" {
			got = "not driven"
		}
		if got != x.GPIO[pin] {
			s.fail(i, x.Rule, *x.At, when, fmt.Sprintf("gpio %s %s", pin, x.GPIO[pin]), got)
		}
	}
}

// state says where the instances stand, and whether one is where it should be.
func (s *story) state(x Expect) (got string, ok bool) {
	got = "no such rule or instance"
	first := true
	for _, st := range s.engine.States() {
		if st.Rule != x.Rule || x.Instance != "" && x.Instance != st.Instance {
			continue
		}
		is := st.State == *x.State || *x.State == rules.Idle && st.State == rules.Unknown ||
			*x.State == rules.Firing && st.State == rules.Clearing || *x.State == rules.Unknown && st.Unknown
		ok = ok || is
		text := fmt.Sprintf("%s since %v", st.State, time.Duration(st.Since.Run))
		if st.Instance != "-" {
			text = st.Instance + " " + text
		}
		if first {
			got, first = text, false
		} else {
			got += ", " + text
		}
	}
	return got, ok
}

func (s *story) checkBetween(i int, x Expect) {
	from, to := x.Between[0], x.Between[1]
	when := fmt.Sprintf("between %v and %v", from, to)
	severities := map[string]edgeagent.Severity{} // of each alarm, the highest
	for _, ev := range s.events {
		severities[ev.ID] = max(severities[ev.ID], ev.Severity)
	}
	count, matches := 0, false
	text := regexp.MustCompile(x.Text) // it was validated
	for _, ev := range s.events {
		at := time.Duration(ev.At.Run)
		if ev.N != 1 || at < from || at > to || x.Rule != "" && ev.Attrs["rule"] != x.Rule {
			continue
		}
		if x.Severity != nil && ev.Severity != *x.Severity && severities[ev.ID] != *x.Severity {
			continue
		}
		count++
		matches = matches || text.MatchString(ev.Text)
	}
	if x.Alerts != nil && *x.Alerts != count {
		s.fail(i, x.Rule, to, when, fmt.Sprintf("%d alerts", *x.Alerts), strconv.Itoa(count))
	}
	if x.Text != "" && !matches {
		s.fail(i, x.Rule, to, when, fmt.Sprintf("an alert that says %q", x.Text), fmt.Sprintf("none of %d does", count))
	}
}

func (s *story) result() Result {
	slices.SortStableFunc(s.lines, func(a, b Line) int { return int(min(1, max(-1, a.At-b.At))) })
	return Result{s.test.Name, s.failures, s.lines}
}
