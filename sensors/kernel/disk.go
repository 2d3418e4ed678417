package kernel

import (
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Disk is the configuration of the driver disk.
type Disk struct {
	// Path is any path on the file system; "/" by default.
	Path string `yaml:"path"`
}

// Validate checks the keys.
func (c *Disk) Validate() error {
	if c.Path == "" || c.Path[0] != '/' {
		return edgeagent.Field("path", "%q is not an absolute path", c.Path)
	}
	return nil
}

// space is what a file system says of itself, in bytes.
type space struct{ total, free, available uint64 }

// Open asks the file system once, to see that the path exists.
func (c *Disk) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	return c.open(env, statfs)
}

func (c *Disk) open(env sensors.Env, statfs func(path string) (space, error)) (sensors.Source, error) {
	s := &disk{
		env: env, statfs: statfs, path: under(env, c.Path),
		total:     env.NewSeries("total", "By", edgeagent.Gauge),
		available: env.NewSeries("available", "By", edgeagent.Gauge),
		used:      env.NewSeries("used", "By", edgeagent.Gauge),
		percent:   env.NewSeries("used_percent", "%", edgeagent.Gauge),
	}
	if _, err := statfs(s.path); err != nil {
		return nil, edgeagent.WithHint(fmt.Errorf("read disk: %w", err), "set the key path to a directory on the file system")
	}
	return s, nil
}

type disk struct {
	env    sensors.Env
	statfs func(path string) (space, error)
	path   string
	closed bool

	total, available, used, percent edgeagent.Series
}

// Sample asks the file system. Used percent is of what everybody but root can
// have, as df shows it.
func (s *disk) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := ctx.Err(); err != nil {
		return dst, err
	}
	v, err := s.statfs(s.path)
	if err != nil {
		return dst, fmt.Errorf("read disk: %w", err)
	}
	at, used := s.env.Now(), float64(v.total-min(v.free, v.total))
	return append(dst,
		edgeagent.Reading{Series: s.total, At: at, Value: float64(v.total)},
		edgeagent.Reading{Series: s.available, At: at, Value: float64(v.available)},
		edgeagent.Reading{Series: s.used, At: at, Value: used},
		edgeagent.Reading{Series: s.percent, At: at, Value: percent(used, used+float64(v.available))},
	), nil
}

// Close makes the source refuse further samples.
func (s *disk) Close() error {
	s.closed = true
	return nil
}
