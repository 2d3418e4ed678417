package rules_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// effects plays a timeline and lists what was to be done, with the times.
func effects(t *testing.T, r rules.Rule, timeline string) string {
	t.Helper()
	e, err := rules.Compile([]rules.File{{Version: 1, Rules: []rules.Rule{r}, Exec: map[string]rules.Command{"valve": {Path: "/bin/valve", User: "nobody"}}}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range parseTimeline(t, timeline) {
		if len(s.readings) > 0 {
			e.Eval(nil, s.readings)
		} else {
			e.Tick(nil, s.at)
		}
		for _, x := range e.Effects(nil) {
			what := ""
			switch {
			case x.Output != nil:
				what = fmt.Sprint(x.Output.Pin, "=", x.Output.High)
			case x.Sample != nil:
				what = fmt.Sprint(x.Sample.Series, "@", x.Sample.Every)
			case x.Run != nil:
				what = fmt.Sprint(x.Run.Path, x.Run.Args, x.Run.Timeout, x.Run.MaxParallel)
			case x.Capture != nil:
				var values []float64
				for _, r := range x.Capture.Readings {
					values = append(values, r.Value)
				}
				what = fmt.Sprint("capture ", values, " ", x.Capture.Thinned)
			}
			out = append(out, fmt.Sprint(time.Duration(x.At.Run), " ", what))
		}
	}
	return strings.Join(out, "; ")
}

func TestActions(t *testing.T) {
	gpio := func(g rules.GPIO, undo ...rules.Undo) func(*rules.Rule) {
		return func(r *rules.Rule) { r.Do, r.Undo = []rules.Action{{GPIO: &g}}, undo }
	}
	low := rules.Undo{GPIO: &rules.GPIO{Pin: "p", Set: "low"}}
	tests := []struct {
		name           string
		change         func(*rules.Rule)
		timeline, want string
	}{
		{"an output follows its rule", gpio(rules.GPIO{Pin: "p", Set: "high"}, low), "0s s/x=9\n5s s/x=1\n7s s/x=9", "0s p=true; 5s p=false; 7s p=true"},
		{"max_on ends it by itself", gpio(rules.GPIO{Pin: "p", Set: "high", MaxOn: 3 * time.Second}, low), "0s s/x=9\n5s s/x=9\n6s s/x=1\n7s s/x=9", "0s p=true; 3s p=false; 7s p=true"},
		{"max_on is also kept by a late tick", gpio(rules.GPIO{Pin: "p", Set: "high", MaxOn: 3 * time.Second}), "0s s/x=9\n60s tick", "0s p=true; 3s p=false"},
		{
			"min_toggle: a change waits, the last one wins",
			gpio(rules.GPIO{Pin: "p", Set: "high", MinToggle: 10 * time.Second}, rules.Undo{GPIO: &rules.GPIO{Pin: "p", Set: "low", MinToggle: 10 * time.Second}}),
			"0s s/x=9\n1s s/x=1\n2s s/x=9\n3s s/x=1\n30s tick", "0s p=true; 10s p=false",
		},
		{
			"min_toggle is about the output, whoever drives it",
			gpio(rules.GPIO{Pin: "p", Set: "high", MinToggle: 10 * time.Second}, low),
			"0s s/x=9\n1s s/x=1\n30s s/x=9\n31s s/x=1\n60s tick", "0s p=true; 10s p=false; 30s p=true; 40s p=false",
		},
		{
			"max_on goes before min_toggle",
			gpio(rules.GPIO{Pin: "p", Set: "high", MaxOn: 3 * time.Second, MinToggle: 10 * time.Second}, low),
			"0s s/x=9\n4s s/x=1\n5s s/x=9\n60s tick", "0s p=true; 3s p=false; 13s p=true; 16s p=false",
		},
		{"faster sampling ends with the alarm", func(r *rules.Rule) {
			r.Do = []rules.Action{{Sample: &rules.Sample{Series: "s/*", Every: time.Second}}}
		}, "0s s/x=9\n5s s/x=1", "0s s/*@1s; 5s s/*@0s"},
		{"faster sampling has a limit", func(r *rules.Rule) {
			r.Do = []rules.Action{{Sample: &rules.Sample{Series: "s/*", Every: time.Second, Limit: 4 * time.Second}}}
		}, "0s s/x=9\n50s s/x=1", "0s s/*@1s; 4s s/*@0s"},
		{"a program gets its arguments", func(r *rules.Rule) {
			r.Do = []rules.Action{{Exec: &rules.Exec{Run: "valve", Args: []string{"{{.series}}", "{{.x}}; rm"}}}}
		}, "0s s/x=9", "0s /bin/valve[s/x 9; rm] 10s 1"},
		{"a capture has what came before and after", func(r *rules.Rule) {
			r.Do[0].Alert.Capture = &rules.Capture{Before: 2 * time.Second, After: 2 * time.Second}
		}, "0s s/x=1\n1s s/x=2\n2s s/x=3\n3s s/x=9\n4s s/x=4\n5s s/x=5\n6s s/x=6", "5s capture [2 3 9 4 5] false"},
		{"a capture that does not fit says so", func(r *rules.Rule) {
			r.Do[0].Alert.Capture = &rules.Capture{Before: time.Hour, Readings: 16}
		}, strings.Repeat("1s s/x=1\n", 30) + "2s s/x=9\n3s tick", "2s capture [" + strings.Repeat("1 ", 15) + "9] true"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := effects(t, rule1("x > 5", tt.change), tt.timeline); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestOutputs(t *testing.T) {
	e := engineOf(t, rule1("x > 5", func(r *rules.Rule) {
		r.Do = []rules.Action{{GPIO: &rules.GPIO{Pin: "p", Set: "high", OnExit: "low"}}, {GPIO: &rules.GPIO{Pin: "a", Set: "low"}}}
	}))(1)
	e.Eval(nil, []edgeagent.Reading{{Series: series("s/x"), Value: 9}})
	want := []rules.Output{{Pin: "a", Known: true}, {Pin: "p", OnExit: "low", High: true, Known: true}}
	if diff := cmp.Diff(want, e.Outputs()); diff != "" {
		t.Error(diff)
	}
	next := engineOf(t, rule1("x > 5", func(r *rules.Rule) {
		r.Do = []rules.Action{{GPIO: &rules.GPIO{Pin: "p", Set: "high"}}, {GPIO: &rules.GPIO{Pin: "a", Set: "low"}}}
	}))(2)
	if _, err := next.Load(e.Snapshot(nil), nil, edgeagent.Instant{}, true); err != nil {
		t.Fatal(err)
	}
	next.Tick(nil, edgeagent.Instant{Run: 1})
	if got := next.Effects(nil); len(got) != 2 || !got[0].Output.High {
		t.Errorf("after a restart the outputs are not driven anew: %+v", got)
	}
}

func TestEffectsAreBounded(t *testing.T) {
	e := engineOf(t, rule1("x > 5", func(r *rules.Rule) { r.Do = []rules.Action{{GPIO: &rules.GPIO{Pin: "p", Set: "high"}}} }, func(r *rules.Rule) {
		r.Undo = []rules.Undo{{GPIO: &rules.GPIO{Pin: "p", Set: "low"}}}
	}))(1)
	for i := range rules.MaxEffects + 10 {
		e.Eval(nil, []edgeagent.Reading{{Series: series("s/x"), At: edgeagent.Instant{Run: int64(i)}, Value: float64(i % 2 * 9)}})
	}
	if got := e.Effects(nil); len(got) != rules.MaxEffects || e.Stats().EffectsDropped != 9 || len(e.Effects(nil)) != 0 {
		t.Errorf("%d effects, %d dropped", len(got), e.Stats().EffectsDropped)
	}
}

func TestMemoryIsRefused(t *testing.T) {
	star := rules.Rule{ID: "r", Inputs: map[string]string{"v": "*/v"}, When: `avg(v, "1h") > 1`, Do: alert("")}
	if _, err := (rules.Options{Memory: 1000}).Compile([]rules.File{{Version: 1, Rules: []rules.Rule{star}}}); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("got %v", err)
	}
	if err := (rules.File{Version: 1, Memory: 1000, Rules: []rules.Rule{star}}).Validate(); err == nil {
		t.Error("a file over its own bound is taken")
	}
	e, err := rules.Options{Memory: 64 << 10}.Compile([]rules.File{{Version: 1, Rules: []rules.Rule{star}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		e.Eval(nil, []edgeagent.Reading{{Series: series(fmt.Sprint(i, "/v")), Value: 9}})
	}
	s := e.Stats()
	if s.RefusedMemory == 0 || s.Memory > 64<<10 || s.Instances == 0 || s.Instances == 100 || e.Health().Code != "rules-memory" {
		t.Errorf("%+v, %+v", s, e.Health())
	}
	if c := e.Costs(); len(c) != 1 || c[0].Bytes < 4000 || !c[0].Many {
		t.Errorf("%+v", c)
	}
}

// world plays an agent that may be cut off between any two of its writes: the alarm
// record first, then the journal.
type world struct {
	t      *testing.T
	files  []rules.File
	dir    string
	alarms []edgeagent.Event // durable
	engine *rules.Engine
	store  *rules.Store
	run    edgeagent.Run
	base   int64
}

func (w *world) start(at edgeagent.Instant) {
	w.t.Helper()
	w.run++
	w.base = at.Run
	e, err := rules.Compile(w.files)
	if err != nil {
		w.t.Fatal(err)
	}
	e.SetRun(w.run)
	if w.store, err = rules.OpenStore(w.dir); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Restore(e, w.at(at), false); err != nil {
		w.t.Fatal(err)
	}
	e.Restore(slices.Clone(w.alarms))
	w.engine = e
}

func (w *world) at(at edgeagent.Instant) edgeagent.Instant {
	return edgeagent.Instant{Wall: at.Wall, Run: at.Run - w.base}
}

// step feeds readings; crash says after what the power goes: 0 nothing is written,
// 1 the alarms are, 2 the journal is, too.
func (w *world) step(s step, crash int) {
	rs := slices.Clone(s.readings)
	for i := range rs {
		rs[i].At = w.at(rs[i].At)
	}
	events := w.engine.Eval(nil, rs)
	if crash >= 1 {
		w.alarms = append(w.alarms, events...)
	}
	if crash >= 2 {
		if err := w.store.Step(w.engine); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestCrashesBetweenAlarmAndJournal: wherever the power goes, no alarm is raised or
// cleared twice, and when all is calm nothing fires.
func TestCrashesBetweenAlarmAndJournal(t *testing.T) {
	files := []rules.File{{Version: 1, Rules: append(zoo(), rules.Rule{
		ID: "esc", Inputs: map[string]string{"a": "s/a"}, When: "a > 5", Clear: "a < 2", Escalate: &rules.Escalate{After: 3 * time.Second, To: edgeagent.Critical}, Do: alert(""),
	})}}
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 11))
		steps := closingSteps(randomSteps(r, 60))
		w := &world{t: t, files: files, dir: t.TempDir()}
		w.start(steps[0].at)
		for i, s := range steps {
			crash := 2
			if i < 60 && r.IntN(6) == 0 {
				crash = r.IntN(3)
			}
			w.step(s, crash)
			if i < 60 && (crash < 2 || r.IntN(20) == 0) {
				if r.IntN(3) == 0 && crash == 2 {
					if err := w.store.Checkpoint(w.engine); err != nil {
						t.Fatal(err)
					}
				}
				w.start(s.at)
			}
		}
		open := map[string]uint32{}
		for _, ev := range w.alarms {
			if ev.N != open[ev.ID]+1 {
				t.Fatalf("seed %d: %s: transition %d after %d\n%s", seed, ev.ID, ev.N, open[ev.ID], render(w.alarms))
			}
			open[ev.ID] = ev.N
			if ev.Attrs["state"] == edgeagent.AlarmCleared {
				open[ev.ID] = 1 << 30
			}
		}
		for id, n := range open {
			if n != 1<<30 {
				t.Errorf("seed %d: %s still fires at the end\n%s", seed, id, render(w.alarms))
			}
		}
	}
}

func TestLostAlarmRecordsAreRaisedAgain(t *testing.T) {
	make := engineOf(t, zoo()[0])
	e := make(1)
	first := e.Eval(nil, []edgeagent.Reading{{Series: series("s/a"), At: edgeagent.Instant{Run: 1e9}, Value: 9}})
	journal := e.Journal(nil)
	next := make(2)
	if _, err := next.Load(nil, journal, edgeagent.Instant{}, false); err != nil {
		t.Fatal(err)
	}
	next.Restore(nil) // the buffer lost its alarms
	got := next.Tick(nil, edgeagent.Instant{Run: 5})
	if len(got) != 1 || got[0].ID != first[0].ID || got[0].N != 1 || got[0].Attrs["state"] != edgeagent.AlarmFiring {
		t.Errorf("got %v", got)
	}
	if again := next.Tick(nil, edgeagent.Instant{Run: 6}); len(again) > 0 {
		t.Errorf("raised twice: %v", again)
	}
}

func TestEditedRulesBeginAnewAlone(t *testing.T) {
	rs := zoo()[:2]
	e := engineOf(t, rs...)(1)
	e.Eval(nil, []edgeagent.Reading{{Series: series("s/a"), At: edgeagent.Instant{Run: 1e9}, Value: 9}})
	e.Eval(nil, []edgeagent.Reading{{Series: series("s/a"), At: edgeagent.Instant{Run: 5e9}, Value: 9}})
	for name, edit := range map[string]func(*rules.Rule){
		"condition": func(r *rules.Rule) { r.When = "a > 6" },
		"text":      func(r *rules.Rule) { r.Do = alert("other words") },
	} {
		changed := slices.Clone(rs)
		edit(&changed[1])
		next := engineOf(t, changed...)(1)
		loaded, err := next.Load(e.Snapshot(nil), nil, edgeagent.Instant{Run: 6e9}, true)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"condition": 1}[name]; loaded.Reset != want {
			t.Errorf("%s: %d rules began anew, want %d", name, loaded.Reset, want)
		}
		s := next.States()
		if s[0].State != rules.Firing {
			t.Errorf("%s: the other rule is %s", name, s[0].State)
		}
		if want := map[string]rules.Phase{"condition": rules.Unknown, "text": rules.Pending}[name]; s[1].State != want {
			t.Errorf("%s: the rule is %s, want %s", name, s[1].State, want)
		}
	}
}

// TestDowntime: what a time in which nobody looked does.
func TestDowntime(t *testing.T) {
	const down = 100 * time.Second
	tests := []struct {
		name, when string
		gap        rules.Gap
		want       string // after the restart
	}{
		{"hold: the time before is kept", "x > 5", rules.Hold, "+1m46s"},
		{"count: the downtime held, too", "x > 5", rules.Count, "+1m45s"},
		{"reset: begins anew", "x > 5", rules.Reset, "+1m55s"},
		{"ages do not grow while nobody listens", "age(x) > 6", rules.Hold, "+1m56.000000001s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			make := engineOf(t, rule1(tt.when, func(r *rules.Rule) { r.For, r.OnGap = 10*time.Second, tt.gap }))
			e := make(1)
			at := func(s float64) edgeagent.Instant {
				return edgeagent.Instant{Wall: epochStart + int64(s*1e9), Run: int64(s * 1e9)}
			}
			e.Eval(nil, []edgeagent.Reading{{Series: series("s/x"), At: at(0), Value: 9}})
			e.Tick(nil, at(4))
			e.Tick(nil, at(5))
			next := make(2)
			start := edgeagent.Instant{Wall: at(5).Wall + int64(down)}
			if loaded, err := next.Load(e.Snapshot(nil), nil, start, true); err != nil || loaded.Down != down {
				t.Fatal(loaded, err)
			}
			var events []edgeagent.Event
			for s := range 30 {
				now := edgeagent.Instant{Wall: start.Wall + int64(s)*1e9, Run: int64(s) * 1e9}
				if s == 1 && tt.when == "x > 5" {
					events = next.Eval(events, []edgeagent.Reading{{Series: series("s/x"), At: now, Value: 9}})
				}
				events = next.Tick(events, now)
			}
			if got := brief(events); tt.gap == rules.Hold && strings.HasPrefix(tt.when, "x") {
				if got != "+1m50s" {
					t.Errorf("got %s", got)
				}
			} else if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDamagedStateIsSetAside(t *testing.T) {
	dir := t.TempDir()
	w := &world{t: t, files: []rules.File{{Version: 1, Rules: zoo()}}, dir: dir}
	w.start(edgeagent.Instant{})
	w.step(step{readings: []edgeagent.Reading{{Series: series("s/a"), Value: 9}}}, 2)
	if err := w.store.Checkpoint(w.engine); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "snapshot")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(edgeagent.Instant{Run: 5e9})
	events := w.engine.Tick(nil, edgeagent.Instant{Run: 1})
	var got []string
	for _, ev := range events {
		got = append(got, ev.ID+" "+ev.Attrs["state"])
	}
	want := []string{"state-of-rules/-/00000002-0 firing", "state-of-rules/-/00000002-0 cleared"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "snapshot.damaged")); err != nil {
		t.Error(err)
	}
	if err := w.store.Step(w.engine); err != nil {
		t.Fatal(err)
	}
	w.start(edgeagent.Instant{Run: 6e9})
	if got := w.engine.Tick(nil, edgeagent.Instant{Run: 1}); len(got) > 0 {
		t.Errorf("said again: %v", got)
	}
}

// TestTornJournal: whatever is left of a journal is used, and goes on.
func TestTornJournal(t *testing.T) {
	dir := t.TempDir()
	w := &world{t: t, files: []rules.File{{Version: 1, Rules: zoo()[:1]}}, dir: dir}
	w.start(edgeagent.Instant{})
	for i := range 6 {
		at := edgeagent.Instant{Run: int64(i) * 1e9}
		w.step(step{at: at, readings: []edgeagent.Reading{{Series: series("s/a"), At: at, Value: float64(i % 2 * 9)}}}, 2)
	}
	path := filepath.Join(dir, "journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n += 7 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := rules.Compile(w.files)
		if err != nil {
			t.Fatal(err)
		}
		s, err := rules.OpenStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Restore(e, edgeagent.Instant{}, false); err != nil {
			t.Fatalf("journal of %d bytes: %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "snapshot")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a torn journal was taken for a damaged state")
	}
}

// FuzzLoad: whatever stands in the files, Load ends, and an engine that took it
// works.
func FuzzLoad(f *testing.F) {
	e, err := rules.Compile(everything())
	if err != nil {
		f.Fatal(err)
	}
	var journal []byte
	for _, s := range randomSteps(rand.New(rand.NewPCG(1, 2)), 40) {
		e.Eval(nil, s.readings)
		journal = e.Journal(journal)
	}
	f.Add(e.Snapshot(nil), journal)
	f.Add([]byte("ERS\x01"), []byte{})
	f.Fuzz(func(t *testing.T, snapshot, journal []byte) {
		e, err := rules.Compile(everything())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Load(rules.Resum(snapshot), journal, edgeagent.Instant{}, true); err != nil {
			return
		}
		at := edgeagent.Instant{Run: 1e9}
		e.Eval(nil, []edgeagent.Reading{{Series: series("s/a"), At: at, Value: 1}, {Series: series("s/b"), At: at, Value: 1}})
		if e.Snapshot(nil); e.Stats().Stuck > 0 {
			t.Fatal("a timer is due for ever")
		}
	})
}

func TestShapes(t *testing.T) {
	shape := func(change func(*rules.Shape)) rules.Shape {
		s := rules.Shape{Inputs: map[string]string{"x": "s/x"}}
		change(&s)
		return s
	}
	tests := []struct {
		name, timeline, want string
		shape                rules.Shape
	}{
		{"deadband against what was sent", every(time.Second, 1, 1.1, 1.15, 1.2, 1.3, 1), "1 1.2 1", shape(func(s *rules.Shape) { s.Deadband = &rules.Deadband{Abs: 0.2} })},
		{"deadband against what was seen", every(time.Second, 1, 1.1, 1.2, 1.3, 2, 2), "1 2", shape(func(s *rules.Shape) { s.Deadband = &rules.Deadband{Abs: 0.2, Against: "seen"} })},
		{"deadband in percent", every(time.Second, 100, 104, 106, 108, 112), "100 106 112", shape(func(s *rules.Shape) { s.Deadband = &rules.Deadband{Percent: 5} })},
		{"silence has an end", every(time.Second, 1, 1, 1, 1, 1), "1 1", shape(func(s *rules.Shape) { s.Deadband = &rules.Deadband{Abs: 9, MaxSilence: 3 * time.Second} })},
		{"quality counts", "0s s/x=1\n1s s/x=1!bad\n2s s/x=1!bad\n3s s/x=1", "1 1 1", shape(func(s *rules.Shape) { s.Deadband = &rules.Deadband{Abs: 9} })},
		{"on change", every(time.Second, 1, 1, 2, 2, 1), "1 2 1", shape(func(s *rules.Shape) { s.OnChange = true })},
		{"NaN comes and goes", every(time.Second, 1, nan, nan, 1), "1 NaN 1", shape(func(s *rules.Shape) { s.OnChange = true })},
		{"tumbling", every(time.Second, 1, 2, 3, 4, 5), "2=x_avg 3=x_max 3=x_count 4.5=x_avg 5=x_max 2=x_count", shape(func(s *rules.Shape) {
			s.Downsample = &rules.Downsample{Window: rules.Pieces{Length: 3 * time.Second}, Emit: []string{"avg", "max", "count"}}
		})},
		{"session", "0s s/x=1\n1s s/x=2\n9s s/x=3", "3=x_sum 3=x_sum", shape(func(s *rules.Shape) {
			s.Downsample = &rules.Downsample{Window: rules.Pieces{Length: 5 * time.Second, Session: true}, Emit: []string{"sum"}}
		})},
		{"others pass", "0s s/y=1\n1s s/y=1", "1 1", shape(func(s *rules.Shape) { s.OnChange = true })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := rules.NewShaper([]rules.File{{Version: 1, Shape: []rules.Shape{tt.shape}}})
			if err != nil {
				t.Fatal(err)
			}
			var out []edgeagent.Reading
			for _, st := range parseTimeline(t, tt.timeline) {
				if at, ok := s.NextTimer(); ok && int64(at) <= st.at.Run {
					out = s.Tick(out, st.at)
				}
				out = s.Shape(out, st.readings)
			}
			out = s.Flush(out)
			var got []string
			for _, r := range out {
				word := fmt.Sprint(r.Value)
				if m := r.Series.Key().Metric; strings.Contains(m, "_") {
					word += "=" + m
				}
				got = append(got, word)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %s, want %s", strings.Join(got, " "), tt.want)
			}
			if st := s.Stats(); int(st.Out) != len(out) {
				t.Errorf("%+v, %d passed on", st, len(out))
			}
		})
	}
}
