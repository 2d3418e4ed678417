package sensors

import (
	"context"
	"errors"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Defaults and bounds of the keys that all sensors share.
const (
	DefaultInterval = time.Second
	MinInterval     = 10 * time.Millisecond
	MaxInterval     = 24 * time.Hour
	MinTimeout      = 2 * time.Second // default for intervals up to this
	MaxTimeout      = 30 * time.Second
)

// WithDefaults returns c with the defaults in place of zero values.
func (c Config) WithDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = min(max(c.Interval, MinTimeout), MaxTimeout)
	}
	return c
}

// Validate checks the keys that all sensors share, and those of the driver. A zero
// interval or timeout stands for the default. Every error is an
// [edgeagent.FieldError].
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, edgeagent.Field("name", "missing key name"))
	}
	if c.Driver == "" {
		errs = append(errs, edgeagent.Field("driver", "missing key driver"))
	}
	if c.Interval != 0 && (c.Interval < MinInterval || c.Interval > MaxInterval) {
		errs = append(errs, edgeagent.Field("interval", "%s is out of range, want 10ms to 24h", c.Interval))
	}
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		errs = append(errs, edgeagent.Field("timeout", "%s is out of range, want up to 30s", c.Timeout))
	}
	errs = append(errs, c.Conditioning.Validate())
	if c.Options != nil {
		errs = append(errs, c.Options.Validate())
	}
	return errors.Join(errs...)
}

// Spec is one source as the scheduler needs it.
type Spec struct {
	Config Config
	// Open makes the source. It is called again, with back-off, for as long as
	// it fails, and after a source has failed several times in a row.
	Open func(ctx context.Context) (Source, error)
}

// NewSpec binds a configured sensor to the world it runs in: env is the same for
// all sensors but for its name, tags and logger, which are taken from c.
func NewSpec(c Config, env Env) Spec {
	env.Sensor = c.Name
	env.Tags = edgeagent.MakePairs(c.Tags)
	if env.Logger != nil {
		env.Logger = env.Logger.With("sensor", c.Name)
	}
	return Spec{Config: c, Open: func(ctx context.Context) (Source, error) {
		return c.Options.Open(ctx, env)
	}}
}

// NewSeries returns the handle of one of the sensor's series, with the default
// resolution. Drivers call it when they open, not when they sample.
func (e Env) NewSeries(metric, unit string, kind edgeagent.Kind) edgeagent.Series {
	return edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: e.Sensor, Metric: metric, Unit: unit, Kind: kind,
		Resolution: edgeagent.DefaultResolution, Tags: e.Tags,
	})
}
