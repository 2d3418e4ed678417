package anomaly

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

const fiveMinutes = int64(5 * time.Minute)

// instant is a time with the clock synchronised from the start.
func instant(run int64) edgeagent.Instant {
	return edgeagent.Instant{Wall: 1_700_000_000e9 + run, Run: run}
}

// weather is a day's curve, slow weather and noise.
type weather struct {
	r    *rand.Rand
	slow float64
}

func newWeather(seed uint64) *weather { return &weather{r: rand.New(rand.NewPCG(seed, 7))} }

func (w *weather) at(run int64) float64 {
	w.slow = 0.98*w.slow + 0.2*w.r.NormFloat64()
	return 20 + 5*math.Sin(2*math.Pi*float64(run)/float64(24*time.Hour)) + w.slow + 0.1*w.r.NormFloat64()
}

// alerts returns the readings of a series at which a detector alerts.
func alerts(every int64, n int, at func(i int, run int64) float64) []int {
	var d Detector
	var found []int
	for i := range n {
		run := int64(i) * every
		if d.Observe(instant(run), true, at(i, run)).Alerts() {
			found = append(found, i)
		}
	}
	return found
}

func TestDetectorFinds(t *testing.T) {
	const start = 2500 // readings; more than a week
	for _, tc := range []struct {
		name   string
		change func(i int, x float64) float64
		within int // readings
	}{
		{"spike", func(i int, x float64) float64 {
			if i == start {
				return x + 12
			}
			return x
		}, 1},
		{"dip", func(i int, x float64) float64 {
			if i == start {
				return x - 12
			}
			return x
		}, 1},
		{"step", func(_ int, x float64) float64 { return x + 8 }, 12},
		{"noise", func(i int, x float64) float64 { return x + 3*float64(i%2*2-1) }, 12},
		{"ramp", func(i int, x float64) float64 { return x + 0.1*float64(i-start) }, 200},
		{"day without its curve", func(int, float64) float64 { return 20 }, 288},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, missed := 0, 0
			for seed := range uint64(20) {
				w, hit := newWeather(seed), false
				for _, i := range alerts(fiveMinutes, start+tc.within, func(i int, run int64) float64 {
					if x := w.at(run); i < start {
						return x
					} else {
						return tc.change(i, x)
					}
				}) {
					hit = hit || i >= start
				}
				if hit {
					found++
				} else {
					missed++
				}
			}
			if missed > 1 {
				t.Errorf("found %d, missed %d", found, missed)
			}
		})
	}
}

// TestDetectorTellsOnce: one alert for an event, again when it gets worse.
func TestDetectorTellsOnce(t *testing.T) {
	w := newWeather(3)
	var inEvent int
	for _, i := range alerts(fiveMinutes, 2560, func(i int, run int64) float64 {
		x := w.at(run)
		if i >= 2500 {
			x += 15
		}
		return x
	}) {
		if i >= 2500 {
			inEvent++
		}
	}
	if inEvent < 1 || inEvent > 3 {
		t.Errorf("%d alerts in one event", inEvent)
	}
}

// TestScoreStaysUp: the alert is about the beginning, the score about the whole event.
func TestScoreStaysUp(t *testing.T) {
	var d Detector
	w := newWeather(4)
	var before, during float64
	for i := range 2550 {
		run, x := int64(i)*fiveMinutes, 0.0
		if x = w.at(run); i >= 2500 {
			x += 15
		}
		switch r := d.Observe(instant(run), true, x); {
		case i >= 2510:
			during += r.Score / 40
		case i >= 2400 && i < 2500:
			before += r.Score / 100
		}
	}
	if during < 0.5 || before > 0.4 {
		t.Errorf("mean score %.2f before, %.2f during the event", before, during)
	}
}

// TestQuietSeries bounds the false alerts over four weeks of nothing, at any pace.
// At fewer than one reading in five minutes a reading counts as five minutes.
func TestQuietSeries(t *testing.T) {
	series := map[string]func(w *weather, run int64) float64{
		"weather": (*weather).at,
		"gauss":   func(w *weather, _ int64) float64 { return w.r.NormFloat64() },
		"uniform": func(w *weather, _ int64) float64 { return w.r.Float64() },
		"coarse":  func(w *weather, run int64) float64 { return math.Round(w.at(run)*2) / 2 },
		"day":     func(_ *weather, run int64) float64 { return float64(run / int64(8*time.Hour) % 3 / 2) },
		"square":  func(_ *weather, run int64) float64 { return float64(run / int64(time.Hour) % 2) },
	}
	for name, at := range series {
		for _, every := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour} {
			t.Run(fmt.Sprint(name, every), func(t *testing.T) {
				const runs = 5
				n := 28 * 24 * time.Hour / max(every, 5*time.Minute)
				n = n * max(every, 5*time.Minute) / every
				found := 0
				for seed := range uint64(runs) {
					w := newWeather(seed)
					found += len(alerts(int64(every), int(n), func(_ int, run int64) float64 { return at(w, run) }))
				}
				if perWeek := float64(found) / runs / 4; perWeek > 1.5 {
					t.Errorf("%.2f alerts a week", perWeek)
				}
			})
		}
	}
}

// TestHabit: what happens every hour is a habit, however strange the first one is.
func TestHabit(t *testing.T) {
	w := newWeather(2)
	found := alerts(int64(time.Minute), 14*24*60, func(_ int, run int64) float64 {
		return float64(run%int64(time.Hour))/float64(time.Hour) + 1e-3*w.r.Float64()
	})
	if len(found) > 14 {
		t.Errorf("%d alerts in two weeks of a sawtooth with 336 teeth", len(found))
	}
}

// TestFlatSeries: where there never was a change there is no scale, and the first
// change is no alert.
func TestFlatSeries(t *testing.T) {
	for name, at := range map[string]func(i int) float64{
		"flat for ever": func(int) float64 { return 7 },
		"one change":    func(i int) float64 { return float64(i / 2000) },
		"0 at first":    func(i int) float64 { return 3 * float64(min(i/5, 1)) },
	} {
		if found := alerts(fiveMinutes, 4000, func(i int, _ int64) float64 { return at(i) }); len(found) > 0 {
			t.Errorf("%s: alerts at %v", name, found)
		}
	}
}

// TestPerfectDays: days that are all the same are no news from the second on.
func TestPerfectDays(t *testing.T) {
	for name, at := range map[string]func(hour float64) float64{
		"square": func(h float64) float64 { return 20 + 60*math.Floor(min(1, max(0, 1+min(h-9, 18-h)))) },
		"ramps":  func(h float64) float64 { return 20 + 60*min(1, max(0, min(h-8, 19-h))) },
		"sine":   func(h float64) float64 { return math.Sin(h * math.Pi / 12) },
	} {
		if found := alerts(fiveMinutes, 4032, func(i int, _ int64) float64 { return at(float64(i%288) / 12) }); len(found) > 0 {
			t.Errorf("%s: alerts at %v", name, found)
		}
	}
}

// TestGarbageDoesNotBlind: one reading made of garbage, during learning or later, is
// told and hides nothing after it.
func TestGarbageDoesNotBlind(t *testing.T) {
	for _, at := range []int{0, 50, 2000} {
		w := newWeather(1)
		found := alerts(fiveMinutes, 4001, func(i int, run int64) float64 {
			x := w.at(run)
			switch i {
			case at:
				return 1e9
			case 4000:
				return x + 60
			}
			return x
		})
		if len(found) == 0 || found[len(found)-1] != 4000 {
			t.Errorf("garbage at %d: alerts at %v, want the last at 4000", at, found)
		}
	}
}

// TestInvariance: units, offsets, sign and whole weeks change no alert.
func TestInvariance(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for _, tc := range []struct {
		name        string
		scale, plus float64
		shift       time.Duration
	}{
		{"as it is", 1, 0, 0},
		{"7x-3", 7, -3, 0},
		{"-x", -1, 0, 0},
		{"0.001x+300", 0.001, 300, 0},
		{"1e9x", 1e9, 0, 0},
		{"52 weeks later", 1, 0, 52 * week},
		{"before 1970", 1, 0, -3000 * week},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d, other Detector
			w := newWeather(11)
			n := 0
			for i := range 6000 {
				run := int64(i) * fiveMinutes
				x := w.at(run)
				if i%700 == 650 {
					x += 10
				}
				want := d.Observe(instant(run), true, x)
				at := instant(run)
				at.Wall += int64(tc.shift)
				got := other.Observe(at, true, tc.scale*x+tc.plus)
				if want.Alerts() {
					n++
				}
				if want.Alerts() != got.Alerts() || math.Abs(want.Score-got.Score) > 1e-4 {
					t.Fatalf("reading %d: %+v, want %+v", i, got, want)
				}
			}
			if n < 3 {
				t.Errorf("%d alerts only: the test says nothing", n)
			}
		})
	}
}

// TestNoNumberChangesNothing: a series with NaN and infinities in it is the series
// without them.
func TestNoNumberChangesNothing(t *testing.T) {
	var d, other Detector
	w := newWeather(5)
	for i := range 3000 {
		run := int64(i) * fiveMinutes
		for j, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e301} {
			was := other
			if r := other.Observe(instant(run+int64(j)), true, bad); r.Alert != 0 || r.Score != 0 || other != was {
				t.Fatalf("%v: %+v, or the state has changed", bad, r)
			}
		}
		x := w.at(run)
		if d.Observe(instant(run), true, x) != other.Observe(instant(run), true, x) || d != other {
			t.Fatalf("reading %d differs", i)
		}
	}
}

// TestAnyReadings: whatever comes at whatever time, the verdicts are within their
// bounds and the state can be saved and restored, which poisoned states cannot.
func TestAnyReadings(t *testing.T) {
	value := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-1, 1), rapid.SampledFrom([]float64{
		0, 1, math.Copysign(0, -1), 5e-324, -5e-324, 1e300, -1e300, 1e-300, math.NaN(), math.Inf(1), math.MaxFloat64,
	}))
	step := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, 1e9, 300e9, -300e9, 1 << 62}))
	rapid.Check(t, func(t *rapid.T) {
		m := NewMonitor(gaugeFacts())
		if rapid.Bool().Draw(t, "without facts") {
			m = NewMonitor(Facts{Every: time.Second})
		}
		var at edgeagent.Instant
		warm := rapid.IntRange(0, 150).Draw(t, "warm")
		for i := range warm + rapid.IntRange(1, 40).Draw(t, "n") {
			x := float64(i % 2)
			at.Run += 60e9
			if i >= warm {
				x = value.Draw(t, "x")
				at.Run += step.Draw(t, "step")
			}
			at.Wall = at.Run
			v := m.Observe(at, true, x)
			if !(v.Score >= 0 && v.Score <= 1) || math.IsNaN(v.Extent) || v.Reason >= reasons {
				t.Fatalf("%v: %+v", x, v)
			}
			if err := NewMonitor(Facts{}).Restore(m.AppendSnapshot(nil)); err != nil {
				t.Fatalf("after %v: %v", x, err)
			}
		}
	})
}

// TestRepeatedAndBackwardTimes do no harm: what is found before is found after.
func TestRepeatedAndBackwardTimes(t *testing.T) {
	for name, bend := range map[string]func(i int, run int64) int64{
		"repeated":    func(_ int, run int64) int64 { return run - run%(10*fiveMinutes) },
		"backward":    func(i int, run int64) int64 { return run - int64(i%5)*2*fiveMinutes },
		"stopped":     func(int, int64) int64 { return 0 },
		"one jump":    func(i int, run int64) int64 { return run - int64(i/1500)*1000*fiveMinutes },
		"ever slower": func(_ int, run int64) int64 { return -run },
	} {
		var d Detector
		w := newWeather(6)
		for i := range 3000 {
			run := int64(i) * fiveMinutes
			x := w.at(run)
			if i == 2999 {
				x += 30
			}
			if r := d.Observe(instant(bend(i, run)), true, x); i == 2999 && !r.Alerts() {
				t.Errorf("%s: not found: %+v", name, r)
			}
		}
	}
}

// TestUnsynced: without a clock there is no season, and the rest works.
func TestUnsynced(t *testing.T) {
	var d Detector
	w := newWeather(8)
	for i := range 3000 {
		d.Observe(edgeagent.Instant{Run: int64(i) * fiveMinutes}, false, w.at(int64(i)*fiveMinutes))
	}
	if d.season != (season{}) {
		t.Error("a season was learned from a clock that cannot be trusted")
	}
	if !d.Observe(edgeagent.Instant{Run: 3000 * fiveMinutes}, false, 60).Alerts() {
		t.Error("not found")
	}
}

func TestLearning(t *testing.T) {
	for _, tc := range []struct {
		every time.Duration
		want  int // readings
	}{{time.Second, 86400}, {time.Minute, 1440}, {5 * time.Minute, 288}, {time.Hour, 100}} {
		var d Detector
		n := 0
		for ; d.Learning(); n++ {
			x := float64(n % 3)
			if n == tc.want/2 {
				x = 1000
			}
			if d.Observe(instant(int64(n)*int64(tc.every)), true, x).Alerts() {
				t.Errorf("every %v: alert while learning", tc.every)
			}
		}
		if n < tc.want || n > tc.want+settle+1 {
			t.Errorf("every %v: learned for %d readings, want %d", tc.every, n, tc.want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	m := NewMonitor(gaugeFacts())
	i := 0
	if n := testing.AllocsPerRun(2000, func() {
		m.Observe(instant(int64(i)*60e9), true, float64(i%17))
		m.Tick(int64(i) * 60e9)
		i++
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDetector(b *testing.B) {
	var d Detector
	xs := make([]float64, 4096)
	w := newWeather(1)
	for i := range xs {
		xs[i] = w.at(int64(i) * fiveMinutes)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		d.Observe(instant(int64(i)*fiveMinutes), true, xs[i%len(xs)])
		i++
	}
}

func BenchmarkMonitor(b *testing.B) {
	m := NewMonitor(gaugeFacts())
	xs := make([]float64, 4096)
	w := newWeather(1)
	for i := range xs {
		xs[i] = w.at(int64(i) * fiveMinutes)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(instant(int64(i)*60e9), true, xs[i%len(xs)])
		i++
	}
	b.ReportMetric(SnapshotSize, "snapshot-B")
}
