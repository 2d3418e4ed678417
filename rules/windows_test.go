package rules_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// rule1 is a rule over one input x of s/x.
func rule1(when string, change ...func(*rules.Rule)) rules.Rule {
	r := rules.Rule{ID: "r", Inputs: map[string]string{"x": "s/x"}, When: when, Do: alert("{{.x}}")}
	for _, f := range change {
		f(&r)
	}
	return r
}

// transitions plays a timeline and lists when the rule fired (+) and cleared (-).
func transitions(t *testing.T, r rules.Rule, timeline string) string {
	t.Helper()
	events, _ := play(engineOf(t, r), parseTimeline(t, timeline))
	return brief(events)
}

func brief(events []edgeagent.Event) string {
	signs := map[string]string{"firing": "+", "cleared": "-", "escalated": "!"}
	var out []string
	for _, ev := range events {
		out = append(out, signs[ev.Attrs["state"]]+time.Duration(ev.At.Wall-epochStart).String())
	}
	return strings.Join(out, " ")
}

// every writes "0s s/x=1", "1s s/x=2" … from values.
func every(step time.Duration, values ...float64) string {
	var b strings.Builder
	for i, v := range values {
		fmt.Fprintf(&b, "%v s/x=%v\n", time.Duration(i)*step, v)
	}
	return b.String()
}

func TestWindowRules(t *testing.T) {
	const second = time.Second
	tests := []struct {
		name, when, timeline, want string
	}{
		{"average", `avg(x, "60s") > 5`, every(second, 1, 2, 30, 1), "+2s"},
		{"a value above its average", `x - avg(x, "60s") > 2`, every(second, 1, 1, 1, 9, 9), "+3s"},
		{"a peak leaves the window by itself", `max(x, "60s") > 5`, "0s s/x=1\n10s s/x=9\n20s s/x=1\n200s tick", "+10s -1m10s"},
		{"sum by count", `sum(x, "n=3") >= 6`, every(second, 1, 2, 3, 1), "+2s"},
		{"median ignores a spike", `median(x, "n=3") > 5`, every(second, 90, 1, 1, 90, 8, 8), "+4s"},
		{"quantile", `quantile(x, 1, "60s") > 5`, every(second, 1, 90), "+1s"},
		{"range", `range(x, "60s") > 5`, every(second, 1, 2, 8), "+2s"},
		{"delta needs two", `delta(x, "60s") == 0`, every(second, 4, 4, 5), "+1s -2s"},
		{"rate counts over a restart of the counter", `rate(x, "60s") >= 10`, every(second, 100, 110, 120, 10), "+1s"},
		{"increase", `increase(x, "60s") == 25`, every(second, 100, 110, 15, 15), "+2s"},
		{"slope", `slope(x, "60s") > 1.9`, every(second, 1, 3, 5), "+1s"},
		{"stddev", `stddev(x, "60s") > 1`, every(second, 1, 1, 5), "+2s"},
		{"zscore", `zscore(x, "60s") > 2`, every(second, 1, 2, 1, 2, 1, 2, 1, 9), "+7s"},
		{"zscore of a constant is unknown", `not known(zscore(x, "60s"))`, every(second, 1, 1, 1), "+0s"},
		{"mad", `mad(x, "n=5") == 1`, every(second, 1, 2, 3, 4, 5), "+4s"},
		{"first and last", `last(x, "n=3") > first(x, "n=3")`, every(second, 5, 1, 2, 6), "+3s"},
		{"changed", `changed(x, "60s")`, "0s s/x=1\n1s s/x=1\n2s s/x=2\n3s s/x=2\n100s tick", "+2s -1m1s"},
		{"changes", `changes(x, "60s") >= 3`, every(second, 0, 1, 0, 1), "+3s"},
		{"prev", `x - prev(x) > 5`, every(second, 1, 2, 9, 9), "+2s -3s"},
		{"prev further back", `x - prev(x, 2) > 5`, every(second, 1, 2, 9, 9, 9), "+2s -4s"},
		{"flat needs the whole window", `flat(x, "12s", 0.5)`, every(second, 1, 1.2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3), "+11.8s -13s"},
		{"fraction", `fraction(x > 5, "12s") > 0.5`, every(second, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1, 1, 1, 1, 1, 1, 1, 1), "+11.8s -18s"},
		{"few readings", `count(x, "10s") < 3`, "0s s/x=1\n2s s/x=1\n4s s/x=1\n30s tick", "+10s"},
		{"silence without a reading", "age(x) > 90", "0s s/x=1\n200s tick\n210s s/x=1", "+1m30.000000001s -3m30s"},
		{"silence from the start", "age(x) >= 90", "0s tick\n200s tick", "+1m30s"},
		{"age in a sum is looked at each second", "age(x) + 0 > 5", "0s s/x=1\n20s tick", "+6s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := transitions(t, rule1(tt.when), tt.timeline)
			if got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.when, got, tt.want)
			}
		})
	}
}

func TestRuleKeys(t *testing.T) {
	tests := []struct {
		name     string
		change   func(*rules.Rule)
		timeline string
		want     string
	}{
		{"cooldown holds the next alarm back", func(r *rules.Rule) { r.Cooldown = 10 * time.Second }, "0s s/x=9\n1s s/x=1\n2s s/x=9\n3s s/x=1\n8s s/x=9\n20s tick", "+0s -1s +10s"},
		{"escalates once", func(r *rules.Rule) {
			r.Escalate = &rules.Escalate{After: 5 * time.Second, To: edgeagent.Critical}
		}, "0s s/x=9\n20s s/x=9\n21s s/x=1", "+0s !5s -21s"},
		{"gap reset", func(r *rules.Rule) { r.For, r.OnGap = 10*time.Second, rules.Reset }, "0s s/x=9\n8s s/x=0!bad\n9s s/x=9\n18s s/x=9\n30s tick", "+19s"},
		{"gap hold", func(r *rules.Rule) { r.For = 10 * time.Second }, "0s s/x=9\n8s s/x=0!bad\n20s s/x=9\n30s tick", "+22s"},
		{"gap count fires when it is known again", func(r *rules.Rule) { r.For, r.OnGap = 10*time.Second, rules.Count }, "0s s/x=9\n8s s/x=0!bad\n20s s/x=9", "+20s"},
		{"gap count goes on", func(r *rules.Rule) { r.For, r.OnGap = 10*time.Second, rules.Count }, "0s s/x=9\n2s s/x=0!bad\n5s s/x=9\n30s tick", "+10s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := transitions(t, rule1("x > 5", tt.change), tt.timeline); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestRulesAskForRules(t *testing.T) {
	rs := []rules.Rule{
		rule1(`x > 1 and not rule("b").firing`, func(r *rules.Rule) { r.ID = "c" }),
		rule1("x > 5", func(r *rules.Rule) { r.ID = "a" }),
		rule1(`rule("a").firing and x > 0`, func(r *rules.Rule) { r.ID = "b" }),
	}
	events, _ := play(engineOf(t, rs...), parseTimeline(t, "0s s/x=2\n1s s/x=9\n2s s/x=3"))
	var got []string
	for _, ev := range events {
		got = append(got, fmt.Sprint(ev.At.Run/1e9, ev.Attrs["rule"], " ", ev.Attrs["state"]))
	}
	want := []string{"0c firing", "1a firing", "1b firing", "1c cleared", "2a cleared", "2b cleared", "2c firing"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, when := range []string{`rule("c").firing and x > 1`, `rule("nobody").firing and x > 1`} {
		bad := slices.Clone(rs)
		bad[1].When = when
		if _, err := rules.Compile([]rules.File{{Version: 1, Rules: bad}}); err == nil {
			t.Errorf("%s was accepted", when)
		}
	}
}

func TestCalendar(t *testing.T) {
	// epochStart is a Sunday, noon.
	r := rule1("hour() >= 13 and weekday() == 7 and x > 0")
	timeline := "0s s/x=1\n50000s tick"
	if got, want := transitions(t, r, timeline), "+1h0m0s -12h0m0s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e := engineOf(t, r)(1)
	e.SetSynced(false)
	at := edgeagent.Instant{Wall: epochStart + 2*3600e9, Run: 1}
	if got := e.Eval(nil, []edgeagent.Reading{{Series: series("s/x"), At: at, Value: 1}}); len(got) > 0 {
		t.Errorf("fired by a clock that nobody trusts: %v", got)
	}
	e.SetSynced(true)
	if got := e.Tick(nil, edgeagent.Instant{Wall: at.Wall + 1, Run: 2}); len(got) != 1 {
		t.Errorf("did not look again when the clock was right: %v", got)
	}
}

type fakeModel struct{}

func (fakeModel) Features() int { return 2 }
func (fakeModel) Scorer() func(x []float64) float64 {
	return func(x []float64) float64 { return x[0] + 10*x[1] }
}

type fakeDetector struct{ last float64 }

func (d *fakeDetector) Observe(_ edgeagent.Instant, _ bool, v float64) (float64, bool) {
	alert := v > 5 && d.last <= 5
	d.last = v
	return min(v/10, 1), alert
}
func (d *fakeDetector) Reason() string                { return "went up" }
func (d *fakeDetector) AppendState(dst []byte) []byte { return fmt.Appendf(dst, "%v", d.last) }
func (d *fakeDetector) SetState(b []byte) error {
	_, err := fmt.Sscan(string(b), &d.last)
	return err
}
func (d *fakeDetector) Size() int64 { return 8 }

func TestModelsAndDetectors(t *testing.T) {
	o := rules.Options{
		Models:   map[string]rules.Model{"m": fakeModel{}},
		Detector: func(string, rules.Facts) rules.Detector { return &fakeDetector{} },
	}
	compile := func(rs ...rules.Rule) (*rules.Engine, error) {
		return o.Compile([]rules.File{{Version: 1, Rules: rs, Sensors: map[string]rules.Facts{"s/x": {Max: new(8.0)}}}})
	}
	e, err := compile(
		rule1(`model("m", x, 2) > 24`, func(r *rules.Rule) { r.ID = "model" }),
		rule1(`anomaly(x) > 0.85`, func(r *rules.Rule) { r.ID, r.Do = "score", alert("{{.reason}}") }),
		rule1(`anomaly_alert(x)`, func(r *rules.Rule) { r.ID = "alert" }),
		rule1(`outside_limits(x)`, func(r *rules.Rule) { r.ID = "limits" }),
	)
	if err != nil {
		t.Fatal(err)
	}
	var events []edgeagent.Event
	for _, s := range parseTimeline(t, "0s s/x=1\n1s s/x=7\n2s s/x=9\n3s s/x=9!bad\n4s s/x=1") {
		events = e.Eval(events, s.readings)
	}
	var got []string
	for _, ev := range events {
		got = append(got, fmt.Sprint(ev.At.Run/1e9, ev.Attrs["rule"], " ", ev.Attrs["state"], " ", ev.Text))
	}
	want := []string{
		"1model firing 7", "1alert firing 7", "2score firing went up", "2alert cleared 9", "2limits firing 9",
		"4model cleared 1", "4score cleared went up", "4limits cleared 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, when := range []string{`model("n", x, 1) > 1`, `model("m", x) > 1`} {
		if _, err := compile(rule1(when)); err == nil {
			t.Errorf("%s was accepted", when)
		}
	}
}

func TestTags(t *testing.T) {
	e := engineOf(t, rule1("x > 5", func(r *rules.Rule) {
		r.Do = []rules.Action{{Tag: &rules.Tag{Quality: "suspect"}}}
	}))(1)
	var got []string
	for i, v := range []float64{1, 9, 9, 1} {
		rs := []edgeagent.Reading{
			{Series: series("s/x"), At: edgeagent.Instant{Run: int64(i)}, Value: v},
			{Series: series("s/y"), At: edgeagent.Instant{Run: int64(i)}, Value: v},
		}
		if events := e.Eval(nil, rs); len(events) > 0 {
			t.Errorf("a rule without an alert raised %v", events)
		}
		got = append(got, rs[0].Quality.String()+"/"+rs[1].Quality.String())
	}
	if want := []string{"good/good", "suspect/good", "suspect/good", "good/good"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestLateReadings(t *testing.T) {
	e, err := rules.Compile([]rules.File{{
		Version: 1, Rules: []rules.Rule{rule1(`max(x, "60s") > 5 and x < 5`)},
		Sensors: map[string]rules.Facts{"s/*": {Lateness: 10 * time.Second}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	read := func(run, wall int, v float64) []edgeagent.Event {
		return e.Eval(nil, []edgeagent.Reading{{
			Series: series("s/x"), Recorded: true, Value: v,
			At: edgeagent.Instant{Run: int64(run) * 1e9, Wall: epochStart + int64(wall)*1e9},
		}})
	}
	if got := read(100, 100, 1); len(got) > 0 {
		t.Error(got)
	}
	if got := read(101, 95, 9); len(got) != 1 { // counts in the window, is not the last value
		t.Errorf("a late reading gave %v", got)
	}
	read(102, 101, 1)
	if read(103, 50, 99); e.Stats().Late != 1 {
		t.Errorf("%d readings were too late", e.Stats().Late)
	}
	for i := range 9 { // the source's clock was set back
		read(104+i, 20+i, 1)
	}
	if s := e.Stats(); s.Late != 9 {
		t.Errorf("%d readings were too late, want the tenth in a row to be taken", s.Late)
	}
}

// everything has a rule for each kind of state there is.
func everything() []rules.File {
	return []rules.File{{
		Version: 1,
		Sensors: map[string]rules.Facts{"s/a": {Every: 2 * time.Second}},
		Exec:    map[string]rules.Command{"go": {Path: "/bin/go"}},
		Rules: append(zoo(),
			rules.Rule{ID: "avg", Inputs: map[string]string{"a": "s/a"}, When: `a - avg(a, "30s") > 2 or slope(a, "20s") > 1`, Cooldown: 9 * time.Second, Do: alert("")},
			rules.Rule{ID: "med", Inputs: map[string]string{"v": "p-*/v"}, When: `median(v, "20s") > 4 and prev(v, 2) < v`, Do: alert("")},
			rules.Rule{ID: "exact", Exact: true, Inputs: map[string]string{"v": "p-*/v"}, When: `stddev(v, "20s") > 3`, For: 3 * time.Second, Do: alert("")},
			rules.Rule{ID: "part", Inputs: map[string]string{"a": "s/a", "b": "s/b"}, When: `fraction(a > avg(b, "10s"), "15s") > 0.5`, Do: alert("")},
			rules.Rule{ID: "flat", Inputs: map[string]string{"b": "s/b"}, When: `flat(b, "10s", 3) or age(b) > 8`, Do: alert("")},
			rules.Rule{ID: "after", Inputs: map[string]string{"a": "s/a"}, When: `rule("avg").firing and a > 0`, OnGap: rules.Count, For: 2 * time.Second, Do: alert("")},
			rules.Rule{
				ID: "acts", Inputs: map[string]string{"a": "s/a"}, When: "a > 4", Clear: "a < 3",
				Escalate: &rules.Escalate{After: 4 * time.Second, To: edgeagent.Critical},
				Do: []rules.Action{
					{Alert: &rules.Alert{Text: "{{.a}}", Priority: "high"}},
					{GPIO: &rules.GPIO{Pin: "relay1", Set: "high", MaxOn: 9 * time.Second, MinToggle: 2 * time.Second}},
					{Sample: &rules.Sample{Series: "s/*", Every: 100 * time.Millisecond, Limit: 7 * time.Second}},
					{Exec: &rules.Exec{Run: "go", Args: []string{"{{.a}}"}}},
				},
				Undo: []rules.Undo{{GPIO: &rules.GPIO{Pin: "relay1", Set: "low"}}},
			}),
	}}
}

// record is what an engine said and did, in order.
func record(events []edgeagent.Event, effects []rules.Effect, zero int64) (out []string) {
	for _, ev := range events {
		out = append(out, fmt.Sprint(time.Duration(ev.At.Wall-epochStart), " ", ev.ID, " ", ev.N, " ", ev.Attrs["state"], " ", ev.Severity, " ", ev.Text))
	}
	for _, x := range effects {
		what := ""
		switch {
		case x.Output != nil:
			what = fmt.Sprint(*x.Output)
		case x.Sample != nil:
			what = fmt.Sprint(*x.Sample)
		case x.Run != nil:
			what = fmt.Sprint(*x.Run)
		}
		out = append(out, fmt.Sprint(time.Duration(x.At.Run+zero), " ", x.Alarm, " ", what))
	}
	return out
}

// TestRestartAnywhereWithState cuts timelines everywhere: an engine that loads
// what another saved goes on as if nothing had been, byte for byte. With a new run
// the time of the run begins anew, and only new alarms bear it.
func TestRestartAnywhereWithState(t *testing.T) {
	make := func() *rules.Engine {
		e, err := rules.Compile(everything())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	cuts := 0
	for seed := range uint64(6) {
		steps := randomSteps(rand.New(rand.NewPCG(seed, 8)), 120)
		run := func(cut int, journal bool) []string {
			e := make()
			var out []string
			var snapshot, log []byte
			for i, s := range steps {
				if i == cut {
					if !journal {
						snapshot = e.Snapshot(nil)
					}
					e = make()
					if _, err := e.Load(snapshot, log, steps[i-1].at, true); err != nil {
						t.Fatal(err)
					}
					cuts++
				}
				events := e.Eval(nil, slices.Clone(s.readings))
				effects := e.Effects(nil)
				if i == cut { // the world is brought in line with the state: nothing new
					effects = slices.DeleteFunc(effects, func(x rules.Effect) bool { return x.Alarm == "" || x.Sample != nil && x.At == s.at })
				}
				out = append(out, record(events, effects, 0)...)
				log = e.Journal(log)
				if journal && i == cut-1 {
					snapshot, log = e.Snapshot(nil), nil
				}
			}
			return out
		}
		want := run(-1, false)
		if len(want) < 60 {
			t.Fatalf("seed %d: only %d lines", seed, len(want))
		}
		for cut := 1; cut < len(steps); cut += 3 {
			got := run(cut, cut%2 == 0)
			if diff := cmp.Diff(firsts(want), firsts(got)); diff != "" {
				t.Fatalf("seed %d, cut at %d:\n%s", seed, cut, diff)
			}
		}
	}
	if cuts < 100 {
		t.Errorf("only %d cuts", cuts)
	}
}

// firsts leaves the events alone: effects of the moment of the cut are taken out
// on one side only.
func firsts(lines []string) (out []string) {
	for _, l := range lines {
		if strings.Contains(l, "firing") || strings.Contains(l, "cleared") || strings.Contains(l, "escalated") {
			out = append(out, l)
		}
	}
	return out
}
