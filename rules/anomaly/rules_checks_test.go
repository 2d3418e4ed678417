package anomaly_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

// TestChecksAreOnByDefault: facts alone, without a rule, raise alarms and lower the
// quality of readings, for each series that they match; also over a restart.
func TestChecksAreOnByDefault(t *testing.T) {
	compile := func(extra ...rules.Rule) *rules.Engine {
		t.Helper()
		e, err := rules.Options{Detector: anomaly.ForRules, Memory: 1 << 20}.Compile([]rules.File{{
			Version: 1, Rules: extra,
			Sensors: map[string]rules.Facts{"cold-*/temp": {Min: new(-40.0), Max: new(50.0), Every: time.Second}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := compile()
	if len(e.Rules()) != 0 || e.Stats().Rules != 0 {
		t.Errorf("checks are counted as rules: %v", e.Rules())
	}
	series := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "cold-1", Metric: "temp"})
	var events []edgeagent.Event
	at := func(s int) edgeagent.Instant { return edgeagent.Instant{Wall: int64(s) * 1e9, Run: int64(s) * 1e9} }
	read := func(s int, v float64) edgeagent.Quality {
		rs := []edgeagent.Reading{{Series: series, At: at(s), Value: v}}
		events = e.Eval(events, rs)
		return rs[0].Quality
	}
	for s := range 60 {
		if q := read(s, 20+float64(s%7)/10); q != edgeagent.Good {
			t.Fatalf("a good reading is %v", q)
		}
	}
	if q := read(60, 99); q != edgeagent.Bad {
		t.Errorf("a reading outside the limits is %v", q)
	}
	for s := 61; s < 90; s++ {
		read(s, 20+float64(s%7)/10)
	}
	snapshot := e.Snapshot(nil)
	e = compile()
	if _, err := e.Load(snapshot, nil, at(89), true); err != nil {
		t.Fatal(err)
	}
	for s := 90; s < 100; s++ {
		read(s, 20+float64(s%7)/10)
	}
	events = e.Tick(events, at(300)) // silence
	read(301, 20)
	for s := 302; s < 400; s++ {
		read(s, 20+float64(s%7)/10)
	}
	var got []string
	for _, ev := range events {
		got = append(got, fmt.Sprint(ev.Attrs["rule"], " ", ev.Attrs["state"], " ", ev.Series))
	}
	want := []string{
		"check.cold---temp firing cold-1/temp", "check.cold---temp cleared cold-1/temp",
		"check.cold---temp firing cold-1/temp", "check.cold---temp cleared cold-1/temp",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestChecksAfterACrash: what a check raised after the last snapshot is not cleared
// for want of that memory.
func TestChecksAfterACrash(t *testing.T) {
	compile := func() *rules.Engine {
		t.Helper()
		e, err := rules.Options{Detector: anomaly.ForRules}.Compile([]rules.File{{
			Version: 1, Sensors: map[string]rules.Facts{"cold/temp": {Min: new(0.0), Max: new(50.0), Every: time.Second}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := compile()
	at := func(s int) edgeagent.Instant { return edgeagent.Instant{Wall: int64(s) * 1e9, Run: int64(s) * 1e9} }
	series := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "cold", Metric: "temp"})
	read := func(s int, v float64) []edgeagent.Event {
		return e.Eval(nil, []edgeagent.Reading{{Series: series, At: at(s), Value: v}})
	}
	read(0, 20)
	snapshot := e.Snapshot(nil)
	raised := read(30, 51)
	journal := e.Journal(nil)
	e = compile()
	if _, err := e.Load(snapshot, journal, at(32), true); err != nil {
		t.Fatal(err)
	}
	e.Restore(raised)
	if got := read(33, 49.9); len(raised) != 1 || len(got) > 0 { // on the edge: not over
		t.Errorf("after %v came %v", raised, got)
	}
	if got := read(34, 40); len(got) != 1 || got[0].ID != raised[0].ID {
		t.Errorf("all is well, and %v", got)
	}
}
