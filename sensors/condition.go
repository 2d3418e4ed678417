package sensors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Bounds of the keys that condition readings.
const (
	MaxSamples   = 64 // for one reading
	maxPoints    = 64 // of a table
	maxSilence   = 24 * time.Hour
	maxSeries    = 1024 // of one sensor that are conditioned; those beyond pass as they are
	leastRateGap = time.Second
)

// Conditioning is what a sensor's configuration has done to what its driver gives,
// before anybody else sees it, by metric. The zero Conditioning does nothing.
type Conditioning struct {
	// Calibrate corrects values.
	Calibrate map[string]Calibration `yaml:"calibrate"`
	// Samples is how many samples make one reading: 1 to 64, 1 by default. They are
	// taken one after the other, within the timeout of one.
	Samples int `yaml:"samples"`
	// Combine says how: mean (the default) or median, which one wild sample of three
	// does not move.
	Combine string `yaml:"combine"`
	// Limits say what is possible where the sensor is, after calibration.
	Limits map[string]Limits `yaml:"limits"`
	// Deadband stores a reading only when it differs by this much from the last one
	// that was stored, or in quality; 0: when it differs at all. Rules see every
	// reading all the same.
	Deadband map[string]float64 `yaml:"deadband"`
	// MaxSilence: with a deadband, something is stored at least this often.
	MaxSilence time.Duration `yaml:"max_silence"`
}

// Calibration corrects the values of a metric: first by the table, then by gain and
// offset.
type Calibration struct {
	Offset float64 `yaml:"offset"` // is added last
	Gain   float64 `yaml:"gain"`   // multiplies; 0 stands for 1
	// Table lists pairs of what the sensor says and what is right, by the first of
	// them; between two pairs and beyond the last the line through the nearest two
	// counts.
	Table [][]float64 `yaml:"table"`
}

// Limits are what is possible. A value beyond Min and Max has the quality bad, one that
// has changed faster than MaxRate the quality suspect. Rules get them as facts.
type Limits struct {
	Min     *float64 `yaml:"min"`
	Max     *float64 `yaml:"max"`
	MaxRate float64  `yaml:"max_rate"` // units per second; 0: any. Readings closer than a second count as a second apart
}

// Validate checks the keys. Every error is an [edgeagent.FieldError].
func (c Conditioning) Validate() error {
	var errs []error
	for _, metric := range slices.Sorted(maps.Keys(c.Calibrate)) {
		errs = append(errs, edgeagent.InField("calibrate."+metric, c.Calibrate[metric].validate()))
	}
	for _, metric := range slices.Sorted(maps.Keys(c.Limits)) {
		errs = append(errs, edgeagent.InField("limits."+metric, c.Limits[metric].validate()))
	}
	for _, metric := range slices.Sorted(maps.Keys(c.Deadband)) {
		if d := c.Deadband[metric]; !(d >= 0) || math.IsInf(d, 0) {
			errs = append(errs, edgeagent.Field("deadband."+metric, "%v is out of range, want 0 or more", d))
		}
	}
	if c.Samples < 0 || c.Samples > MaxSamples {
		errs = append(errs, edgeagent.Field("samples", "%d is out of range, want 1 to %d", c.Samples, MaxSamples))
	}
	if c.Combine != "" && c.Combine != "mean" && c.Combine != "median" {
		errs = append(errs, edgeagent.Field("combine", "%q is not known, want mean or median", c.Combine))
	}
	if c.MaxSilence != 0 && len(c.Deadband) == 0 {
		errs = append(errs, edgeagent.Field("max_silence", "is for a deadband, and there is none"))
	}
	if c.MaxSilence < 0 || c.MaxSilence > maxSilence {
		errs = append(errs, edgeagent.Field("max_silence", "%s is out of range, want up to 24h", c.MaxSilence))
	}
	return errors.Join(errs...)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func (k Calibration) validate() error {
	var errs []error
	if !finite(k.Offset) {
		errs = append(errs, edgeagent.Field("offset", "%v is no number to add", k.Offset))
	}
	if !finite(k.Gain) {
		errs = append(errs, edgeagent.Field("gain", "%v is no number to multiply with", k.Gain))
	}
	if n := len(k.Table); n == 1 || n > maxPoints {
		errs = append(errs, edgeagent.Field("table", "%d pairs, want 2 to %d", n, maxPoints))
	}
	for i, p := range k.Table {
		at := fmt.Sprintf("table[%d]", i)
		switch {
		case len(p) != 2 || !finite(p[0]) || !finite(p[1]):
			errs = append(errs, edgeagent.Field(at, "want a pair of numbers: [what the sensor says, what is right]"))
		case i > 0 && len(k.Table[i-1]) == 2 && p[0] <= k.Table[i-1][0]:
			errs = append(errs, edgeagent.Field(at, "%v is not above the one before, %v", p[0], k.Table[i-1][0]))
		}
	}
	return errors.Join(errs...)
}

func (l Limits) validate() error {
	var errs []error
	if l.Min != nil && !finite(*l.Min) {
		errs = append(errs, edgeagent.Field("min", "%v is no number", *l.Min))
	}
	if l.Max != nil && !finite(*l.Max) {
		errs = append(errs, edgeagent.Field("max", "%v is no number", *l.Max))
	}
	if l.Min != nil && l.Max != nil && *l.Min >= *l.Max {
		errs = append(errs, edgeagent.Field("min", "%v is not below max, %v", *l.Min, *l.Max))
	}
	if !(l.MaxRate >= 0) || math.IsInf(l.MaxRate, 0) {
		errs = append(errs, edgeagent.Field("max_rate", "%v is out of range, want more than 0, in units per second", l.MaxRate))
	}
	return errors.Join(errs...)
}

// Apply returns the corrected value.
func (k Calibration) Apply(v float64) float64 {
	if len(k.Table) >= 2 {
		// The segment whose upper end is the first point above v, or an outer one.
		i := sort.Search(len(k.Table), func(i int) bool { return k.Table[i][0] > v })
		i = min(max(i, 1), len(k.Table)-1)
		a, b := k.Table[i-1], k.Table[i]
		v = a[1] + (v-a[0])*(b[1]-a[1])/(b[0]-a[0])
	}
	if k.Gain != 0 {
		v *= k.Gain
	}
	return v + k.Offset
}

// conditioner does to a source's readings what the configuration says. It belongs to the
// goroutine that samples, and allocates nothing once it has seen each series.
type conditioner struct {
	cfg    Conditioning
	series map[edgeagent.Series]*conditioned
	order  []*conditioned // of the sample under way
	one    []edgeagent.Reading
}

// conditioned is one series of a source.
type conditioned struct {
	calibration Calibration
	limits      Limits
	last        edgeagent.Reading // that could be
	samples     []edgeagent.Reading
	sorted      []float64
}

// newConditioner returns nil if there is nothing to do.
func newConditioner(c Conditioning) *conditioner {
	if len(c.Calibrate) == 0 && len(c.Limits) == 0 && c.Samples <= 1 {
		return nil
	}
	return &conditioner{cfg: c, series: map[edgeagent.Series]*conditioned{}}
}

// of returns what is kept of a series; nil if there are too many.
func (c *conditioner) of(s edgeagent.Series) *conditioned {
	if x := c.series[s]; x != nil {
		return x
	}
	if len(c.series) >= maxSeries {
		return nil
	}
	metric := s.Key().Metric
	x := &conditioned{calibration: c.cfg.Calibrate[metric], limits: c.cfg.Limits[metric]}
	c.series[s] = x
	return x
}

// sample takes as many samples as one reading is made of. After an error it makes do
// with those that it has.
func (c *conditioner) sample(ctx context.Context, src Source, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if c.cfg.Samples <= 1 {
		return src.Sample(ctx, dst)
	}
	for _, x := range c.order {
		x.samples = x.samples[:0]
	}
	c.order = c.order[:0]
	var err error
	for range c.cfg.Samples {
		c.one, err = src.Sample(ctx, c.one[:0])
		for _, r := range c.one {
			x := c.of(r.Series)
			if x == nil {
				dst = append(dst, r)
				continue
			}
			if len(x.samples) == 0 {
				c.order = append(c.order, x)
			}
			x.samples = append(x.samples, r)
		}
		if err != nil {
			break
		}
	}
	for _, x := range c.order {
		dst = append(dst, x.combine(c.cfg.Combine == "median"))
	}
	return dst, err
}

// combine makes one reading of the samples of the best quality that any of them has, at
// the time of the last.
func (x *conditioned) combine(median bool) edgeagent.Reading {
	out := x.samples[len(x.samples)-1]
	best := out.Quality
	for _, r := range x.samples {
		best = min(best, r.Quality)
	}
	x.sorted = x.sorted[:0]
	sum := 0.0
	for _, r := range x.samples {
		if r.Quality == best {
			x.sorted = append(x.sorted, r.Value)
			sum += r.Value
		}
	}
	n := len(x.sorted)
	out.Quality, out.Value = best, sum/float64(n)
	if median {
		slices.Sort(x.sorted)
		out.Value = x.sorted[n/2]
		if n%2 == 0 {
			out.Value = (x.sorted[n/2-1] + x.sorted[n/2]) / 2
		}
	}
	return out
}

// apply calibrates readings and holds them against the limits, in place.
func (c *conditioner) apply(rs []edgeagent.Reading) {
	for i := range rs {
		x := c.of(rs[i].Series)
		if x == nil {
			continue
		}
		r := &rs[i]
		r.Value = x.calibration.Apply(r.Value)
		if r.Quality == edgeagent.Stale { // says nothing of now
			continue
		}
		r.Quality = max(r.Quality, x.judge(*r))
		if r.Quality != edgeagent.Bad {
			x.last = *r
		}
	}
}

func (x *conditioned) judge(r edgeagent.Reading) edgeagent.Quality {
	l := x.limits
	if l.Min != nil && r.Value < *l.Min || l.Max != nil && r.Value > *l.Max {
		return edgeagent.Bad
	}
	if l.MaxRate == 0 || x.last.Series.IsZero() {
		return edgeagent.Good
	}
	gap := max(time.Duration(r.At.Run-x.last.At.Run), leastRateGap)
	if math.Abs(r.Value-x.last.Value) > l.MaxRate*gap.Seconds() {
		return edgeagent.Suspect
	}
	return edgeagent.Good
}
