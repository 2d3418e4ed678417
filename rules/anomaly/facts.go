package anomaly

import (
	"math"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Facts are what is known of a series before its first reading. Each check needs some
// of them; the zero Facts switch all of them off.
type Facts struct {
	// Min and Max are the physical limits, in the unit of the series; nil: none.
	Min, Max *float64
	// MaxRate is the fastest physical change, in units per second; 0: not known.
	MaxRate float64
	// Every is the interval at which readings are taken; 0: they come when they
	// come. It switches on the checks for missing, stuck, noisy and drifting.
	Every time.Duration
	// Resolution is the least difference that the sensor can show; 0: not known.
	Resolution float64
	// Kind is that of the series: only gauges can be stuck, noisy or drift.
	Kind edgeagent.Kind
}

func finite(x float64) bool { return math.Abs(x) <= limit }
