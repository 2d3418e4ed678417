package rules_test

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
)

var update = flag.Bool("update", false, "write the golden files anew")

// good is a rule without a mistake; each test changes a part of it.
func good(change func(*rules.Rule)) rules.Rule {
	r := rules.Rule{
		ID:     "hot",
		Inputs: map[string]string{"temp": "boiler/temp"},
		When:   "temp > 80",
		Do:     alert("{{.temp}} degC"),
	}
	change(&r)
	return r
}

// TestMistakes renders every mistake of bad files and compares with the golden
// file.
func TestMistakes(t *testing.T) {
	one := func(change func(*rules.Rule)) []rules.File {
		return []rules.File{{Version: 1, Rules: []rules.Rule{good(change)}}}
	}
	nothing := func(*rules.Rule) {}
	tests := []struct {
		name  string
		files []rules.File
	}{
		{"version missing", []rules.File{{}}},
		{"version of the future", []rules.File{{Version: 2}}},
		{"no id", one(func(r *rules.Rule) { r.ID = "" })},
		{"id with a slash", one(func(r *rules.Rule) { r.ID = "a/b" })},
		{"id with a newline", one(func(r *rules.Rule) { r.ID = "a\nb" })},
		{"id too long", one(func(r *rules.Rule) { r.ID = strings.Repeat("x", 65) })},
		{"same id", []rules.File{{Version: 1, Rules: []rules.Rule{good(nothing), good(nothing)}}}},
		{"same id in another file", []rules.File{
			{Version: 1, Rules: []rules.Rule{good(nothing)}}, {Version: 1, Rules: []rules.Rule{good(nothing)}},
		}},
		{"two files with mistakes", []rules.File{{}, {Version: 1, Rules: []rules.Rule{good(func(r *rules.Rule) { r.When = "temp" })}}}},
		{"no inputs", one(func(r *rules.Rule) { r.Inputs = nil })},
		{"too many inputs", one(func(r *rules.Rule) {
			r.When = "temp > 80"
			for i := range 16 {
				r.Inputs[fmt.Sprintf("x%d", i)] = "a/b"
				r.When += fmt.Sprintf(" and x%d > 1", i)
			}
		})},
		{"input name", one(func(r *rules.Rule) { r.Inputs["t-1"] = "a/b" })},
		{"reserved input name", one(func(r *rules.Rule) { r.Inputs["state"] = "a/b" })},
		{"word of the language as input name", one(func(r *rules.Rule) { r.Inputs["not"] = "a/b" })},
		{"unused input", one(func(r *rules.Rule) { r.Inputs["load"] = "a/b" })},
		{"empty series", one(func(r *rules.Rule) { r.Inputs["temp"] = "" })},
		{"series without a metric", one(func(r *rules.Rule) { r.Inputs["temp"] = "boiler" })},
		{"series ends in a slash", one(func(r *rules.Rule) { r.Inputs["temp"] = "boiler/" })},
		{"two stars", one(func(r *rules.Rule) { r.Inputs["temp"] = "*/pump-*/temp" })},
		{"no when", one(func(r *rules.Rule) { r.When = "" })},
		{"when is a number", one(func(r *rules.Rule) { r.When = "temp + 1" })},
		{"when is constant", one(func(r *rules.Rule) { r.When = "1 > 2"; r.Clear = "temp > 1" })},
		{"when and clear with several mistakes", one(func(r *rules.Rule) { r.When = "tmep > 80 and load > 1"; r.Clear = "temp <" })},
		{"negative for", one(func(r *rules.Rule) { r.For = -time.Second })},
		{"for of years", one(func(r *rules.Rule) { r.For = 366 * 24 * time.Hour })},
		{"negative clear_for", one(func(r *rules.Rule) { r.ClearFor = -1 })},
		{"negative stale_after", one(func(r *rules.Rule) { r.StaleAfter = -1 })},
		{"severity", one(func(r *rules.Rule) { r.Severity = new(edgeagent.Severity(7)) })},
		{"no action", one(func(r *rules.Rule) { r.Do = nil })},
		{"empty action", one(func(r *rules.Rule) { r.Do = []rules.Action{{}} })},
		{"two alerts", one(func(r *rules.Rule) { r.Do = append(r.Do, r.Do...) })},
		{"text: unknown field", one(func(r *rules.Rule) { r.Do = alert("at {{.tmp}}") })},
		{"text: state is no field", one(func(r *rules.Rule) { r.Do = alert("{{.state}}") })},
		{"text: not a field", one(func(r *rules.Rule) { r.Do = alert("at {{printf 1}}") })},
		{"text: not closed", one(func(r *rules.Rule) { r.Do = alert("at {{.temp}") })},
		{"text too long", one(func(r *rules.Rule) { r.Do = alert(strings.Repeat("x", 1025)) })},
		{"describe too long", one(func(r *rules.Rule) { r.Describe = strings.Repeat("x", 1025) })},
		{"cooldown, gap and escalation", one(func(r *rules.Rule) {
			r.Cooldown, r.Escalate = -1, &rules.Escalate{To: edgeagent.Info}
		})},
		{"escalation without an alarm", one(func(r *rules.Rule) {
			r.When, r.Escalate = "temp > 1", &rules.Escalate{After: 1, To: edgeagent.Critical}
			r.Do = []rules.Action{{Tag: &rules.Tag{Quality: "stuck"}}}
		})},
		{"actions", one(func(r *rules.Rule) {
			r.Do = append(r.Do,
				rules.Action{GPIO: &rules.GPIO{}},
				rules.Action{GPIO: &rules.GPIO{Pin: "p", Set: "on", OnExit: "off", MaxOn: -1, MinToggle: -1}},
				rules.Action{Sample: &rules.Sample{Series: "x", Every: 1, While: "idle", Limit: 48 * time.Hour}},
				rules.Action{Exec: &rules.Exec{Run: "rm", Args: []string{"{{.nobody}}"}, Timeout: -1}},
				rules.Action{Alert: &rules.Alert{}, Tag: &rules.Tag{}},
			)
			r.Undo = []rules.Undo{{}, {GPIO: &rules.GPIO{Pin: "q", Set: "low"}, Exec: &rules.Exec{}}}
		})},
		{"captures", one(func(r *rules.Rule) {
			r.Do = []rules.Action{{Alert: &rules.Alert{Text: "{{.temp}}", Priority: "urgent", Capture: &rules.Capture{Before: -1, After: 2 * time.Hour, Readings: 9}}}}
		})},
		{"pins that end differently", []rules.File{{Version: 1, Rules: []rules.Rule{
			good(func(r *rules.Rule) {
				r.Do = append(r.Do, rules.Action{GPIO: &rules.GPIO{Pin: "p", Set: "high", OnExit: "low"}})
			}),
			good(func(r *rules.Rule) {
				r.ID, r.Do = "b", append(r.Do, rules.Action{GPIO: &rules.GPIO{Pin: "p", Set: "high", OnExit: "high"}})
			}),
		}}}},
		{"rules in a circle", []rules.File{{Version: 1, Rules: []rules.Rule{
			good(func(r *rules.Rule) { r.ID, r.When = "a", `temp > 1 and rule("b").firing` }),
			good(func(r *rules.Rule) { r.ID, r.When = "b", `temp > 1 and rule("a").firing` }),
			good(func(r *rules.Rule) { r.ID, r.When = "c", `temp > 1 and rule("d").firing` }),
		}}}},
		{"facts, programs and shapes", []rules.File{{
			Version: 1,
			Sensors: map[string]rules.Facts{"temp": {}, "a/b": {Min: new(2.0), Max: new(1.0), Every: -1, Lateness: -1, Resolution: -1}},
			Exec:    map[string]rules.Command{"x": {Path: "bin/x", MaxParallel: 99}},
			Shape: []rules.Shape{
				{},
				{Inputs: map[string]string{"x": "y"}, OnChange: true, Deadband: &rules.Deadband{Abs: 1}},
				{Inputs: map[string]string{"x": "s/y"}, Deadband: &rules.Deadband{Abs: -1}},
				{Inputs: map[string]string{"x": "s/y"}, Deadband: &rules.Deadband{Abs: 1, Against: "old", MaxSilence: -1}},
				{Inputs: map[string]string{"x": "s/y"}, Deadband: &rules.Deadband{}},
				{Inputs: map[string]string{"x": "s/y"}, Downsample: &rules.Downsample{}},
				{Inputs: map[string]string{"x": "s/y"}, Downsample: &rules.Downsample{Window: rules.Pieces{Length: 1}, Emit: []string{"avg", "avg", "mode"}}},
			},
		}}},
		{"memory", []rules.File{{Version: 1, Memory: -5}, {Version: 1, Memory: 10, Rules: []rules.Rule{good(nothing)}}}},
		{"everything at once", []rules.File{{Version: 3, Rules: []rules.Rule{{}, {ID: "x y", When: "(", For: -1}}}}},
	}
	var out strings.Builder
	for _, tt := range tests {
		e, err := rules.Compile(tt.files)
		if err == nil || e != nil {
			t.Errorf("%s: got %v, %v", tt.name, e, err)
			continue
		}
		fmt.Fprintf(&out, "# %s\n", tt.name)
		for _, mistake := range err.(interface{ Unwrap() []error }).Unwrap() {
			field, ok := mistake.(*edgeagent.FieldError) //nolint:errorlint // the shape is promised
			if !ok {
				t.Fatalf("%s: %T is no FieldError", tt.name, mistake)
			}
			var at interface{ Offset() int }
			if errors.As(mistake, &at) {
				fmt.Fprintf(&out, "%s+%d: %v\n", field.Path, at.Offset(), field.Err)
			} else {
				fmt.Fprintln(&out, field)
			}
		}
		out.WriteString("\n")
	}
	golden(t, "mistakes.golden", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-update writes it anew):\n%s", path, diff)
	}
}

func TestTooManyRules(t *testing.T) {
	rs := make([]rules.Rule, rules.MaxRules+1)
	for i := range rs {
		rs[i] = good(func(r *rules.Rule) { r.ID = fmt.Sprintf("r%d", i) })
	}
	if err := (rules.File{Version: 1, Rules: rs[1:]}).Validate(); err != nil {
		t.Errorf("%d rules: %v", len(rs)-1, err)
	}
	if err := (rules.File{Version: 1, Rules: rs}).Validate(); err == nil {
		t.Errorf("%d rules were accepted", len(rs))
	}
}

func TestNoRules(t *testing.T) {
	e, err := rules.Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Tick(nil, edgeagent.Instant{Run: 1}); got != nil {
		t.Errorf("got %v", got)
	}
	if _, ok := e.NextTimer(); ok {
		t.Error("there is a timer")
	}
}

func TestTexts(t *testing.T) {
	door := edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: "cold", Metric: "door", Kind: edgeagent.State,
		Labels: edgeagent.MakePairs(map[string]string{"0": "closed", "1": "open", "5": strings.Repeat("é", 20)}),
	})
	tests := []struct {
		name, text, describe string
		value                float64
		want                 string
	}{
		{"labels", "door {{.door}}", "", 1, "door open"},
		{"no label for the number", "door {{.door}}", "", 2, "door 2"},
		{"several fields", "{{.rule}}/{{ .instance }} {{.series}}={{.door}}{{.door}}", "", 3, "r/- cold/door=33"},
		{"braces that are none", "{ {.door} } }}", "", 3, "{ {.door} } }}"},
		{"describe", "", "is {{.door}} open", 1, "is {{.door}} open"},
		{"default", "", "", 1, "r: cold/door"},
		{"six digits", "{{.door}}", "", 80.30000000000001, "80.3"},
		{"rounded", "{{.door}}", "", 123.456789, "123.457"},
		{"integers in full", "{{.door}}", "", 123456789, "123456789"},
		{"large", "{{.door}}", "", 1.5e20, "1.5e+20"},
		{"small", "{{.door}}", "", 0.0000012345678, "1.23457e-06"},
		{"infinite", "{{.door}}", "", math.Inf(1), "+Inf"},
		{"cut between runes", strings.Repeat("é", 500) + "{{.door}}", "", 5, strings.Repeat("é", 510) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := engineOf(t, rules.Rule{
				ID: "r", Describe: tt.describe, Inputs: map[string]string{"door": "cold/door"}, When: "door > 0", Do: alert(tt.text),
			})(0)
			got := e.Eval(nil, []edgeagent.Reading{{Series: door, Value: tt.value}})
			if len(got) != 1 || got[0].Text != tt.want {
				t.Errorf("got %v, want text %q", got, tt.want)
			}
		})
	}
}
