package replay

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "replay",
		Summary: "plays a recorded CSV file, plain or gzipped, as if it were a sensor",
		New:     func() sensors.DriverConfig { return Default() },
	}}
}

// Values of the key stamp.
const (
	StampNow      = "now"
	StampRecorded = "recorded"
)

// Config is the configuration of the driver replay.
type Config struct {
	File   string `yaml:"file"`   // relative to the configuration file
	Metric string `yaml:"metric"` // of a file of one series; default "value"
	Unit   string `yaml:"unit"`   // of every series; default none
	Pace   string `yaml:"pace"`   // original (default), 10x, 1000/s, max
	Stamp  string `yaml:"stamp"`  // now (default) or recorded
	Loop   bool   `yaml:"loop"`   // start again at the end
}

// Default returns the configuration with its defaults set.
func Default() *Config {
	return &Config{Metric: "value", Pace: "original", Stamp: StampNow}
}

// Validate checks the keys. The file is looked at when it is opened.
func (c *Config) Validate() error {
	var errs []error
	if c.File == "" {
		errs = append(errs, edgeagent.Field("file", "missing key file"))
	}
	if c.Metric == "" || strings.Contains(c.Metric, "/") {
		errs = append(errs, edgeagent.Field("metric", "%q is not the name of a metric: it must not be empty or hold a slash", c.Metric))
	}
	if _, err := parsePace(c.Pace); err != nil {
		errs = append(errs, edgeagent.Field("pace", "%w", err))
	}
	if c.Stamp != StampNow && c.Stamp != StampRecorded {
		errs = append(errs, edgeagent.Field("stamp", "%q is not possible, want now or recorded", c.Stamp))
	}
	return errors.Join(errs...)
}

// Open opens the file and reads its header.
func (c *Config) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	p, err := parsePace(c.Pace)
	if err != nil {
		return nil, fmt.Errorf("pace: %w", err)
	}
	path := c.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(env.Dir, path)
	}
	f, err := openFile(path)
	if err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("open replay: %w", err),
			"set the key file to a CSV file with the header time,value or time_ns,series,value")
	}
	return &source{
		env: env, file: f, pace: p, loop: c.Loop, recorded: c.Stamp == StampRecorded,
		names: names{
			env: env, unit: c.Unit, known: map[string]edgeagent.Series{},
			single: env.NewSeries(c.Metric, c.Unit, edgeagent.Gauge),
		},
	}, nil
}
