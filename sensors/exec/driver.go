package exec

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/payload"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "exec",
		Summary: "what a program prints: a number, a JSON object, or lines of name and value",
		New:     func() sensors.DriverConfig { return Default() },
	}}
}

// Values of the key format.
const (
	FormatValue = "value" // one number
	FormatJSON  = "json"  // an object: a metric for each number in it
	FormatLines = "lines" // "name value" on each line
)

// maxMetrics bounds the series of one sensor. A program that has ever new names is an
// error then, and gives what it gave so far.
const maxMetrics = 256

// Config is the configuration of the driver exec.
type Config struct {
	// Command is the program, by absolute path or relative to the configuration, and
	// its arguments.
	Command []string `yaml:"command"`
	Format  string   `yaml:"format"`
	// Metric and Unit are for the format value; Units for the others, by metric.
	Metric string            `yaml:"metric"`
	Unit   string            `yaml:"unit"`
	Units  map[string]string `yaml:"units"`
	// Env is given to the program besides PATH, LANG and HOME.
	Env  map[string]string `yaml:"env"`
	User string            `yaml:"user"` // who runs it; only an agent that runs as root can choose
}

// Default returns the configuration with its defaults set.
func Default() *Config { return &Config{Format: FormatValue, Metric: "value"} }

// Validate checks the keys. The program is looked for when it is run.
func (c *Config) Validate() error {
	var errs []error
	add := func(key, format string, args ...any) { errs = append(errs, edgeagent.Field(key, format, args...)) }
	switch {
	case len(c.Command) == 0:
		add("command", "missing key command")
	case len(c.Command) > 64:
		add("command", "%d arguments, at most 63", len(c.Command)-1)
	case !strings.Contains(c.Command[0], "/"):
		add("command", "%w", edgeagent.WithHint(fmt.Errorf("%q is not a path", c.Command[0]),
			`no shell and no search is involved: write "/usr/bin/`+c.Command[0]+`", or "./`+c.Command[0]+`" beside the configuration`))
	}
	if c.Format != FormatValue && c.Format != FormatJSON && c.Format != FormatLines {
		add("format", "%q is not possible, want value, json or lines", c.Format)
	}
	if c.Metric == "" || strings.Contains(c.Metric, "/") {
		add("metric", "%q is not the name of a metric: it must not be empty or hold a slash", c.Metric)
	}
	for k := range c.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			add("env", "%q is not the name of a variable", k)
		}
	}
	return errors.Join(errs...)
}

// Open runs nothing yet.
func (c *Config) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	path := c.Command[0]
	if !filepath.IsAbs(path) {
		dir, err := filepath.Abs(env.Dir)
		if err != nil {
			return nil, fmt.Errorf("find the program: %w", err)
		}
		path = filepath.Join(dir, path)
	}
	p := Program{Path: path, Args: c.Command[1:], User: c.User}
	for k, v := range c.Env {
		p.Env = append(p.Env, k+"="+v)
	}
	return &source{env: env, cfg: c, run: p.Run, series: map[string]edgeagent.Series{}}, nil
}

var errClosed = errors.New("sensor is closed")

// source runs the program for each sample.
type source struct {
	env    sensors.Env
	cfg    *Config
	run    func(ctx context.Context) ([]byte, error)
	series map[string]edgeagent.Series // by metric, at most maxMetrics
	closed bool
}

// Sample runs the program and reads what it prints. What was read before something that
// makes no sense is given.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	out, err := s.run(ctx)
	if err != nil {
		return dst, err
	}
	at := s.env.Now()
	err = parse(s.cfg, out, func(metric string, v float64) error {
		series, err := s.seriesOf(metric)
		if err == nil {
			dst = append(dst, edgeagent.Reading{Series: series, At: at, Value: v})
		}
		return err
	})
	if err != nil {
		return dst, fmt.Errorf("read the output of %s: %w", s.cfg.Command[0], err)
	}
	return dst, nil
}

func (s *source) seriesOf(metric string) (edgeagent.Series, error) {
	if x, ok := s.series[metric]; ok {
		return x, nil
	}
	if len(s.series) >= maxMetrics {
		return edgeagent.Series{}, fmt.Errorf("more than %d metrics", maxMetrics)
	}
	unit := s.cfg.Units[metric]
	if s.cfg.Format == FormatValue {
		unit = s.cfg.Unit
	}
	x := s.env.NewSeries(metric, unit, edgeagent.Gauge)
	s.series[strings.Clone(metric)] = x
	return x, nil
}

// Close makes the source refuse further samples.
func (s *source) Close() error {
	s.closed = true
	return nil
}

// parse reads a program's output.
func parse(c *Config, out []byte, give func(metric string, v float64) error) error {
	switch c.Format {
	case FormatJSON:
		return payload.JSON(out, func(path string, v payload.Value) error {
			if v.IsText {
				return nil
			}
			if path == "" {
				path = c.Metric
			}
			return named(path, v.Number, give)
		})
	case FormatLines:
		return parseLines(string(out), give)
	}
	v, err := payload.Number(strings.TrimSpace(string(out)))
	if err != nil {
		return fmt.Errorf("%.40q is not a number", strings.TrimSpace(string(out)))
	}
	return give(c.Metric, v.Number)
}

// parseLines reads "name value" or "name=value"; empty lines and comments are passed
// over.
func parseLines(out string, give func(metric string, v float64) error) error {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexAny(line, " \t=:")
		if i < 0 {
			return fmt.Errorf("%.40q is no name and value", line)
		}
		v, err := payload.Number(line[i+1:])
		if err != nil {
			return fmt.Errorf("%.40q does not end with a number", line)
		}
		if err := named(strings.Trim(line[:i], " \t=:"), v.Number, give); err != nil {
			return err
		}
	}
	return nil
}

// named makes a metric of a foreign name: letters, digits, dashes and underscores.
func named(name string, v float64, give func(metric string, v float64) error) error {
	metric := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name)
	if len(metric) > 128 || strings.Trim(metric, "_") == "" {
		return fmt.Errorf("%.40q is not the name of a metric", name)
	}
	return give(metric, v)
}
