package anomaly

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Facts are what is known of a series before its first reading. Each check needs
// some of them; the zero Facts switch all of them off.
type Facts struct {
	// Min and Max are the physical limits, in the unit of the series; nil: none.
	Min *float64 `yaml:"min"`
	Max *float64 `yaml:"max"`
	// MaxRate is the fastest physical change; 0: not known.
	MaxRate Rate `yaml:"max_rate"`
	// Every is the interval at which readings are taken; 0: they come when they
	// come. It switches on the checks for stuck, missing, noisy and drifting.
	Every time.Duration `yaml:"every"`
	// Resolution is the least difference that the sensor can show; 0: not known.
	Resolution float64 `yaml:"resolution"`
	// Kind is that of the series: only gauges can be stuck, noisy or drift.
	Kind edgeagent.Kind `yaml:"-"`
}

// Validate returns all mistakes, joined, each a [*edgeagent.FieldError].
func (f Facts) Validate() error {
	var errs []error
	for _, l := range []struct {
		path string
		v    *float64
	}{{"min", f.Min}, {"max", f.Max}} {
		if l.v != nil && !finite(*l.v) {
			errs = append(errs, edgeagent.Field(l.path, "%v is no limit", *l.v))
		}
	}
	if f.Min != nil && f.Max != nil && *f.Min >= *f.Max {
		errs = append(errs, edgeagent.Field("min", "%v is not below max, which is %v", *f.Min, *f.Max))
	}
	if !finite(float64(f.MaxRate)) || f.MaxRate < 0 {
		errs = append(errs, edgeagent.Field("max_rate", "%v is no rate", float64(f.MaxRate)))
	}
	if f.Every < 0 {
		errs = append(errs, edgeagent.Field("every", "%v is negative", f.Every))
	}
	if !finite(f.Resolution) || f.Resolution < 0 {
		errs = append(errs, edgeagent.Field("resolution", "%v is no resolution", f.Resolution))
	}
	return errors.Join(errs...)
}

func finite(x float64) bool { return math.Abs(x) <= limit }

// Rate is a change per second, in the unit of the series.
type Rate float64

// UnmarshalText reads "5/s", "0.5/min", "2/h" or "10/d".
func (r *Rate) UnmarshalText(text []byte) error {
	number, per, ok := strings.Cut(string(text), "/")
	seconds := map[string]float64{"s": 1, "min": 60, "m": 60, "h": 3600, "d": day}[strings.TrimSpace(per)]
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || seconds == 0 || !finite(v) {
		return fmt.Errorf("%q is no rate, want a number per s, min, h or d, such as 5/s", text)
	}
	*r = Rate(v / seconds)
	return nil
}

// MarshalText writes the rate per second.
func (r Rate) MarshalText() ([]byte, error) {
	return append(strconv.AppendFloat(nil, float64(r), 'g', -1, 64), "/s"...), nil
}
