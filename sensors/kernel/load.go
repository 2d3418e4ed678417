package kernel

import (
	"bytes"
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Load is the configuration of the driver load. It has no keys.
type Load struct{}

// Validate has nothing to check.
func (c *Load) Validate() error { return nil }

// Open reads /proc/loadavg once, to see that it is there.
func (c *Load) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	s := &load{env: env, file: attribute{path: under(env, "proc/loadavg")}}
	for i, metric := range []string{"load1", "load5", "load15"} {
		s.series[i] = env.NewSeries(metric, "1", edgeagent.Gauge)
	}
	if _, err := s.file.read(s.buf[:]); err != nil {
		return nil, fmt.Errorf("read load: %w", err)
	}
	return s, nil
}

type load struct {
	env    sensors.Env
	file   attribute
	series [3]edgeagent.Series
	buf    [128]byte
	closed bool
}

// Sample reads "0.52 0.58 0.59 1/389 11932".
func (s *load) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	rest, err := s.file.read(s.buf[:])
	if err != nil {
		return dst, fmt.Errorf("read load: %w", err)
	}
	at, n := s.env.Now(), len(dst)
	for _, series := range s.series {
		var word []byte
		word, rest, _ = bytes.Cut(rest, []byte(" "))
		v, err := decimal(word, 0)
		if err != nil {
			return dst[:n], fmt.Errorf("read load: %w", err)
		}
		dst = append(dst, edgeagent.Reading{Series: series, At: at, Value: v})
	}
	return dst, nil
}

// Close closes the file.
func (s *load) Close() error {
	s.closed = true
	s.file.close()
	return nil
}
