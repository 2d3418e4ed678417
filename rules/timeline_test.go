package rules_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

// epochStart is the wall time of run time 0 in every timeline.
var nan = math.NaN()

var epochStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()

// step is one line of a timeline: readings of one instant, a tick, or a restart.
type step struct {
	at       edgeagent.Instant
	readings []edgeagent.Reading
	restart  bool
}

// parseTimeline reads lines such as
//
//	10s  boiler/temp=81 boiler/load=0.5!bad
//	12s  tick
//	12s  restart
func parseTimeline(t testing.TB, text string) []step {
	t.Helper()
	var steps []step
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		run, err := time.ParseDuration(words[0])
		if err != nil {
			t.Fatal(err)
		}
		s := step{at: edgeagent.Instant{Wall: epochStart + int64(run), Run: int64(run)}}
		for _, w := range words[1:] {
			switch w {
			case "tick":
			case "restart":
				s.restart = true
			default:
				s.readings = append(s.readings, parseReading(t, w, s.at))
			}
		}
		steps = append(steps, s)
	}
	return steps
}

func parseReading(t testing.TB, word string, at edgeagent.Instant) edgeagent.Reading {
	t.Helper()
	name, rest, _ := strings.Cut(word, "=")
	value, quality, _ := strings.Cut(rest, "!")
	v, err := strconv.ParseFloat(value, 64)
	if err != nil {
		t.Fatal(err)
	}
	return edgeagent.Reading{
		Series:  series(name),
		At:      at,
		Value:   v,
		Quality: map[string]edgeagent.Quality{"": edgeagent.Good, "suspect": edgeagent.Suspect, "stale": edgeagent.Stale, "bad": edgeagent.Bad}[quality],
	}
}

func series(name string) edgeagent.Series {
	sensor, metric := edgeagent.SplitName(name)
	return edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: metric})
}

// maker compiles the engine of a timeline anew, for each run.
type maker func(run edgeagent.Run) *rules.Engine

func engineOf(t testing.TB, rs ...rules.Rule) maker {
	t.Helper()
	return func(run edgeagent.Run) *rules.Engine {
		e, err := rules.Compile([]rules.File{{Version: 1, Rules: rs}})
		if err != nil {
			t.Fatal(err)
		}
		e.SetRun(run)
		return e
	}
}

// play feeds a timeline and returns all alarm events. A restart makes a new engine
// under the next run, restores what the first said, and starts run time at 0.
func play(make maker, steps []step) ([]edgeagent.Event, *rules.Engine) {
	run, e, base := edgeagent.Run(1), make(1), int64(0)
	var out []edgeagent.Event
	for _, s := range steps {
		at := edgeagent.Instant{Wall: s.at.Wall, Run: s.at.Run - base}
		switch {
		case s.restart:
			run++
			base = s.at.Run
			e = make(run)
			e.Restore(slices.Clone(out))
		case len(s.readings) > 0:
			rs := slices.Clone(s.readings)
			for i := range rs {
				rs[i].At = at
			}
			out = e.Eval(out, rs)
		default:
			out = e.Tick(out, at)
		}
	}
	return out, e
}

// render writes one line per event: wall time since the start, id, n, state,
// severity, series, text.
func render(events []edgeagent.Event) string {
	var b strings.Builder
	for _, ev := range events {
		fmt.Fprintf(&b, "%gs %s n=%d %s %s %s %q\n", time.Duration(ev.At.Wall-epochStart).Seconds(), ev.ID, ev.N, ev.Attrs["state"], ev.Severity, ev.Series, ev.Text)
	}
	return b.String()
}

func alert(text string) []rules.Action {
	return []rules.Action{{Alert: &rules.Alert{Text: text}}}
}

// dedent removes the indentation and empty lines of a table in the source.
func dedent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func TestTimelines(t *testing.T) {
	hot := rules.Rule{
		ID:     "hot",
		Inputs: map[string]string{"temp": "boiler/temp"},
		When:   "temp > 80",
		Do:     alert("{{.temp}} degC"),
	}
	with := func(r rules.Rule, change func(*rules.Rule)) rules.Rule {
		change(&r)
		return r
	}
	held := with(hot, func(r *rules.Rule) { r.For = 30 * time.Second })
	hysteresis := with(hot, func(r *rules.Rule) {
		r.Clear, r.ClearFor, r.Severity = "temp < 75", time.Minute, new(edgeagent.Critical)
	})
	both := rules.Rule{
		ID:     "both",
		Inputs: map[string]string{"a": "s/a", "b": "s/b"},
		When:   "b - a > 2",
		Do:     alert("{{.rule}} {{.instance}} {{.series}}: {{ .b }} - {{.a}}"),
	}
	pumps := rules.Rule{
		ID:     "pumps",
		Inputs: map[string]string{"vib": "hall/pump-*/vib", "amps": "hall/pump-*/amps", "limit": "hall/limit"},
		When:   "vib > limit and amps > 1",
		Do:     alert("pump {{.instance}}: {{.vib}} over {{.limit}}"),
	}
	silent := rules.Rule{
		ID: "silent", Inputs: map[string]string{"t": "cold/temp"}, When: "not known(t)",
		For: 5 * time.Second, StaleAfter: 10 * time.Second, Do: alert("no word from {{.series}}"),
	}
	tests := []struct {
		name     string
		rules    []rules.Rule
		timeline string
		want     string
	}{
		{
			"fires once and clears once", []rules.Rule{hot}, `
			0s boiler/temp=70
			1s boiler/temp=81
			2s boiler/temp=82
			3s boiler/temp=80
			4s boiler/temp=79
			5s boiler/temp=90`, `
			1s hot/-/00000001-1000 n=1 firing warning boiler/temp "81 degC"
			3s hot/-/00000001-1000 n=2 cleared warning boiler/temp "80 degC"
			5s hot/-/00000001-5000 n=1 firing warning boiler/temp "90 degC"`,
		},
		{
			"for: dated at the deadline, by the next reading", []rules.Rule{held}, `
			0s boiler/temp=70
			10s boiler/temp=81
			39s boiler/temp=81
			42s boiler/temp=70`, `
			40s hot/-/00000001-10000 n=1 firing warning boiler/temp "81 degC"
			42s hot/-/00000001-10000 n=2 cleared warning boiler/temp "70 degC"`,
		},
		{
			"for: dated at the deadline, by a late tick", []rules.Rule{held}, `
			10s boiler/temp=81
			41.5s tick`, `
			40s hot/-/00000001-10000 n=1 firing warning boiler/temp "81 degC"`,
		},
		{
			"for: a dip begins anew", []rules.Rule{held}, `
			0s boiler/temp=81
			20s boiler/temp=79
			21s boiler/temp=81
			50s boiler/temp=81
			51s boiler/temp=81`, `
			51s hot/-/00000001-21000 n=1 firing warning boiler/temp "81 degC"`,
		},
		{
			"for: a dip at the very deadline is in time", []rules.Rule{held}, `
			0s boiler/temp=81
			30s boiler/temp=79
			60s tick`, ``,
		},
		{
			"for: unknown stops the clock and keeps the time", []rules.Rule{held}, `
			0s boiler/temp=81
			20s boiler/temp=0!bad
			100s boiler/temp=81
			109s tick
			110s tick`, `
			110s hot/-/00000001-0 n=1 firing warning boiler/temp "81 degC"`,
		},
		{
			"unknown neither fires nor clears", []rules.Rule{hot}, `
			0s boiler/temp=99!bad
			1s boiler/temp=99!stale
			2s boiler/temp=NaN
			3s boiler/temp=81!suspect
			4s boiler/temp=0!bad
			5s boiler/temp=0!stale
			6s boiler/temp=NaN
			7s boiler/temp=85
			8s boiler/temp=70`, `
			3s hot/-/00000001-3000 n=1 firing warning boiler/temp "81 degC"
			8s hot/-/00000001-3000 n=2 cleared warning boiler/temp "70 degC"`,
		},
		{
			"infinite is over", []rules.Rule{hot}, `
			0s boiler/temp=+Inf`, `
			0s hot/-/00000001-0 n=1 firing warning boiler/temp "+Inf degC"`,
		},
		{
			"hysteresis", []rules.Rule{hysteresis}, `
			0s boiler/temp=81
			10s boiler/temp=76
			20s boiler/temp=74
			79s boiler/temp=75.5
			80s boiler/temp=74
			139.9s boiler/temp=74
			140s boiler/temp=74`, `
			0s hot/-/00000001-0 n=1 firing critical boiler/temp "81 degC"
			140s hot/-/00000001-0 n=2 cleared critical boiler/temp "74 degC"`,
		},
		{
			"clear_for: unknown stops the clock, when brings back", []rules.Rule{hysteresis}, `
			0s boiler/temp=81
			10s boiler/temp=74
			40s boiler/temp=0!bad
			100s boiler/temp=74
			120s boiler/temp=85
			130s boiler/temp=74
			190s tick`, `
			0s hot/-/00000001-0 n=1 firing critical boiler/temp "81 degC"
			190s hot/-/00000001-0 n=2 cleared critical boiler/temp "74 degC"`,
		},
		{
			"a clear that overlaps when does not flap", []rules.Rule{with(hot, func(r *rules.Rule) { r.Clear = "temp < 90" })}, `
			0s boiler/temp=85
			1s boiler/temp=86
			2s boiler/temp=79`, `
			0s hot/-/00000001-0 n=1 firing warning boiler/temp "85 degC"
			2s hot/-/00000001-0 n=2 cleared warning boiler/temp "79 degC"`,
		},
		{
			"a clear that is never true latches", []rules.Rule{with(hot, func(r *rules.Rule) { r.Clear = "false" })}, `
			0s boiler/temp=85
			2s boiler/temp=79
			3s boiler/temp=85`, `
			0s hot/-/00000001-0 n=1 firing warning boiler/temp "85 degC"`,
		},
		{
			"alarms of one instant have their own ids", []rules.Rule{hot}, `
			1s boiler/temp=85
			1s boiler/temp=70
			1s boiler/temp=85 boiler/temp=70 boiler/temp=90`, `
			1s hot/-/00000001-1000 n=1 firing warning boiler/temp "85 degC"
			1s hot/-/00000001-1000 n=2 cleared warning boiler/temp "70 degC"
			1s hot/-/00000001-1001 n=1 firing warning boiler/temp "85 degC"
			1s hot/-/00000001-1001 n=2 cleared warning boiler/temp "70 degC"
			1s hot/-/00000001-1002 n=1 firing warning boiler/temp "90 degC"`,
		},
		{
			"readings of one instant are taken together", []rules.Rule{both}, `
			0s s/a=10 s/b=11
			1s s/b=20 s/a=19
			2s s/a=10 s/b=20`, `
			2s both/-/00000001-2000 n=1 firing warning s/b "both - s/b: 20 - 10"`,
		},
		{
			"an input that never spoke keeps a rule unknown", []rules.Rule{both}, `
			0s s/b=20
			60s tick
			61s s/a=1`, `
			61s both/-/00000001-61000 n=1 firing warning s/b "both - s/b: 20 - 1"`,
		},
		{
			"a late reading counts when it comes", []rules.Rule{hot}, `
			10s boiler/temp=70
			5s boiler/temp=85
			6s boiler/temp=70`, `
			5s hot/-/00000001-10000 n=1 firing warning boiler/temp "85 degC"
			6s hot/-/00000001-10000 n=2 cleared warning boiler/temp "70 degC"`,
		},
		{
			"a star makes instances, with a shared input from before", []rules.Rule{pumps}, `
			0s hall/limit=5
			1s hall/pump-1/vib=6 hall/pump-1/amps=2
			2s hall/pump-2/vib=7
			3s hall/pump-2/amps=3
			4s hall/limit=6.5
			5s hall/pump-2/amps=0
			6s hall/pump-/vib=9 hall/pump-a/b/vib=9 other/pump-1/vib=9`, `
			1s pumps/1/00000001-1000 n=1 firing warning hall/pump-1/vib "pump 1: 6 over 5"
			3s pumps/2/00000001-3000 n=1 firing warning hall/pump-2/vib "pump 2: 7 over 5"
			4s pumps/1/00000001-1000 n=2 cleared warning hall/pump-1/vib "pump 1: 6 over 6.5"
			5s pumps/2/00000001-3000 n=2 cleared warning hall/pump-2/vib "pump 2: 7 over 6.5"`,
		},
		{
			"silence fires without a reading, and after one", []rules.Rule{silent}, `
			0s tick
			4s tick
			7s cold/temp=3
			16s cold/temp=3
			40s tick
			41s cold/temp=4`, `
			5s silent/-/00000001-0 n=1 firing warning cold/temp "no word from cold/temp"
			7s silent/-/00000001-0 n=2 cleared warning cold/temp "no word from cold/temp"
			31s silent/-/00000001-26000 n=1 firing warning cold/temp "no word from cold/temp"
			41s silent/-/00000001-26000 n=2 cleared warning cold/temp "no word from cold/temp"`,
		},
		{
			"an aged value is unknown and stops the clock", []rules.Rule{with(held, func(r *rules.Rule) { r.StaleAfter = 10 * time.Second })}, `
			0s boiler/temp=81
			8s boiler/temp=81
			100s boiler/temp=81
			105s boiler/temp=81
			113s tick`, `
			112s hot/-/00000001-0 n=1 firing warning boiler/temp "81 degC"`,
		},
		{
			"what held up to the moment of aging has held", []rules.Rule{with(held, func(r *rules.Rule) { r.StaleAfter = 30 * time.Second })}, `
			0s boiler/temp=81
			60s tick`, `
			30s hot/-/00000001-0 n=1 firing warning boiler/temp "81 degC"`,
		},
		{
			"one reading, several rules: in the order of the rules", []rules.Rule{
				with(hot, func(r *rules.Rule) { r.ID = "plain" }),
				with(hot, func(r *rules.Rule) { r.ID, r.Inputs = "star", map[string]string{"temp": "*/temp"} }),
				with(hot, func(r *rules.Rule) { r.ID = "again" }),
			}, `
			0s boiler/temp=81`, `
			0s plain/-/00000001-0 n=1 firing warning boiler/temp "81 degC"
			0s star/boiler/00000001-0 n=1 firing warning boiler/temp "81 degC"
			0s again/-/00000001-0 n=1 firing warning boiler/temp "81 degC"`,
		},
		{
			"restart: goes on firing, clears under its id", []rules.Rule{hot}, `
			0s boiler/temp=81
			1s restart
			2s tick
			3s boiler/temp=85
			4s boiler/temp=70
			5s boiler/temp=85`, `
			0s hot/-/00000001-0 n=1 firing warning boiler/temp "81 degC"
			4s hot/-/00000001-0 n=2 cleared warning boiler/temp "70 degC"
			5s hot/-/00000002-4000 n=1 firing warning boiler/temp "85 degC"`,
		},
		{
			"restart: a star's instance is there before its series", []rules.Rule{pumps}, `
			0s hall/limit=5 hall/pump-1/vib=6 hall/pump-1/amps=2
			1s restart
			2s hall/pump-1/amps=2
			3s hall/pump-1/vib=4
			4s hall/limit=5`, `
			0s pumps/1/00000001-0 n=1 firing warning hall/pump-1/vib "pump 1: 6 over 5"
			4s pumps/1/00000001-0 n=2 cleared warning hall/pump-1/vib "pump 1: 4 over 5"`,
		},
		{
			"restart: pending begins anew", []rules.Rule{held}, `
			0s boiler/temp=81
			20s restart
			21s boiler/temp=81
			51s tick`, `
			51s hot/-/00000002-1000 n=1 firing warning boiler/temp "81 degC"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := play(engineOf(t, tt.rules...), parseTimeline(t, tt.timeline))
			if diff := cmp.Diff(dedent(tt.want), render(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
