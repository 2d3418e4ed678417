package anomaly

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

// event is an alert of a physical check and the reading at which it came.
type event struct {
	At     int
	Reason string
}

// watch gives a monitor readings and returns the alerts of the physical checks.
func watch(m *Monitor, every time.Duration, xs []float64) []event {
	var found []event
	for i, x := range xs {
		v := m.Observe(instant(int64(i)*int64(every)), true, x)
		if v.Alert && v.Reason >= ReasonLimits {
			found = append(found, event{i, v.Reason.String()})
		}
	}
	return found
}

func TestLimitsAndRate(t *testing.T) {
	nan := math.NaN()
	for _, tc := range []struct {
		name  string
		facts Facts
		xs    []float64
		want  []event
	}{
		{"inside", Facts{Min: new(0.0), Max: new(10.0)}, []float64{0, 10, 5}, nil},
		{"one event while outside", Facts{Max: new(10.0)}, []float64{5, 11, 12, 11, 9, 11}, []event{{1, "limits"}, {5, "limits"}}},
		{"the edge is one event", Facts{Min: new(0.0), Max: new(10.0)}, []float64{5, 10.01, 9.99, 10.01, 9.99, 9.8, 10.01}, []event{{1, "limits"}, {6, "limits"}}},
		{"below", Facts{Min: new(0.0)}, []float64{5, -1}, []event{{1, "limits"}}},
		{"at first", Facts{Min: new(0.0)}, []float64{-1}, []event{{0, "limits"}}},
		{"not a number is not outside", Facts{Max: new(0.0)}, []float64{nan, math.Inf(1), -1}, nil},
		{"a spike is one event", Facts{MaxRate: 5}, []float64{0, 3, 100, 3, 0, 3}, []event{{2, "rate"}}},
		{"a spike outside the limits is one event", Facts{MaxRate: 5, Max: new(50.0)}, []float64{0, 3, 100, 3, 0, 3}, []event{{2, "limits"}}},
		{"the resolution is no rate", Facts{MaxRate: 0.1, Resolution: 1}, []float64{0, 1, 0, 1}, nil},
		{"fast again after calm", Facts{MaxRate: 5}, []float64{0, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0}, []event{{1, "rate"}, {12, "rate"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, watch(NewMonitor(tc.facts), time.Second, tc.xs)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLateReading: a reading that came late and its successor are close together, but
// were not taken so.
func TestLateReading(t *testing.T) {
	m := NewMonitor(Facts{MaxRate: 5, Every: time.Second})
	for _, r := range []struct{ run, x float64 }{{0, 0}, {1, 4}, {2.99, 8}, {3, 9.5}, {3, 9}, {2.5, 9}} {
		if v := m.Observe(instant(int64(r.run*1e9)), true, r.x); v.Alert {
			t.Errorf("at %v s: %v", r.run, v.Reason)
		}
	}
}

func TestMissing(t *testing.T) {
	m := NewMonitor(Facts{Every: 10 * time.Second})
	second := int64(time.Second)
	if _, ok := m.NextTimer(); ok || m.Tick(1000*second).Alert {
		t.Error("what has never come cannot be missing: its sensor is not there")
	}
	m.Observe(instant(100*second), true, 1)
	if run, ok := m.NextTimer(); !ok || run != 150*second+1 {
		t.Errorf("timer at %v, want just after 150 s", run)
	}
	if m.Tick(150 * second).Alert {
		t.Error("missing too early")
	}
	m.Observe(instant(150*second), true, math.NaN()) // is no reading
	v := m.Tick(150*second + 1)
	if !v.Alert || v.Reason != ReasonMissing || v.Quality != edgeagent.Stale || v.Score != 1 {
		t.Errorf("%+v, want missing", v)
	}
	if m.Tick(200*second).Alert || m.Observe(instant(201*second), true, math.Inf(1)).Alert {
		t.Error("told twice")
	}
	if _, ok := m.NextTimer(); ok {
		t.Error("a timer for what is missing already")
	}
	if v := m.Observe(instant(202*second), true, 1); v.Alert || v.Quality != edgeagent.Good {
		t.Errorf("%+v when it came back", v)
	}
	// Without a tick, the next reading tells of the gap before it.
	if v := m.Observe(instant(300*second), true, 1); !v.Alert || v.Reason != ReasonMissing || v.Extent != 98 {
		t.Errorf("%+v after a gap", v)
	}
	// A restart is not the sensor's fault.
	m.Resume(0)
	if m.Tick(50*second).Alert || !m.Tick(51*second).Alert {
		t.Error("after a restart the time counts from there")
	}
}

// days returns readings a minute apart, made by at of the reading's number.
func days(n int, at func(i int, r *rand.Rand) float64) []float64 {
	r := rand.New(rand.NewPCG(1, 2))
	xs := make([]float64, n*1440)
	for i := range xs {
		xs[i] = at(i, r)
	}
	return xs
}

func TestStuckNoiseDrift(t *testing.T) {
	curve := func(i int) float64 { return 20 + 3*math.Sin(2*math.Pi*float64(i)/1440) }
	const late = 9 * 1440
	for _, tc := range []struct {
		name   string
		facts  Facts
		at     func(i int, r *rand.Rand) float64
		reason string // none if empty
		before int    // reading
	}{
		{"nothing", Facts{}, func(i int, r *rand.Rand) float64 { return curve(i) + 0.1*r.NormFloat64() }, "", 0},
		{"stuck", Facts{}, func(i int, r *rand.Rand) float64 {
			return curve(min(i, late)) + 0.1*r.NormFloat64()*float64(min(1, max(0, late-i)))
		}, "stuck", late + 60},
		{"stuck within the resolution", Facts{Resolution: 0.5}, func(i int, r *rand.Rand) float64 {
			if i > late {
				return 20 + 0.1*r.Float64()
			}
			return math.Round(2*curve(i)+r.NormFloat64()) / 2
		}, "stuck", late + 300},
		{"zero every night", Facts{}, func(i int, r *rand.Rand) float64 {
			return max(0, -math.Cos(2*math.Pi*float64(i)/1440)) * (5 + r.Float64())
		}, "", 0},
		{"a counter may rest", Facts{Kind: edgeagent.Counter}, func(i int, _ *rand.Rand) float64 { return float64(min(i, late)) }, "", 0},
		{"noise", Facts{}, func(i int, r *rand.Rand) float64 {
			return curve(i) + 0.1*r.NormFloat64()*float64(1+3*min(1, max(0, i-late)))
		}, "noise", late + 120},
		{"noisier by day", Facts{}, func(i int, r *rand.Rand) float64 {
			return curve(i) + 0.1*r.NormFloat64()*(1.2+math.Sin(2*math.Pi*float64(i)/1440))
		}, "", 0},
		{"drift", Facts{}, func(i int, r *rand.Rand) float64 {
			return curve(i) + 0.1*r.NormFloat64() + 1.5*float64(max(0, i-late))/1440
		}, "drift", late + 4*1440},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.facts.Every = time.Minute
			var got []event
			for _, e := range watch(NewMonitor(tc.facts), time.Minute, days(14, tc.at)) {
				if tc.reason == "" || e.Reason == tc.reason {
					got = append(got, e)
				}
			}
			switch {
			case tc.reason == "" && len(got) > 0:
				t.Errorf("found %v", got)
			case tc.reason != "" && (len(got) == 0 || got[0].At < late || got[0].At > tc.before):
				t.Errorf("found %v, want %s from %d to %d", got, tc.reason, late, tc.before)
			}
		})
	}
}

// TestNewNormal: what has been so for three days is how things are.
func TestNewNormal(t *testing.T) {
	m := NewMonitor(Facts{Every: time.Minute})
	xs := days(21, func(i int, r *rand.Rand) float64 {
		if i > 9*1440 {
			return 30 + r.NormFloat64()
		}
		return 20 + 0.1*r.NormFloat64()
	})
	watch(m, time.Minute, xs)
	if firing := m.Firing(nil); len(firing) > 0 {
		t.Errorf("%v still fire", firing)
	}
}

func TestReasons(t *testing.T) {
	for r := range reasons {
		if r.String() == "" || r.Describe(1) == "" || (r > ReasonNone && r.Describe(1) == ReasonNone.Describe(1)) {
			t.Errorf("reason %d has no words", r)
		}
	}
}
