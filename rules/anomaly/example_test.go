package anomaly_test

import (
	"fmt"
	"math"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/rules/anomaly"
)

// A pump that vibrates a little more on one morning than it ever has.
func ExampleDetector() {
	var d anomaly.Detector
	for i := range 1000 {
		run := int64(i) * int64(5*time.Minute)
		x := 2 + math.Sin(float64(i)*0.7)
		if i >= 900 {
			x += 1.5
		}
		r := d.Observe(edgeagent.Instant{Wall: run, Run: run}, true, x)
		if r.Alerts() {
			fmt.Printf("reading %d: %s\n", i, r.Reason.Describe(r.Extent))
		}
	}
	// Output:
	// reading 900: beyond all values so far, by 75 % of their range
}

// A thermometer whose wire breaks: the bus then reads as its lowest value.
func ExampleMonitor() {
	lo, hi := -40.0, 125.0
	m := anomaly.NewMonitor(anomaly.Facts{Min: &lo, Max: &hi, Every: time.Second})
	for i, x := range []float64{20.1, 20.2, 20.1, -127, -127, 20.2} {
		v := m.Observe(edgeagent.Instant{Run: int64(i) * int64(time.Second)}, false, x)
		if v.Alert {
			fmt.Printf("%s: %s, quality %s\n", v.Reason, v.Reason.Describe(v.Extent), v.Quality)
		}
	}
	// Output:
	// limits: outside the physical limit -40, quality bad
}
