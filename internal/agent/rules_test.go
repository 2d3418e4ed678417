package agent

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

// rulesOf compiles one file.
func rulesOf(t *testing.T, f rules.File) *rules.Engine {
	t.Helper()
	f.Version = 1
	e, err := rules.Options{Detector: anomaly.ForRules}.Compile([]rules.File{f})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func readingOf(v float64, at time.Duration) []edgeagent.Reading {
	s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "s", Metric: "x"})
	return []edgeagent.Reading{{Series: s, Value: v, At: edgeagent.Instant{Wall: time.Now().UnixNano(), Run: int64(at)}}}
}

// TestRulesGoOnAfterARestart: what is pending goes on, what fires is not raised
// again, whether the agent stops in order or is killed.
func TestRulesGoOnAfterARestart(t *testing.T) {
	file := rules.File{Rules: []rules.Rule{
		{ID: "now", Inputs: map[string]string{"x": "s/x"}, When: "x > 5", Do: []rules.Action{{Alert: &rules.Alert{}}}},
		{ID: "later", Inputs: map[string]string{"x": "s/x"}, When: "x > 5", For: time.Hour, Do: []rules.Action{{Alert: &rules.Alert{}}}},
	}}
	for _, killed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir, b := t.TempDir(), &fakeBuffer{}
			start := func() (*pipeline, *rules.Engine) {
				e, k := rulesOf(t, file), &keeper{logger: slog.New(slog.DiscardHandler), dir: dir}
				c := clock.Go()
				if err := k.restore(e, c); err != nil {
					t.Fatal(err)
				}
				p := newPipeline(b, e, c, slog.New(slog.DiscardHandler))
				p.keeper = k
				return p, e
			}
			p, _ := start()
			if err := p.Put(t.Context(), readingOf(9, 0)); err != nil {
				t.Fatal(err)
			}
			if !killed {
				p.finish(t.Context())
			}
			p, e := start()
			if err := p.Put(t.Context(), readingOf(9, time.Second)); err != nil {
				t.Fatal(err)
			}
			if s := e.States(); s[0].State != rules.Firing || s[1].State != rules.Pending {
				t.Errorf("killed=%v: %v and %v", killed, s[0].State, s[1].State)
			}
			if n := p.alarms.Load(); n != 0 {
				t.Errorf("killed=%v: %d alarms were raised again", killed, n)
			}
			if p.keeper.last.Load() != nil {
				t.Errorf("killed=%v: %v", killed, p.keeper.last.Load().err)
			}
		})
	}
}

// TestStateThatCannotBeKept: rules work, and health says what is wrong.
func TestStateThatCannotBeKept(t *testing.T) {
	e, k := rulesOf(t, rules.File{}), &keeper{logger: slog.New(slog.DiscardHandler), dir: "/proc/none"}
	p := newTestPipeline(&fakeBuffer{}, e)
	p.keeper = k
	if err := k.restore(e, clock.Go()); err == nil {
		t.Fatal("a state was kept in /proc")
	}
	if err := p.Put(t.Context(), readingOf(1, 0)); err != nil {
		t.Fatal(err)
	}
	for _, h := range p.troubles() {
		if h.Code == "rules-state" {
			return
		}
	}
	t.Error("health says nothing")
}

// TestShapesThinOutWhatIsStored: rules see every reading, the buffer only what is
// passed on, and the summary of an open piece comes at the end.
func TestShapesThinOutWhatIsStored(t *testing.T) {
	file := rules.File{Version: 1, Shape: []rules.Shape{{
		Inputs: map[string]string{"x": "s/x"}, Downsample: &rules.Downsample{Window: rules.Pieces{Length: time.Minute}, Emit: []string{"avg"}},
	}}}
	shapes, err := rules.NewShaper([]rules.File{file})
	if err != nil {
		t.Fatal(err)
	}
	b, r := &fakeBuffer{}, &fakeRules{timer: -1, quiet: true}
	evaluated := 0
	r.onEval = func() { evaluated++ }
	p := newTestPipeline(b, r)
	p.shaper = &shaper{shapes: shapes}
	for i := range 10 {
		if err := p.Put(t.Context(), readingOf(float64(i), time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if evaluated != 10 || p.accepted.Load() != 0 {
		t.Errorf("%d evaluated, %d stored", evaluated, p.accepted.Load())
	}
	p.finish(t.Context())
	if p.accepted.Load() != 1 {
		t.Errorf("%d stored at the end", p.accepted.Load())
	}
}

// TestDetectorOfRules: a rule that asks for anomalies gets the monitor's answer,
// and its state goes through that of the rules.
func TestDetectorOfRules(t *testing.T) {
	file := rules.File{Rules: []rules.Rule{{
		ID: "odd", Inputs: map[string]string{"x": "s/x"}, When: "anomaly_alert(x)", Do: []rules.Action{{Alert: &rules.Alert{Text: "{{.reason}}"}}},
	}}}
	e := rulesOf(t, file)
	var events []edgeagent.Event
	feed := func(from, to int) {
		for i := from; i < to; i++ {
			v := math.Sin(float64(i) * 0.7)
			if i == 2500 {
				v = 40
			}
			r := readingOf(v, 0)
			r[0].At = edgeagent.Instant{Wall: int64(i) * 60e9, Run: int64(i) * 60e9}
			events = e.Eval(events, r)
		}
	}
	feed(0, 2000)
	next := rulesOf(t, file)
	if _, err := next.Load(e.Snapshot(nil), nil, edgeagent.Instant{Wall: 1999 * 60e9, Run: 1999 * 60e9}, true); err != nil {
		t.Fatal(err)
	}
	if e = next; e.States()[0].Learning {
		t.Error("the detector forgot what it had learned")
	}
	before := len(events)
	feed(2000, 2501)
	if len(events) == before || events[len(events)-1].Text == "" || events[len(events)-1].Text == "no detector spoke" {
		t.Errorf("the spike gave %v", events[before:])
	}
}

// unsyncedClock is a clock that nobody vouches for.
type unsyncedClock struct{ clock.Clock }

func (unsyncedClock) Synced() bool { return false }

// TestHoursAreUnknownFromTheFirstReading: at 1970 it is not midnight.
func TestHoursAreUnknownFromTheFirstReading(t *testing.T) {
	e := rulesOf(t, rules.File{Rules: []rules.Rule{
		{ID: "r", Inputs: map[string]string{"x": "s/x"}, When: "x > 5 and hour() >= 0", Do: []rules.Action{{Alert: &rules.Alert{}}}},
	}})
	k := &keeper{logger: slog.New(slog.DiscardHandler), dir: t.TempDir()}
	if err := k.restore(e, unsyncedClock{clock.Go()}); err != nil {
		t.Fatal(err)
	}
	if got := e.Eval(nil, readingOf(9, 0)); len(got) > 0 {
		t.Errorf("raised %v", got)
	}
}

// TestStoredReadings: what was read since a time is found among much that is older.
func TestStoredReadings(t *testing.T) {
	o := buffer.Options{Config: buffer.Default(), Device: "gw", Clock: clock.Go()}
	o.MaxBytes = 16 << 20
	b, _, err := buffer.Open(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	s := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "s", Metric: "x", Resolution: edgeagent.DefaultResolution})
	const total = 20_000
	rs := make([]edgeagent.Reading, total)
	for i := range rs {
		rs[i] = edgeagent.Reading{Series: s, Value: float64(i), Recorded: true, At: edgeagent.Instant{Wall: 1e18 + int64(i)*1e9}}
	}
	if _, err := b.Append(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	for _, first := range []int{-5, 0, 1, 4095, 4096, 12_345, total - 1, total} {
		var got []edgeagent.Reading
		err := storedReadings(t.Context(), b)(time.Unix(0, 1e18+int64(first)*1e9), func(rs []edgeagent.Reading) { got = append(got, rs...) })
		if err != nil {
			t.Fatal(err)
		}
		want := total - max(first, 0)
		if len(got) != want || want > 0 && (got[0].Value != float64(max(first, 0)) || got[want-1].Value != total-1) {
			t.Errorf("since %d: %d readings, want %d", first, len(got), want)
		}
	}
}
