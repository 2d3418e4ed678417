package rules_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// killed plays an agent that stores every reading, and may be killed between any two.
type killed struct {
	t      *testing.T
	files  []rules.File
	dir    string
	stored []edgeagent.Reading
	engine *rules.Engine
	store  *rules.Store
	run    edgeagent.Run
	base   int64 // of the run
	alarms []edgeagent.Event
	out    strings.Builder
	refuse error // of reading what is stored
	forget bool  // nobody asks what is stored: the negative control
}

const killedEpoch = 1_700_000_000e9

func (k *killed) at(ns int64) edgeagent.Instant {
	return edgeagent.Instant{Wall: killedEpoch + ns, Run: ns - k.base}
}

// start begins a run at a moment, with what is on the disk.
func (k *killed) start(ns int64) {
	k.t.Helper()
	k.run++
	k.base = ns - 5e9
	e, err := rules.Compile(k.files)
	if err != nil {
		k.t.Fatal(err)
	}
	e.SetRun(k.run)
	if !k.forget {
		e.SetStored(func(since time.Time, take func([]edgeagent.Reading)) error {
			for i := range k.stored {
				if k.stored[i].At.Wall >= since.UnixNano() {
					take(k.stored[i : i+1])
				}
			}
			return k.refuse
		})
	}
	if k.store, err = rules.OpenStore(k.dir); err != nil {
		k.t.Fatal(err)
	}
	if _, err := k.store.Restore(e, k.at(ns), true); err != nil {
		k.t.Fatal(err)
	}
	e.Restore(k.alarms)
	k.engine = e
}

func (k *killed) step(ns int64, values map[string]float64) {
	k.t.Helper()
	var rs []edgeagent.Reading
	for _, name := range []string{"s/a", "s/b", "t/1", "t/2"} {
		if v, ok := values[name]; ok {
			rs = append(rs, edgeagent.Reading{Series: series(name), At: k.at(ns), Value: v})
		}
	}
	events := k.engine.Tick(nil, k.at(ns))
	if len(rs) > 0 {
		events = k.engine.Eval(events, rs)
	}
	k.alarms = append(k.alarms, events...)
	for _, ev := range events {
		fmt.Fprintf(&k.out, "%d %s %d %s %s\n", (ev.At.Wall-killedEpoch)/1e6, ev.Attrs["rule"], ev.N, ev.Attrs["state"], ev.Text)
	}
	for _, x := range k.engine.Effects(nil) {
		fmt.Fprintf(&k.out, "%d %s capture thinned=%v", (x.At.Wall-killedEpoch)/1e6, x.Rule, x.Capture.Thinned)
		for _, r := range x.Capture.Readings {
			fmt.Fprintf(&k.out, " %s=%v@%d", r.Series, r.Value, (r.At.Wall-killedEpoch)/1e9)
		}
		k.out.WriteString("\n")
	}
	if err := k.store.Step(k.engine); err != nil {
		k.t.Fatal(err)
	}
	for _, r := range rs { // as a block holds it
		k.stored = append(k.stored, edgeagent.Reading{Series: r.Series, Value: r.Value, At: edgeagent.Instant{Wall: r.At.Wall}})
	}
}

func killedRules() []rules.File {
	a := map[string]string{"a": "s/a", "b": "s/b"}
	only := map[string]string{"a": "s/a"}
	capture := []rules.Action{{Alert: &rules.Alert{Text: "{{.a}}", Capture: &rules.Capture{Before: 8 * time.Second, After: 6 * time.Second}}}}
	var list []rules.Rule
	for i, when := range []string{
		"a > 6 and b < 6", `avg(a, "20s") > 5`, `max(b, "n=7") < 8`, `delta(a, "10s") > 3`, `fraction(a > 5, "15s") > 0.6`, `count(a, "30s") < 20`,
		`flat(b, "12s", 2)`, "age(b) > 4", "prev(a, 2) > a + 4", `median(a, "25s") > 6`, "stale(b)",
	} {
		list = append(list, rules.Rule{ID: fmt.Sprint("r", i), Inputs: a, When: when, Do: alert("{{.a}} {{.b}}")})
	}
	list = append(list,
		rules.Rule{ID: "for", Inputs: only, When: "a > 4", For: 9 * time.Second, ClearFor: 4 * time.Second, StaleAfter: 3 * time.Second, Do: alert("")},
		rules.Rule{ID: "cool", Inputs: only, When: "a > 7", Cooldown: 20 * time.Second, Escalate: &rules.Escalate{After: 5 * time.Second, To: edgeagent.Critical}, Do: alert("")},
		rules.Rule{ID: "capture", Inputs: a, When: "a > 8 and b >= 0", Do: capture},
		rules.Rule{ID: "star", Inputs: map[string]string{"x": "t/*"}, When: `avg(x, "n=4") > 5`, For: 3 * time.Second, Do: alert("{{.x}}")},
	)
	return []rules.File{{Version: 1, Rules: list}}
}

// play feeds the same story whatever kills say.
func (k *killed) play(seed uint64, kill func(i int) bool) string {
	k.t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	level, silent := 5.0, 0
	for i := range 200 {
		ns := 10e9 + int64(i)*1e9
		if i == 0 {
			k.start(ns)
		}
		level = max(0, min(10, level+2*r.NormFloat64()))
		values := map[string]float64{"s/a": math.Round(level), "s/b": math.Round(10 * r.Float64()), "t/1": math.Round(level)}
		if silent--; silent > 0 {
			delete(values, "s/b")
		} else if r.IntN(20) == 0 {
			silent = 10
		}
		if i > 100 {
			values["t/2"] = math.Round(10 - level)
		}
		if i > 60 && i < 70 {
			values = nil
		}
		k.step(ns, values)
		if i%40 == 7 {
			if err := k.store.Checkpoint(k.engine); err != nil {
				k.t.Fatal(err)
			}
		}
		if kill(i) {
			k.start(ns)
		}
	}
	return k.out.String()
}

// TestKillsChangeNothing: kill -9 anywhere, and every alarm comes when it would have
// come, once; and so do captures, with the same readings.
func TestKillsChangeNothing(t *testing.T) {
	for seed := range uint64(12) {
		never := func(int) bool { return false }
		want := (&killed{t: t, files: killedRules(), dir: t.TempDir()}).play(seed, never)
		if strings.Count(want, "capture thinned=false") == 0 || strings.Count(want, "firing") < 20 {
			t.Fatalf("a dull story:\n%s", want)
		}
		r := rand.New(rand.NewPCG(seed, 6))
		got := (&killed{t: t, files: killedRules(), dir: t.TempDir()}).play(seed, func(i int) bool { return i > 7 && r.IntN(10) == 0 })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: killed (-never +sometimes):\n%s", seed, diff)
		}
	}
}

// TestWithoutWhatIsStored: the negative control, and a buffer that cannot be read:
// rules go on, and captures say that something is missing.
func TestWithoutWhatIsStored(t *testing.T) {
	for name, k := range map[string]*killed{
		"nobody asks":    {forget: true},
		"it breaks down": {refuse: errors.New("broken")},
	} {
		t.Run(name, func(t *testing.T) {
			k.t, k.files, k.dir = t, killedRules(), t.TempDir()
			got := k.play(3, func(i int) bool { return i%5 == 4 })
			if !strings.Contains(got, "capture thinned=true") || strings.Contains(got, "capture thinned=false") {
				t.Errorf("%s", got)
			}
			want := (&killed{t: t, files: killedRules(), dir: t.TempDir()}).play(3, func(int) bool { return false })
			if k.forget && got == want {
				t.Error("what is stored made no difference")
			}
		})
	}
}

// TestStoredReadingsOfOtherTimes: what the source dated, or a clock that was set, has
// no place.
func TestStoredReadingsOfOtherTimes(t *testing.T) {
	k := &killed{t: t, files: killedRules(), dir: t.TempDir()}
	k.start(10e9)
	k.step(10e9, map[string]float64{"s/a": 1})
	if err := k.store.Checkpoint(k.engine); err != nil {
		t.Fatal(err)
	}
	for _, wall := range []int64{math.MinInt64, -1, 0, 1, killedEpoch - 1e9, killedEpoch + 12e9, math.MaxInt64} {
		k.stored = append(k.stored, edgeagent.Reading{Series: series("s/a"), Value: 9, At: edgeagent.Instant{Wall: wall}})
	}
	k.start(11e9)
	k.step(11e9, map[string]float64{"s/a": 1})
	if got := k.out.String(); got != "" {
		t.Errorf("readings of another time fired:\n%s", got)
	}
}
