package rules_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// zoo has a rule of each kind over the series s/a, s/b, p-1/v, p-2/v and p-1/w.
func zoo() []rules.Rule {
	return []rules.Rule{
		{ID: "plain", Inputs: map[string]string{"a": "s/a"}, When: "a > 5", Do: alert("{{.a}}")},
		{
			ID: "held", Inputs: map[string]string{"a": "s/a"}, When: "a > 5", For: 7 * time.Second,
			Clear: "a < 3", ClearFor: 4 * time.Second, Do: alert("{{.a}}"),
		},
		{ID: "two", Inputs: map[string]string{"a": "s/a", "b": "s/b"}, When: "a > b", For: 3 * time.Second, StaleAfter: 9 * time.Second, Do: alert("")},
		{ID: "silent", Inputs: map[string]string{"b": "s/b"}, When: "not known(b)", For: time.Second, StaleAfter: 5 * time.Second, Do: alert("")},
		{ID: "star", Inputs: map[string]string{"v": "p-*/v", "b": "s/b"}, When: "v > b", ClearFor: 2 * time.Second, Do: alert("{{.instance}}")},
		{ID: "pair", Inputs: map[string]string{"v": "p-*/v", "w": "p-*/w"}, When: "v > w", Do: alert("{{.instance}}")},
	}
}

// randomSteps makes a timeline of n readings, some of one instant, some bad.
func randomSteps(r *rand.Rand, n int) []step {
	names := []string{"s/a", "s/a", "s/b", "p-1/v", "p-2/v", "p-1/w"}
	var steps []step
	at := edgeagent.Instant{Wall: epochStart}
	for range n {
		wait := int64(r.IntN(6)) * int64(time.Second)
		at.Wall, at.Run = at.Wall+wait, at.Run+wait
		s := step{at: at}
		for range 1 + r.IntN(3) {
			q := edgeagent.Good
			if r.IntN(8) == 0 {
				q = edgeagent.Bad
			}
			s.readings = append(s.readings, edgeagent.Reading{
				Series: series(names[r.IntN(len(names))]), At: at, Value: float64(r.IntN(10)), Quality: q,
			})
		}
		steps = append(steps, s)
	}
	return steps
}

// closingSteps calm every rule of the zoo down, long enough for each of them.
func closingSteps(steps []step) []step {
	last := steps[len(steps)-1].at
	for range 40 {
		last.Wall, last.Run = last.Wall+int64(time.Second), last.Run+int64(time.Second)
		s := step{at: last}
		for _, name := range []string{"s/a", "p-1/v", "p-2/v"} {
			s.readings = append(s.readings, edgeagent.Reading{Series: series(name), At: last, Value: 0})
		}
		for _, name := range []string{"s/b", "p-1/w", "p-2/w"} {
			s.readings = append(s.readings, edgeagent.Reading{Series: series(name), At: last, Value: 9})
		}
		steps = append(steps, s)
	}
	return steps
}

// checkProtocol holds what receivers rely on: an id is raised once and cleared at
// most once, and an instance has one alarm at a time. It returns the ids that
// still fire.
func checkProtocol(events []edgeagent.Event) (firing []string, err error) {
	current := map[string]string{} // rule/instance → id
	n := map[string]uint32{}
	for _, ev := range events {
		instance := ev.ID[:strings.LastIndexByte(ev.ID, '/')]
		if n[ev.ID]++; n[ev.ID] != ev.N {
			return nil, fmt.Errorf("%s: n is %d, want %d", ev.ID, ev.N, n[ev.ID])
		}
		switch state := ev.Attrs["state"]; {
		case ev.Kind != edgeagent.KindAlarm:
			return nil, fmt.Errorf("%s: kind %q", ev.ID, ev.Kind)
		case ev.N == 1 && state == edgeagent.AlarmFiring && current[instance] == "":
			current[instance] = ev.ID
		case ev.N == 2 && state == edgeagent.AlarmCleared && current[instance] == ev.ID:
			delete(current, instance)
		default:
			return nil, fmt.Errorf("%s: n=%d %s while %q fires", ev.ID, ev.N, state, current[instance])
		}
	}
	for _, id := range current {
		firing = append(firing, id)
	}
	return firing, nil
}

// TestSameInputSameOutput: nothing leaks the order of a map.
func TestSameInputSameOutput(t *testing.T) {
	make := engineOf(t, zoo()...)
	steps := randomSteps(rand.New(rand.NewPCG(1, 2)), 300)
	want, first := play(make, steps)
	if len(want) < 50 {
		t.Fatalf("only %d events: the timeline is too dull", len(want))
	}
	for range 20 {
		got, e := play(make, steps)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(first.States(), e.States(), cmp.Comparer(func(a, b edgeagent.Series) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	}
}

// TestTicksChangeNothing: ticks between readings, and at NextTimer, give the same
// events as no ticks at all.
func TestTicksChangeNothing(t *testing.T) {
	make := engineOf(t, zoo()...)
	rapid.Check(t, func(t *rapid.T) {
		steps := randomSteps(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), 60)
		end := steps[len(steps)-1].at
		end.Run, end.Wall = end.Run+int64(time.Minute), end.Wall+int64(time.Minute)

		want, _ := play(make, append(slices.Clone(steps), step{at: end}))
		if _, err := checkProtocol(want); err != nil {
			t.Fatal(err)
		}

		got := ticked(make(1), append(slices.Clone(steps), step{at: end}), t)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("with ticks: %s", diff)
		}
	})
}

// TestBatchesChangeNothing: readings of different instants give the same events
// one by one and all at once.
func TestBatchesChangeNothing(t *testing.T) {
	make := engineOf(t, zoo()...)
	for seed := range uint64(50) {
		steps := randomSteps(rand.New(rand.NewPCG(seed, 7)), 60)
		steps = slices.CompactFunc(steps, func(a, b step) bool { return a.at.Run == b.at.Run })
		want, _ := play(make, steps)
		var batch []edgeagent.Reading
		for _, s := range steps {
			batch = append(batch, s.readings...)
		}
		if diff := cmp.Diff(want, make(1).Eval(nil, batch)); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// ticked plays steps as the agent does: a tick whenever NextTimer says so before
// the next reading, and some more.
func ticked(e *rules.Engine, steps []step, t *rapid.T) []edgeagent.Event {
	var out []edgeagent.Event
	started := false
	for _, s := range steps {
		for i := 0; started; i++ {
			run, ok := e.NextTimer()
			if !ok || int64(run) >= s.at.Run {
				break
			}
			if i > 1000 {
				t.Fatal("NextTimer does not move on")
			}
			out = e.Tick(out, edgeagent.Instant{Wall: epochStart + int64(run), Run: int64(run)})
		}
		if early := s.at.Run - 1; started && rapid.Bool().Draw(t, "extra tick") {
			out = e.Tick(out, edgeagent.Instant{Wall: epochStart + early, Run: early})
		}
		if len(s.readings) > 0 {
			out = e.Eval(out, s.readings)
		} else {
			out = e.Tick(out, s.at)
		}
		started = true
	}
	return out
}

// TestRestartAnywhere cuts timelines at every step. Rules without a memory beyond
// their last values go on as if nothing had happened, but for the run in the ids
// that come after.
func TestRestartAnywhere(t *testing.T) {
	plain := []rules.Rule{
		{ID: "plain", Inputs: map[string]string{"a": "s/a"}, When: "a > 5", Do: alert("{{.a}}")},
		{ID: "gap", Inputs: map[string]string{"a": "s/a"}, When: "a > 6", Clear: "a < 3", Do: alert("{{.a}}")},
		{ID: "star", Inputs: map[string]string{"v": "p-*/v"}, When: "v > 5", Clear: "v < 2", Do: alert("{{.v}}")},
	}
	make := engineOf(t, plain...)
	for seed := range uint64(5) {
		steps := randomSteps(rand.New(rand.NewPCG(seed, 1)), 80)
		whole, _ := play(make, steps)
		want := withoutRuns(whole)
		for cut := range len(steps) {
			broken := slices.Insert(slices.Clone(steps), cut, step{at: steps[cut].at, restart: true})
			got, _ := play(make, broken)
			if _, err := checkProtocol(got); err != nil {
				t.Fatalf("seed %d, cut at %d: %v", seed, cut, err)
			}
			if diff := cmp.Diff(want, withoutRuns(got)); diff != "" {
				t.Fatalf("seed %d, cut at %d:\n%s", seed, cut, diff)
			}
		}
	}
}

// withoutRuns renders events without their onsets, and without the run time that
// begins anew.
func withoutRuns(events []edgeagent.Event) []string {
	var out []string
	for _, ev := range events {
		out = append(out, fmt.Sprintf("%d %s %d %v %s", ev.At.Wall, ev.ID[:strings.LastIndexByte(ev.ID, '/')], ev.N, ev.Attrs, ev.Text))
	}
	return out
}

// TestRestartsLoseNoClear: with any rules and any number of restarts nothing fires
// twice, and when all is calm nothing fires any more.
func TestRestartsLoseNoClear(t *testing.T) {
	make := engineOf(t, zoo()...)
	rapid.Check(t, func(t *rapid.T) {
		steps := randomSteps(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), 60)
		for range rapid.IntRange(1, 4).Draw(t, "restarts") {
			cut := rapid.IntRange(0, len(steps)-1).Draw(t, "cut")
			steps = slices.Insert(steps, cut, step{at: steps[cut].at, restart: true})
		}
		events, e := play(make, closingSteps(steps))
		firing, err := checkProtocol(events)
		if err != nil {
			t.Fatalf("%v\n%s", err, render(events))
		}
		if len(firing) > 0 || e.Stats().Firing > 0 {
			t.Fatalf("still firing: %v\n%s", firing, render(events))
		}
	})
}

func TestRestoreClearsWhatHasNoRule(t *testing.T) {
	old := edgeagent.Event{
		At: edgeagent.Instant{Wall: 5}, Kind: edgeagent.KindAlarm, Severity: edgeagent.Critical, N: 1,
		ID: "gone/x/00000009-5", Series: "x/y", Text: "was here", Attrs: map[string]string{"state": "firing", "rule": "gone"},
	}
	done := old
	done.ID, done.N, done.Attrs = "gone/z/00000009-7", 2, map[string]string{"state": "cleared"}
	lost := old
	lost.ID, lost.Attrs = "plain/-/00000009-5", map[string]string{"state": "firing"}
	again := old
	again.ID, again.Attrs = "plain/-/00000009-6", map[string]string{"state": "firing"}
	noise := old
	noise.Kind, noise.ID = "gap", "x"
	onlyInstance := old
	onlyInstance.ID = "star/-/00000009-5"

	make := engineOf(t, zoo()...)
	for _, step := range []func(*rules.Engine) []edgeagent.Event{
		func(e *rules.Engine) []edgeagent.Event { return e.Tick(nil, edgeagent.Instant{Wall: 100, Run: 1}) },
		func(e *rules.Engine) []edgeagent.Event {
			return e.Eval(nil, []edgeagent.Reading{{Series: series("q/q"), At: edgeagent.Instant{Wall: 100, Run: 1}}})
		},
	} {
		e := make(1)
		e.Restore([]edgeagent.Event{old, done, noise, lost, again, onlyInstance})
		if _, ok := e.NextTimer(); !ok {
			t.Error("nothing to do after Restore")
		}
		var got []string
		for _, ev := range step(e) {
			got = append(got, fmt.Sprint(ev.At.Wall, " ", ev.ID, " ", ev.N, " ", ev.Severity, " ", ev.Attrs["state"], ", ", ev.Attrs["reason"], ": ", ev.Text))
		}
		want := []string{
			"100 plain/-/00000009-5 2 critical cleared, superseded: was here",
			"100 gone/x/00000009-5 2 critical cleared, rule removed: was here",
			"100 star/-/00000009-5 2 critical cleared, rule removed: was here",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if again := e.Tick(nil, edgeagent.Instant{Run: 2}); len(again) > 0 {
			t.Errorf("cleared twice: %v", again)
		}
	}
	if old.Attrs["state"] != "firing" {
		t.Error("the caller's event was changed")
	}
}

// TestRestoreLateClear: an alarm whose clear comes after the onset of the next one
// does not end that one.
func TestRestoreLateClear(t *testing.T) {
	at := func(id, state string, n uint32) edgeagent.Event {
		return edgeagent.Event{Kind: edgeagent.KindAlarm, ID: id, N: n, Attrs: map[string]string{"state": state}}
	}
	e := engineOf(t, zoo()...)(1)
	e.Restore([]edgeagent.Event{
		at("plain/-/00000009-5", "firing", 1), at("plain/-/00000009-6", "firing", 1), at("plain/-/00000009-5", "cleared", 2),
	})
	if events := e.Tick(nil, edgeagent.Instant{Run: 1}); len(events) > 0 {
		t.Errorf("a cleared alarm was cleared again:\n%s", render(events))
	}
	for _, s := range e.States() {
		if s.Rule == "plain" && (s.State != rules.Firing || s.ID != "plain/-/00000009-6") {
			t.Errorf("%s %s, want the second alarm to go on firing", s.State, s.ID)
		}
	}
}

// TestRestoreInTheSameRun: an engine that replaces another within a run gives no
// id again.
func TestRestoreInTheSameRun(t *testing.T) {
	make := engineOf(t, zoo()[0])
	at := edgeagent.Instant{Run: 1e9}
	rs := []edgeagent.Reading{{Series: series("s/a"), At: at, Value: 9}}
	events := make(1).Eval(nil, append(rs, edgeagent.Reading{Series: series("s/a"), At: at, Value: 1}))
	e := make(1)
	e.Restore(events)
	events = e.Eval(events, rs)
	if len(events) != 3 || events[2].ID != "plain/-/00000001-1001" {
		t.Errorf("got\n%s", render(events))
	}
}

func TestStates(t *testing.T) {
	e := engineOf(t, zoo()...)(1)
	at := func(s int) edgeagent.Instant {
		return edgeagent.Instant{Wall: epochStart + int64(s)*1e9, Run: int64(s) * 1e9}
	}
	e.Eval(nil, []edgeagent.Reading{{Series: series("p-2/v"), At: at(1), Value: 1}, {Series: series("p-1/v"), At: at(1), Value: 1}})
	e.Eval(nil, []edgeagent.Reading{{Series: series("s/a"), At: at(2), Value: 8}})
	e.Eval(nil, []edgeagent.Reading{{Series: series("s/b"), At: at(2), Value: 9}})
	e.Eval(nil, []edgeagent.Reading{{Series: series("s/a"), At: at(3), Value: 8, Quality: edgeagent.Bad}})
	var got strings.Builder
	for _, s := range e.States() {
		fmt.Fprintf(&got, "%s %s %s %s unknown=%v since %gs %s %q\n", s.Rule, s.Instance, s.Series, s.State, s.Unknown, float64(s.Since.Run)/1e9, s.ID, s.Text)
	}
	want := `
		plain - s/a firing unknown=true since 2s plain/-/00000001-2000 "8"
		held - s/a pending unknown=true since 2s  ""
		two - s/a unknown unknown=true since 3s  ""
		silent - s/b idle unknown=false since 2s  ""
		star 1 p-1/v idle unknown=false since 2s  ""
		star 2 p-2/v idle unknown=false since 2s  ""
		pair 1 p-1/v unknown unknown=true since 1s  ""
		pair 2 p-2/v unknown unknown=true since 1s  ""`
	if diff := cmp.Diff(dedent(want), got.String()); diff != "" {
		t.Error(diff)
	}
	stats := e.Stats()
	if stats.Rules != 6 || stats.Instances != 8 || stats.Firing != 1 || stats.Pending != 1 || stats.Readings != 5 ||
		stats.Evaluations != 18 || stats.Transitions != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestTooManyInstances(t *testing.T) {
	e := engineOf(t, rules.Rule{ID: "r", Inputs: map[string]string{"v": "*/v"}, When: "v > 0", Do: alert("")})(1)
	var events []edgeagent.Event
	for i := range rules.MaxInstances + 5 {
		events = e.Eval(events, []edgeagent.Reading{{Series: series(fmt.Sprintf("s%d/v", i)), Value: 1}})
	}
	if len(events) != rules.MaxInstances || e.Stats().Instances != rules.MaxInstances {
		t.Errorf("%d events, %d instances", len(events), e.Stats().Instances)
	}
	if s := e.Stats(); s.Refused != 5 || e.Health().Level != edgeagent.Degraded || e.Health().Hint == "" {
		t.Errorf("refused %d, health %+v", s.Refused, e.Health())
	}
	long := series(strings.Repeat("x", 129) + "/v")
	if got := engineOf(t, rules.Rule{ID: "r", Inputs: map[string]string{"v": "*/v"}, When: "v > 0", Do: alert("")})(1).
		Eval(nil, []edgeagent.Reading{{Series: long, Value: 1}}); len(got) > 0 {
		t.Errorf("an instance with an endless name: %v", got)
	}
}

// TestEventsFitTheBuffer: the largest alarm a rule can give is within the bounds
// of an event.
func TestEventsFitTheBuffer(t *testing.T) {
	r := rules.Rule{ID: strings.Repeat("i", 64), Inputs: map[string]string{}, When: "true", Do: alert("")}
	var rs []edgeagent.Reading
	for i := range rules.MaxInputs {
		name := fmt.Sprintf("%s%02d", strings.Repeat("n", 62), i)
		r.Inputs[name] = fmt.Sprintf("s/%d", i)
		r.When += " and " + name + " < 0"
		rs = append(rs, edgeagent.Reading{Series: series(fmt.Sprintf("s/%d", i)), Value: -1.2345678901234567e-301})
	}
	got := engineOf(t, r)(0xffffffff).Eval(nil, rs)
	if len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	size := 0
	for k, v := range got[0].Attrs {
		size += len(k) + len(v)
	}
	if size > edgeagent.MaxEventAttrs || len(got[0].Text) > edgeagent.MaxEventText {
		t.Errorf("attrs of %d bytes, text of %d", size, len(got[0].Text))
	}
}

// TestRecordedReadingsDateTimers: a timer of readings that bear their source's
// time is dated by that time, whoever moves it.
func TestRecordedReadingsDateTimers(t *testing.T) {
	held := good(func(r *rules.Rule) { r.For = 10 * time.Second })
	const past = 1_000_000_000
	reading := func(run int64, v float64) []edgeagent.Reading {
		return []edgeagent.Reading{{
			Series: series("boiler/temp"), At: edgeagent.Instant{Wall: past + run, Run: run}, Value: v, Recorded: true,
		}}
	}
	now := edgeagent.Instant{Wall: epochStart, Run: 12e9}
	other := []edgeagent.Reading{{Series: series("x/y"), At: now}}
	for name, move := range map[string]func(e *rules.Engine) []edgeagent.Event{
		"tick":            func(e *rules.Engine) []edgeagent.Event { return e.Tick(nil, now) },
		"another reading": func(e *rules.Engine) []edgeagent.Event { return e.Eval(nil, other) },
		"its own reading": func(e *rules.Engine) []edgeagent.Event { return e.Eval(nil, reading(13e9, 90)) },
	} {
		e := engineOf(t, held)(1)
		e.Eval(nil, reading(1e9, 90))
		got := move(e)
		if len(got) != 1 || !got[0].Recorded || got[0].At != (edgeagent.Instant{Wall: past + 11e9, Run: 11e9}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestIntervalsAgeReadings(t *testing.T) {
	silent := rules.Rule{ID: "silent", Inputs: map[string]string{"v": "p-*/v", "b": "s/b"}, When: "not known(v) or not known(b)", Do: alert("")}
	at := func(s int64) edgeagent.Instant { return edgeagent.Instant{Run: s * 1e9} }
	tests := []struct {
		name      string
		intervals map[string]time.Duration
		want      string // when it fires
	}{
		{"not known", nil, ""},
		{"three times the interval", map[string]time.Duration{"p-1": 5 * time.Second}, "16s"},
		{"at least three seconds", map[string]time.Duration{"p-1": 10 * time.Millisecond}, "4s"},
		{"of the shared input", map[string]time.Duration{"s": 4 * time.Second}, "12s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := engineOf(t, silent)(1)
			e.SetIntervals(tt.intervals)
			e.Tick(nil, at(0))
			out := e.Eval(nil, []edgeagent.Reading{{Series: series("s/b"), At: at(0)}, {Series: series("p-1/v"), At: at(1)}})
			out = e.Tick(out, at(60))
			var got []string
			for _, ev := range out {
				got = append(got, time.Duration(ev.At.Run).String())
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error("fired at", diff)
			}
		})
	}
}

// TestSharedInputThatAgedIsUnknown: an instance that comes to life takes the
// shared values as they are then.
func TestSharedInputThatAgedIsUnknown(t *testing.T) {
	e := engineOf(t, rules.Rule{
		ID: "r", Inputs: map[string]string{"v": "p-*/v", "b": "s/b"}, When: "v > b", StaleAfter: 5 * time.Second, Do: alert(""),
	})(1)
	out := e.Eval(nil, []edgeagent.Reading{{Series: series("s/b")}})
	out = e.Eval(out, []edgeagent.Reading{{Series: series("p-1/v"), At: edgeagent.Instant{Run: 5e9}, Value: 1}})
	if len(out) > 0 {
		t.Errorf("fired on a stale value: %v", out)
	}
}

func TestEvalAllocatesNothing(t *testing.T) {
	e := engineOf(t, zoo()...)(1)
	rs := randomSteps(rand.New(rand.NewPCG(4, 4)), 1)[0].readings
	for i := range rs {
		rs[i].Value, rs[i].Quality = 0, edgeagent.Good
	}
	e.Eval(nil, rs)
	run := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		run += 1e6
		for i := range rs {
			rs[i].At.Run = run
		}
		e.Eval(nil, rs)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkEval: ns per reading, by the number of rules that each reading touches.
func BenchmarkEval(b *testing.B) {
	for _, touched := range []int{0, 1, 10, 100} {
		b.Run(fmt.Sprintf("rules=%d", touched), func(b *testing.B) {
			var rs []rules.Rule
			for i := range max(touched, 1) {
				rs = append(rs, rules.Rule{
					ID: fmt.Sprintf("r%d", i), Inputs: map[string]string{"temp": "boiler/temp", "load": "boiler/load"},
					When: "temp > 80 and load - temp > 2", For: time.Minute, StaleAfter: time.Minute, Do: alert(""),
				})
			}
			e := engineOf(b, rs...)(1)
			batch := make([]edgeagent.Reading, 100)
			for i := range batch {
				batch[i] = edgeagent.Reading{Series: series("boiler/temp"), Value: float64(i)}
				if touched == 0 {
					batch[i].Series = series("other/temp")
				}
			}
			e.Eval(nil, batch)
			run := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch {
					run += 1e6
					batch[i].At.Run = run
				}
				e.Eval(nil, batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/reading")
		})
	}
}
