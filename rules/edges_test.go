package rules_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// at is s seconds after the start of a timeline.
func at(s float64) edgeagent.Instant {
	return edgeagent.Instant{Wall: epochStart + int64(s*1e9), Run: int64(s * 1e9)}
}

func one(name string, s, v float64) []edgeagent.Reading {
	return []edgeagent.Reading{{Series: series(name), At: at(s), Value: v}}
}

// TestDowntimeOfAnInputThatGoesStale: the value ages within the downtime, whose end
// is where holding would go on.
func TestDowntimeOfAnInputThatGoesStale(t *testing.T) {
	make := engineOf(t, rule1("x > 5", func(r *rules.Rule) { r.For, r.StaleAfter = 30*time.Second, 5*time.Second }))
	e := make(1)
	for s := range 11 {
		e.Eval(nil, one("s/x", float64(s), 9))
	}
	next := make(2)
	start := edgeagent.Instant{Wall: at(10).Wall + 100e9}
	if _, err := next.Load(e.Snapshot(nil), nil, start, true); err != nil {
		t.Fatal(err)
	}
	events := next.Tick(nil, start)
	for s := range 60 {
		now := edgeagent.Instant{Wall: start.Wall + int64(s+1)*1e9, Run: int64(s+1) * 1e9}
		events = next.Eval(events, []edgeagent.Reading{{Series: series("s/x"), At: now, Value: 9}})
	}
	if got, want := brief(events), "+2m11s"; got != want { // 10 s before, 20 s from the first reading
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLateCounter: a counter's reading that comes late is no reset.
func TestLateCounter(t *testing.T) {
	for _, lag := range []int{1, 2, 7, 25} {
		e, err := rules.Compile([]rules.File{{
			Version: 1, Rules: []rules.Rule{rule1(`increase(x, "60s") > 500 or last(x, "60s") < 1000 or delta(x, "60s") < 0`)},
			Sensors: map[string]rules.Facts{"s/*": {Lateness: 30 * time.Second}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		var got []edgeagent.Event
		read := func(run, wall int) {
			got = e.Eval(got, []edgeagent.Reading{{
				Series: series("s/x"), Recorded: true, Value: 1000 + float64(wall),
				At: edgeagent.Instant{Run: int64(run) * 1e9, Wall: epochStart + int64(wall)*1e9},
			}})
		}
		for s := range 200 {
			if read(s, s); s > 50 && s%13 == 0 {
				read(s, s-lag)
			}
		}
		if len(got) > 0 {
			t.Errorf("%d s late: %v", lag, brief(got))
		}
	}
}

// TestCrashBetweenSnapshotAndJournal: windows and ages are of the snapshot, the
// clock is of the journal.
func TestAgeAfterACrash(t *testing.T) {
	silent := rule1("age(x) > 30")
	other := rules.Rule{ID: "other", Inputs: map[string]string{"y": "s/y"}, When: "y > 5", Do: alert("")}
	for name, tt := range map[string]struct {
		speaks bool
		want   string
	}{
		"a sensor that spoke": {true, ""}, "a silent sensor": {false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			make := engineOf(t, silent, other)
			e := make(1)
			e.Eval(nil, one("s/x", 0, 1))
			snapshot := e.Snapshot(nil)
			var journal []byte
			var durable []edgeagent.Event
			for s := 1.0; s <= 50; s++ {
				if tt.speaks {
					durable = e.Eval(durable, one("s/x", s, 1))
				}
				durable = e.Eval(durable, one("s/y", s, s-40))
				journal = e.Journal(journal)
			}
			next := make(2)
			start := edgeagent.Instant{Wall: at(51).Wall}
			if _, err := next.Load(snapshot, journal, start, true); err != nil {
				t.Fatal(err)
			}
			next.Restore(slices.Clone(durable))
			if got := brief(next.Tick(nil, start)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestJournalOfMany: all transitions of one step come back, however many.
func TestJournalOfMany(t *testing.T) {
	text := string(slices.Repeat([]byte("x"), 1000))
	w := &world{t: t, dir: t.TempDir(), files: []rules.File{{Version: 1, Rules: []rules.Rule{
		{ID: "r", Inputs: map[string]string{"v": "*/v"}, When: "v > 1", Do: alert(text)},
	}}}}
	w.start(edgeagent.Instant{})
	var rs []edgeagent.Reading
	for i := range rules.MaxInstances {
		rs = append(rs, edgeagent.Reading{Series: series(fmt.Sprint(i, "/v")), Value: 9})
	}
	w.step(step{readings: rs}, 2)
	w.alarms = nil
	w.start(edgeagent.Instant{Run: 1e9})
	if s := w.engine.Stats(); s.Firing != rules.MaxInstances {
		t.Errorf("%d of %d instances fire after the restart", s.Firing, rules.MaxInstances)
	}
}

func TestEmptySnapshotIsDamaged(t *testing.T) {
	w := &world{t: t, files: []rules.File{{Version: 1, Rules: zoo()}}, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(w.dir, "snapshot"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(edgeagent.Instant{})
	if got := w.engine.Tick(nil, edgeagent.Instant{Run: 1}); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

// TestRulesAskForRulesOfOneReading: whoever asks for a rule is evaluated after it,
// whatever the order in the file.
func TestRulesAskForRulesOfOneReading(t *testing.T) {
	alone := rules.Rule{ID: "alone", Inputs: map[string]string{"x": "s/x"}, When: `x > 5 and not rule("main").firing`, Do: alert("")}
	main := rules.Rule{ID: "main", Inputs: map[string]string{"x": "s/x"}, When: "x > 5", Do: alert("")}
	third := rules.Rule{ID: "third", Inputs: map[string]string{"x": "s/x"}, When: `x > 5 and rule("main").firing and not rule("mid").firing`, Do: alert("")}
	mid := rules.Rule{ID: "mid", Inputs: map[string]string{"x": "s/x"}, When: `x > 5 and rule("main").firing`, Do: alert("")}
	for _, hold := range []time.Duration{0, 5 * time.Second} {
		rs := []rules.Rule{third, alone, mid, main}
		for i := range rs {
			rs[i].For = hold
		}
		e := engineOf(t, rs...)(1)
		var ids []string
		for s := range 12 {
			for _, ev := range e.Eval(nil, one("s/x", float64(s), 9)) {
				if ev.Attrs["rule"] == "alone" || ev.Attrs["rule"] == "third" {
					ids = append(ids, ev.ID)
				}
			}
		}
		if len(ids) > 0 {
			t.Errorf("for %v: %v", hold, ids)
		}
	}
}

func TestChecksOfSeriesWithLikeNames(t *testing.T) {
	most := 5.0
	facts := map[string]rules.Facts{}
	names := []string{"a-b/temp", "a/b-temp", "kühler/temp", "kähler/temp"}
	for _, name := range names {
		facts[name] = rules.Facts{Max: &most}
	}
	e, err := rules.Options{Detector: func(string, rules.Facts) rules.Detector { return &fakeDetector{} }}.Compile([]rules.File{{Version: 1, Sensors: facts}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range e.States() {
		seen[s.Series] = true
	}
	for _, name := range names {
		if !seen[name] {
			t.Errorf("%s is not checked: %v", name, seen)
		}
	}
}

func TestInfinityDoesNotSilenceAShape(t *testing.T) {
	for _, d := range []rules.Deadband{{Abs: 1}, {Percent: 5}, {Abs: 1, Percent: 5}, {Abs: 1, Against: "seen"}} {
		for _, odd := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
			s, err := rules.NewShaper([]rules.File{{Version: 1, Shape: []rules.Shape{{Inputs: map[string]string{"x": "s/x"}, Deadband: &d}}}})
			if err != nil {
				t.Fatal(err)
			}
			var out []edgeagent.Reading
			for i, v := range []float64{1, odd, odd, 10, 20} {
				out = s.Shape(out, one("s/x", float64(i), v))
			}
			if len(out) != 4 {
				t.Errorf("%+v, %v: %d readings passed", d, odd, len(out))
			}
		}
	}
}

func TestCountAfterADowntime(t *testing.T) {
	for _, exact := range []bool{false, true} {
		make := engineOf(t, rule1(`count(x, "60s") < 3`, func(r *rules.Rule) { r.Exact = exact }))
		e := make(1)
		var events []edgeagent.Event
		for s := range 100 {
			events = e.Eval(events, one("s/x", float64(s), 9))
		}
		next := make(2)
		start := edgeagent.Instant{Wall: at(100).Wall + 600e9}
		if _, err := next.Load(e.Snapshot(nil), nil, start, true); err != nil {
			t.Fatal(err)
		}
		events = next.Tick(events, start)
		for s := range 90 {
			now := edgeagent.Instant{Wall: start.Wall + int64(s+1)*1e9, Run: int64(s+1) * 1e9}
			events = next.Eval(events, []edgeagent.Reading{{Series: series("s/x"), At: now, Value: 9}})
		}
		if len(events) > 0 {
			t.Errorf("exact %v: nobody watched, and yet: %s", exact, brief(events))
		}
	}
}

func TestOutputsOfRemovedRules(t *testing.T) {
	pump := rule1("x > 5", func(r *rules.Rule) {
		r.Do = []rules.Action{{GPIO: &rules.GPIO{Pin: "relay1", Set: "high"}}}
		r.Undo = []rules.Undo{{GPIO: &rules.GPIO{Pin: "relay1", Set: "low"}}}
	})
	e := engineOf(t, pump)(1)
	e.Eval(nil, one("s/x", 0, 9))
	next := engineOf(t, zoo()[0])(2)
	if _, err := next.Load(e.Snapshot(nil), nil, edgeagent.Instant{Wall: at(10).Wall}, true); err != nil {
		t.Fatal(err)
	}
	next.Tick(nil, edgeagent.Instant{Wall: at(10).Wall})
	if got := next.Effects(nil); len(got) > 0 {
		t.Errorf("an output that no rule names is driven: %+v", got[0].Output)
	}
	edited := pump
	edited.When = "x > 100"
	next = engineOf(t, edited)(2)
	if _, err := next.Load(e.Snapshot(nil), nil, edgeagent.Instant{Wall: at(10).Wall}, true); err != nil {
		t.Fatal(err)
	}
	next.Tick(nil, edgeagent.Instant{Wall: at(10).Wall})
	if got := next.Effects(nil); len(got) > 0 && got[0].Output.High {
		t.Errorf("an output is held by a rule that begins anew: %+v", got[0].Output)
	}
}

// TestLongSilenceIsCheap: an age that is used in a sum has no moment to wait for.
func TestLongSilenceIsCheap(t *testing.T) {
	make := engineOf(t, rules.Rule{ID: "r", Inputs: map[string]string{"v": "*/v"}, When: "age(v) / 60 > 1e9", Do: alert("")})
	e := make(1)
	for i := range 100 {
		e.Eval(nil, one(fmt.Sprint(i, "/v"), 0, 9))
	}
	next := make(2)
	start := edgeagent.Instant{Wall: at(0).Wall + int64(40*24*time.Hour)}
	if _, err := next.Load(e.Snapshot(nil), nil, start, true); err != nil {
		t.Fatal(err)
	}
	start = edgeagent.Instant{Wall: start.Wall, Run: int64(30 * 24 * time.Hour)} // and is not suspended from then on
	next.Tick(nil, start)
	if n := next.Stats().Evaluations; n > 100*10_000 {
		t.Errorf("%d evaluations", n)
	}
}

// TestFactsOfOneSeries: a series has one check, that of its very name.
func TestFactsOfOneSeries(t *testing.T) {
	e, err := rules.Options{Detector: func(string, rules.Facts) rules.Detector { return &fakeDetector{} }}.Compile([]rules.File{{
		Version: 1, Sensors: map[string]rules.Facts{"cold-*/temp": {Max: new(5.0)}, "cold-1/temp": {Max: new(50.0)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	e.Eval(nil, append(one("cold-1/temp", 0, 1), one("cold-2/temp", 0, 1)...))
	var got []string
	for _, s := range e.States() {
		got = append(got, s.Rule+" "+s.Series)
	}
	want := []string{"check.cold---temp cold-2/temp", "check.cold-1-temp cold-1/temp"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFractionOfLateReadings: they say nothing about the condition's value.
func TestFractionOfLateReadings(t *testing.T) {
	e, err := rules.Compile([]rules.File{{
		Version: 1, Rules: []rules.Rule{rule1(`fraction(x > 5, "n=4") > 0.5`)},
		Sensors: map[string]rules.Facts{"s/*": {Lateness: 10 * time.Second}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, wall := range []float64{100, 97, 96, 95, 94} {
		r := one("s/x", wall, 9)[0]
		r.Recorded, r.At.Run = true, int64(100+i)*1e9
		if got := e.Eval(nil, []edgeagent.Reading{r}); len(got) > 0 {
			t.Fatalf("after %d readings: %s", i+1, brief(got))
		}
	}
}

// TestScoreOfASilentSensor: a score is of the last reading, and as old.
func TestScoreOfASilentSensor(t *testing.T) {
	o := rules.Options{Detector: func(string, rules.Facts) rules.Detector { return &fakeDetector{} }}
	e, err := o.Compile([]rules.File{{Version: 1, Rules: []rules.Rule{rule1("anomaly(x) > 0.5", func(r *rules.Rule) {
		r.For, r.StaleAfter = time.Minute, 5*time.Second
	})}}})
	if err != nil {
		t.Fatal(err)
	}
	events := e.Eval(nil, one("s/x", 0, 9))
	if events = e.Tick(events, at(600)); len(events) > 0 {
		t.Errorf("one reading was enough: %s", brief(events))
	}
}

// TestMaxOnOfARemovedRule: what switched an output on is gone, and its bound holds.
func TestMaxOnOfARemovedRule(t *testing.T) {
	e := engineOf(t, rule1("x > 5", func(r *rules.Rule) {
		r.Do = []rules.Action{{GPIO: &rules.GPIO{Pin: "relay1", Set: "high", MaxOn: time.Hour}}}
	}))(1)
	e.Eval(nil, one("s/x", 0, 9))
	next := engineOf(t, zoo()[0])(2)
	if _, err := next.Load(e.Snapshot(nil), nil, at(10), true); err != nil {
		t.Fatal(err)
	}
	next.Tick(nil, at(10))
	if got := next.Effects(nil); len(got) != 1 || got[0].Output.High {
		t.Errorf("got %+v", got)
	}
}

// TestLateValues: a reading that is late is not the last value, whether or not
// somebody has a window over the series.
func TestLateValues(t *testing.T) {
	e, err := rules.Compile([]rules.File{{
		Version: 1, Rules: []rules.Rule{rule1("x > 5")},
		Sensors: map[string]rules.Facts{"s/x": {Lateness: 10 * time.Second}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var events []edgeagent.Event
	for i, s := range [][2]float64{{100, 1}, {95, 9}, {50, 9}} {
		r := one("s/x", s[0], s[1])[0]
		r.Recorded, r.At.Run = true, int64(100+i)*1e9
		events = e.Eval(events, []edgeagent.Reading{r})
	}
	if late := e.Stats().Late; len(events) > 0 || late != 1 {
		t.Errorf("%d too late, %s", late, brief(events))
	}
}

// TestMaxOnThatEndsInADowntime: the output is not switched on again for a moment.
func TestMaxOnThatEndsInADowntime(t *testing.T) {
	make := engineOf(t, rule1("x > 5", func(r *rules.Rule) {
		r.Do = []rules.Action{{GPIO: &rules.GPIO{Pin: "relay1", Set: "high", MaxOn: time.Minute}}}
	}))
	e := make(1)
	e.Eval(nil, one("s/x", 0, 9))
	next := make(2)
	start := edgeagent.Instant{Wall: at(600).Wall}
	if _, err := next.Load(e.Snapshot(nil), nil, start, true); err != nil {
		t.Fatal(err)
	}
	next.Tick(nil, start)
	if got := next.Effects(nil); len(got) != 1 || got[0].Output.High {
		t.Errorf("got %d effects, the first %+v", len(got), got[0].Output)
	}
}

// TestHugeSnapshotIsDamaged: it is not read at all.
func TestHugeSnapshotIsDamaged(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(3<<30), f.Close()); err != nil { // takes no room
		t.Skip(err)
	}
	e, err := rules.Options{Memory: 1 << 20}.Compile([]rules.File{{Version: 1, Rules: zoo()}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := rules.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := s.Restore(e, edgeagent.Instant{}, false); err != nil {
		t.Fatal(err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 100<<20 {
		t.Errorf("%d MiB were allocated", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
	if got := e.Tick(nil, edgeagent.Instant{Run: 1}); len(got) != 2 {
		t.Errorf("said %v", got)
	}
}
