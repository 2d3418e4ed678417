package gpio

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "gpio",
		Summary: "an input line of a GPIO chip: its level, each change of it, or a count of its edges",
		New:     func() sensors.DriverConfig { return Default() },
	}}
}

// Values of the key mode.
const (
	ModeLevel   = "level"
	ModeEdge    = "edge"
	ModeCounter = "counter"
)

// maxDebounce bounds the key debounce: what is slower is no contact that bounces.
const maxDebounce = time.Second

// Config is the configuration of the driver gpio.
type Config struct {
	Chip   string `yaml:"chip"` // as in [Place], like the next two
	Line   string `yaml:"line"`
	Active string `yaml:"active"`
	// Bias is the resistor inside the chip: up, down or off; empty leaves it.
	Bias string `yaml:"bias"`
	Mode string `yaml:"mode"` // level (default), edge or counter
	// Edge is what a counter counts: rising (default), falling or both.
	Edge string `yaml:"edge"`
	// Debounce: a level counts once it has held this long; 0 to 1 s.
	Debounce time.Duration `yaml:"debounce"`
	// Metric names the series; default state, or count.
	Metric string `yaml:"metric"`
	// Labels name the two levels: {"0": closed, "1": open}. Default low and high.
	Labels map[string]string `yaml:"labels"`
}

// Default returns the configuration with its defaults set.
func Default() *Config { return &Config{Active: "high", Mode: ModeLevel} }

// Validate checks the keys.
func (c *Config) Validate() error {
	errs := []error{
		c.place().validate(),
		oneOf("bias", c.Bias, "", "up", "down", "off"),
		oneOf("mode", c.Mode, ModeLevel, ModeEdge, ModeCounter),
		oneOf("edge", c.Edge, "", "rising", "falling", "both"),
	}
	if c.Edge != "" && c.Mode != ModeCounter {
		errs = append(errs, edgeagent.Field("edge", "%w", edgeagent.WithHint(errors.New("is for counters"), `write "mode: counter", or remove it`)))
	}
	if c.Debounce < 0 || c.Debounce > maxDebounce {
		errs = append(errs, edgeagent.Field("debounce", "%s is out of range, want 0s to 1s", c.Debounce))
	}
	if strings.Contains(c.Metric, "/") {
		errs = append(errs, edgeagent.Field("metric", "%q holds a slash", c.Metric))
	}
	for level := range c.Labels {
		if level != "0" && level != "1" {
			errs = append(errs, edgeagent.Field("labels."+level, `a line is "0" or "1"`))
		}
	}
	if len(c.Labels) > 0 && c.Mode == ModeCounter {
		errs = append(errs, edgeagent.Field("labels", "a count has none"))
	}
	return errors.Join(errs...)
}

// Pace implements sensors.SelfPaced.
func (c *Config) Pace() (time.Duration, bool) { return stateEvery, c.Mode == ModeEdge }

func (c *Config) place() Place { return Place{c.Chip, c.Line, c.Active} }

// Open opens the line.
func (c *Config) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	return c.open(env, kernel(env.Root))
}

func (c *Config) open(env sensors.Env, open opener) (sensors.Source, error) {
	r := request{place: c.place(), bias: c.Bias, debounce: c.Debounce}
	switch {
	case c.Mode == ModeEdge, c.Edge == "both":
		r.rising, r.falling = true, true
	case c.Mode == ModeCounter:
		r.rising, r.falling = c.Edge != "falling", c.Edge == "falling"
	}
	l, err := open(r)
	if err != nil {
		return nil, openError(r.place, err)
	}
	switch c.Mode {
	case ModeCounter:
		series := env.NewSeries(cmp.Or(c.Metric, "count"), "", edgeagent.Counter)
		s, err := newCounter(env, l, r.place, series)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return s, nil
	case ModeEdge:
		return &edges{input: c.input(env, l)}, nil
	}
	s := c.input(env, l)
	return &s, nil
}

func (c *Config) input(env sensors.Env, l line) input {
	labels := c.Labels
	if len(labels) == 0 {
		labels = map[string]string{"0": "low", "1": "high"}
	}
	series := edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: env.Sensor, Metric: cmp.Or(c.Metric, "state"), Kind: edgeagent.State,
		Resolution: edgeagent.DefaultResolution, Tags: env.Tags, Labels: edgeagent.MakePairs(labels),
	})
	return input{env: env, line: l, place: c.place(), series: series}
}
