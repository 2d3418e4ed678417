package sim

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

// faultWatch is a sensor and the monitor that watches it. A copy of it is another
// future of the same past.
type faultWatch struct {
	world   SensorWorld
	monitor anomaly.Monitor
}

func newFaultWatch(p SensorPlace, every time.Duration, seed uint64) faultWatch {
	w := NewSensorWorld(p, every, seed)
	f := w.Facts()
	return faultWatch{w, *anomaly.NewMonitor(anomaly.Facts{Min: &f.Min, Max: &f.Max, Every: f.Every, Resolution: f.Resolution})}
}

// run goes on until a time and returns the alerts.
func (f *faultWatch) run(until time.Duration) (alerts int, reasons []string) {
	for {
		at, x, ok := f.world.Next()
		run := int64(at)
		v := f.monitor.Tick(run)
		if ok {
			if e := f.monitor.Observe(edgeagent.Instant{Wall: 1_790_000_000e9 + run, Run: run}, true, x); e.Alert {
				v = e
			}
		}
		if v.Alert {
			alerts++
			reasons = append(reasons, fmt.Sprintf("%s@%s", v.Reason, at))
		}
		if at >= until {
			return alerts, reasons
		}
	}
}

// faultScore is what was found at one place and interval.
type faultScore struct {
	found, injected [SensorFaults]int
	control         int // found of faults of size 0
	controls        int
	falseAlerts     int
	weeks           float64
}

func (s *faultScore) add(o faultScore) {
	for f := range SensorFaults {
		s.found[f] += o.found[f]
		s.injected[f] += o.injected[f]
	}
	s.control += o.control
	s.controls += o.controls
	s.falseAlerts += o.falseAlerts
	s.weeks += o.weeks
}

func (s *faultScore) row(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-20s", name)
	for f := range SensorFaults {
		fmt.Fprintf(&b, " %4d/%-4d", s.found[f], s.injected[f])
	}
	fmt.Fprintf(&b, " %6.2f  control %d/%d", float64(s.falseAlerts)/s.weeks, s.control, s.controls)
	return b.String()
}

// scoreFaults lets a sensor be for two weeks, then injects each fault in a future of
// its own, and lets it be for another two weeks in one more.
func scoreFaults(t *testing.T, p SensorPlace, every time.Duration, seed uint64) faultScore {
	const fortnight = 14 * 24 * time.Hour
	var s faultScore
	past := newFaultWatch(p, every, seed)
	hour := time.Duration(seed*7%24) * time.Hour // faults come at any time of the day
	n, why := past.run(fortnight + hour)
	quiet := past
	m, why2 := quiet.run(2 * fortnight)
	s.falseAlerts, s.weeks = n+m, 4
	if testing.Verbose() && n+m > 0 {
		t.Logf("%s every %s seed %d: false alerts %v %v", p, every, seed, why, why2)
	}
	for f := range SensorFaults {
		for _, share := range []float64{1, 0} {
			future := past
			until := future.world.Inject(f, share)
			// An alert in the ten minutes or intervals after the fault is about it.
			k, _ := future.run(until + max(10*time.Minute, 10*every))
			if share == 0 {
				s.controls++
				s.control += min(k, 1)
				continue
			}
			s.injected[f]++
			s.found[f] += min(k, 1)
			if k == 0 && testing.Verbose() {
				t.Logf("%s every %s seed %d: %s of size %.3g not found", p, every, seed, f, future.world.size)
			}
		}
	}
	return s
}

// TestSensorFaults: of injected faults at least 95 % of each kind are found, with less
// than one false alert in a week of a sensor, the first weeks included. The soak runs
// many seeds, SOAK_SENSORS, and a faster interval; the table in docs/benchmarks.md is its.
func TestSensorFaults(t *testing.T) {
	seeds, intervals := uint64(1), []time.Duration{time.Minute, 5 * time.Minute}
	if n, err := strconv.ParseUint(os.Getenv("SOAK_SENSORS"), 10, 32); err == nil && n > 0 {
		seeds, intervals = n, append(intervals, 10*time.Second)
	}
	var all faultScore
	var head strings.Builder
	fmt.Fprintf(&head, "%-20s", "")
	for f := range SensorFaults {
		fmt.Fprintf(&head, " %9s", f)
	}
	t.Log(head.String() + "  false/week")
	for p := range SensorPlaces {
		for _, every := range intervals {
			var here faultScore
			for seed := range seeds {
				here.add(scoreFaults(t, p, every, 100+seed))
			}
			t.Log(here.row(fmt.Sprintf("%s, %s", p, every)))
			all.add(here)
		}
	}
	t.Log(all.row("all"))
	for f := range SensorFaults {
		if share := float64(all.found[f]) / float64(all.injected[f]); share < 0.95 {
			t.Errorf("%s: found %.1f %%, want 95 %%", f, 100*share)
		}
	}
	if rate := float64(all.falseAlerts) / all.weeks; rate >= 1 {
		t.Errorf("%.2f false alerts a week and sensor, want less than 1", rate)
	}
	if share := float64(all.control) / float64(all.controls); share > 0.2 {
		t.Errorf("%.0f %% of faults that do nothing are found: the test says nothing", 100*share)
	}
}

func TestSensorWorld(t *testing.T) {
	for p := range SensorPlaces {
		a, b := NewSensorWorld(p, time.Minute, 1), NewSensorWorld(p, time.Minute, 1)
		lo, hi := math.Inf(1), math.Inf(-1)
		for range 14 * 1440 {
			at, x, ok := a.Next()
			if at2, y, ok2 := b.Next(); at2 != at || y != x || ok2 != ok {
				t.Fatalf("%s: the same seed gives %v and %v", p, x, y)
			}
			lo, hi = min(lo, x), max(hi, x)
		}
		if span := p.nature().span; hi-lo < span/2 || hi-lo > 2*span {
			t.Errorf("%s: from %.3g to %.3g, want a span of about %.3g", p, lo, hi, span)
		}
		c, d := a, a // a copy is another future
		d.Inject(SensorGap, 1)
		if _, x, _ := c.Next(); x != func() float64 { _, y, _ := a.Next(); return y }() {
			t.Errorf("%s: the copy is not the same", p)
		}
		if _, _, ok := d.Next(); ok {
			t.Errorf("%s: a reading in a gap", p)
		}
	}
}
