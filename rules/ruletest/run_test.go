package ruletest_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/ruletest"
)

var update = flag.Bool("update", false, "write the golden files anew")

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

// boiler is the rule of the documentation.
func boiler() []rules.File {
	return []rules.File{{
		Version: 1,
		Memory:  4 << 20,
		Sensors: map[string]rules.Facts{"boiler/temp": {Every: time.Second}},
		Rules: []rules.Rule{{
			ID: "boiler-overheat", Describe: "Boiler hot and still rising",
			Inputs: map[string]string{"temp": "boiler/temp"},
			When:   `temp > 80 and temp - avg(temp, "5m") > 2`, For: 30 * time.Second,
			Clear: "temp < 75", ClearFor: time.Minute, Cooldown: 10 * time.Minute,
			Severity: new(edgeagent.Critical),
			Do: []rules.Action{
				{Alert: &rules.Alert{Priority: "high", Text: "{{.series}} at {{.temp}} degC"}},
				{GPIO: &rules.GPIO{Pin: "relay1", Set: "high", MaxOn: 15 * time.Minute, OnExit: "low", MinToggle: 5 * time.Second}},
			},
			Undo: []rules.Undo{{GPIO: &rules.GPIO{Pin: "relay1", Set: "low"}}},
		}, {
			ID: "never", Inputs: map[string]string{"temp": "boiler/temp"}, When: "temp > 1000", Do: []rules.Action{{Alert: &rules.Alert{}}},
		}},
	}}
}

func at(s string) *time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return &d
}

// overheats is the test of the documentation.
func overheats() ruletest.Test {
	return ruletest.Test{
		Name: "overheats, then cools", Every: time.Second,
		Input: map[string]string{"boiler/temp": "70x60 70+0.5x40 90x60 74x90 _x120"},
		Expect: []ruletest.Expect{
			{At: at("2m10s"), Rule: "boiler-overheat", State: new(rules.Firing)},
			{Between: []time.Duration{60 * time.Second, 140 * time.Second}, Alerts: new(1), Severity: new(edgeagent.Critical)},
			{At: at("2m30s"), GPIO: map[string]string{"relay1": "high"}},
			{At: at("5m"), Rule: "boiler-overheat", State: new(rules.Idle)},
			{At: at("5m"), GPIO: map[string]string{"relay1": "low"}},
		},
	}
}

func TestTheDocumentedTestPasses(t *testing.T) {
	report, err := ruletest.Run(boiler(), []ruletest.Test{overheats()}, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := report.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, l := range report.Results[0].Timeline {
		fmt.Fprintf(&out, "%v %s %s\n", l.At, l.Rule, l.Text)
	}
	golden(t, "overheats.golden", out.String())
}

// TestRestartAtEverySecond: the timeline is the same, but for the line that says
// that there was a restart.
func TestRestartAtEverySecond(t *testing.T) {
	timeline := func(test ruletest.Test) (out []string) {
		report, err := ruletest.Run(boiler(), []ruletest.Test{test}, rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if report.Failed() > 0 {
			t.Errorf("with a restart at %v: %+v", test.RestartAt, report.Results[0].Failures)
		}
		for _, l := range report.Results[0].Timeline {
			if l.Text != "restart" {
				out = append(out, fmt.Sprint(l))
			}
		}
		return out
	}
	want := timeline(overheats())
	for s := 0; s < 370; s += 7 {
		test := overheats()
		test.RestartAt = []time.Duration{time.Duration(s) * time.Second, time.Duration(s)*time.Second + 500*time.Millisecond}
		if diff := cmp.Diff(want, timeline(test)); diff != "" {
			t.Fatalf("restart at %ds:\n%s", s, diff)
		}
	}
}

func failing() []ruletest.Test {
	wrong := overheats()
	wrong.Name = `expects "too <much>"`
	wrong.Expect = []ruletest.Expect{
		{At: at("1m30s"), Rule: "boiler-overheat", State: new(rules.Firing)},
		{Between: []time.Duration{0, 140 * time.Second}, Alerts: new(2)},
		{At: at("2m30s"), GPIO: map[string]string{"relay1": "low", "relay2": "high"}},
		{At: at("3m"), Rule: "nobody", State: new(rules.Idle)},
		{Between: []time.Duration{0, time.Hour}, Text: "9[1-9] degC"},
	}
	return []ruletest.Test{wrong, overheats()}
}

func TestFailuresAreReadable(t *testing.T) {
	report, err := ruletest.Run(boiler(), failing(), rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var text, junit bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "failing.golden", text.String())
	if err := report.WriteJUnit(&junit, "boiler"); err != nil {
		t.Fatal(err)
	}
	golden(t, "failing.xml", junit.String())
	for dec := xml.NewDecoder(&junit); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("JUnit is no XML: %v", err)
		}
	}
}

func TestMistakes(t *testing.T) {
	f := ruletest.File{Tests: []ruletest.Test{
		{},
		{
			Name: "x", Start: "yesterday", Every: -1, Input: map[string]string{"a/b": "7y3"}, RestartAt: []time.Duration{-1},
			Expect: []ruletest.Expect{
				{},
				{At: at("1s")},
				{At: at("1s"), Alerts: new(1), State: new(rules.Idle)},
				{Between: []time.Duration{5, 1}, Alerts: new(1)},
				{Between: []time.Duration{1, 5}},
				{At: at("1s"), GPIO: map[string]string{"p": "on"}},
				{Between: []time.Duration{1, 5}, Text: "("},
			},
		},
	}}
	golden(t, "mistakes.golden", f.Validate().Error()+"\n")
}

func TestReplay(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("time_ns,series,value,quality\n")
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range 2 * 24 * 60 { // two days, a minute apart
		v := 70.0
		if i%720 > 700 {
			v = 95
		}
		fmt.Fprintf(&csv, "%d,boiler/temp,%v,good\n", start.Add(time.Duration(i)*time.Minute).UnixNano(), v)
	}
	files := boiler()
	files[0].Sensors = nil
	files[0].Shape = []rules.Shape{{Inputs: map[string]string{"t": "boiler/*"}, Deadband: &rules.Deadband{Abs: 0.5, MaxSilence: time.Hour}}}
	run := func(when string) ruletest.Outcome {
		files[0].Rules[0].When = when
		out, err := ruletest.Replay(files, rules.Options{}, ruletest.ReadCSV(strings.NewReader(csv.String()), ""))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	was, is := run("temp > 90"), run(`temp > 90 and count(temp, "20h") > 1000`)
	var out strings.Builder
	if err := is.WriteText(&out, &was); err != nil {
		t.Fatal(err)
	}
	if err := is.WriteText(&out, &is); err != nil {
		t.Fatal(err)
	}
	golden(t, "replay.golden", out.String())
}

func TestReadCSVRefuses(t *testing.T) {
	tests := map[string]string{
		"empty":       "",
		"no columns":  "a,b\n1,2\n",
		"no series":   "time,value\n1,2\n",
		"bad value":   "time,series,value\n1,s/x,high\n",
		"bad time":    "time,series,value\nnoon,s/x,1\n",
		"bad quality": "time,series,value,quality\n1,s/x,1,great\n",
	}
	for name, text := range tests {
		var last error
		for _, err := range ruletest.ReadCSV(strings.NewReader(text), "") {
			last = err
		}
		if last == nil {
			t.Errorf("%s: no error", name)
		}
	}
	n := 0
	for r, err := range ruletest.ReadCSV(strings.NewReader("timestamp,value\n2026-03-01 00:00:00,5\n2026-03-01T00:05:00Z,\n"), "a/b") {
		if err != nil || r.Series.String() != "a/b" {
			t.Errorf("%v, %v", r, err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d readings", n)
	}
}

func Example() {
	files := []rules.File{{Version: 1, Rules: []rules.Rule{{
		ID: "hot", Inputs: map[string]string{"t": "boiler/temp"}, When: "t > 80", For: 5 * time.Second,
		Do: []rules.Action{{Alert: &rules.Alert{Text: "{{.t}} degC"}}},
	}}}}
	report, err := ruletest.Run(files, []ruletest.Test{{
		Name:   "fires after five seconds",
		Input:  map[string]string{"boiler/temp": "70x10 81x10"},
		Expect: []ruletest.Expect{{Between: []time.Duration{10 * time.Second, 15 * time.Second}, Alerts: new(1)}},
	}}, rules.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range report.Results[0].Timeline {
		fmt.Println(l.At, l.Text)
	}
	fmt.Println(report.Failed(), "failed")
	// Output:
	// 0s hot/- is idle
	// 10s hot/- is pending
	// 15s alarm hot/-/00000000-10000 firing warning: 81 degC
	// 15s hot/- is firing
	// 0 failed
}

func FuzzReadCSV(f *testing.F) {
	f.Add("time_ns,series,value\n1,a/b,2\n")
	f.Add("time,value\n0,1\n0\"1,2\n")
	f.Add("time,value,quality\n2026-03-01T00:00:00Z,1e400,bad\n")
	f.Fuzz(func(t *testing.T, text string) {
		for r, err := range ruletest.ReadCSV(strings.NewReader(text), "x/y") {
			if err == nil && r.Series.IsZero() {
				t.Fatalf("reading without a series: %+v", r)
			}
		}
	})
}

func TestReplaySaysWhatIsNotWatched(t *testing.T) {
	var text strings.Builder
	text.WriteString("time_ns,series,value\n")
	for i := range rules.MaxInstances + 1 {
		fmt.Fprintf(&text, "%d,s%d/x,1\n", i, i)
	}
	files := []rules.File{{Version: 1, Rules: []rules.Rule{{ID: "r", Inputs: map[string]string{"x": "*/x"}, When: "x > 5", Do: []rules.Action{{Alert: &rules.Alert{}}}}}}}
	out, err := ruletest.Replay(files, rules.Options{}, ruletest.ReadCSV(strings.NewReader(text.String()), ""))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := out.WriteText(&b, nil); err != nil || !strings.Contains(b.String(), "note: some series are not watched") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestJUnitKeepsNames(t *testing.T) {
	const name = "zero\u200bwidth \u00ad \\ <&>"
	var b strings.Builder
	if err := (ruletest.Report{Results: []ruletest.Result{{Name: name}}}).WriteJUnit(&b, "s"); err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Case struct {
			Name string `xml:"name,attr"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal([]byte(b.String()), &suite); err != nil || suite.Case.Name != name {
		t.Errorf("%v, %q\n%s", err, suite.Case.Name, b.String())
	}
}

// TestRestartDuringACapture: it goes on, with the readings from before.
func TestRestartDuringACapture(t *testing.T) {
	files := []rules.File{{Version: 1, Rules: []rules.Rule{{
		ID: "r", Inputs: map[string]string{"x": "s/x"}, When: "x > 5",
		Do: []rules.Action{{Alert: &rules.Alert{Capture: &rules.Capture{Before: 20 * time.Second, After: 10 * time.Second}}}},
	}}}}
	for _, restart := range [][]time.Duration{nil, {25 * time.Second}, {32 * time.Second, 35 * time.Second}} {
		test := ruletest.Test{Name: "t", Every: time.Second, Input: map[string]string{"s/x": "1x30 9x30"}, RestartAt: restart}
		report, err := ruletest.Run(files, []ruletest.Test{test}, rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, line := range report.Results[0].Timeline {
			if strings.Contains(line.Text, "capture") {
				got = append(got, line.Text)
			}
		}
		if diff := cmp.Diff([]string{"capture of 31 readings"}, got); diff != "" {
			t.Errorf("restart at %v (-want +got):\n%s", restart, diff)
		}
	}
}
