package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Memory is the configuration of the driver memory. It has no keys.
type Memory struct{}

// Validate has nothing to check.
func (c *Memory) Validate() error { return nil }

// Open reads /proc/meminfo once, to see that it is there.
func (c *Memory) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	s := &memory{
		env: env, file: attribute{path: under(env, "proc/meminfo")}, buf: make([]byte, 8<<10),
		available: env.NewSeries("available", "By", edgeagent.Gauge),
		total:     env.NewSeries("total", "By", edgeagent.Gauge),
		used:      env.NewSeries("used_percent", "%", edgeagent.Gauge),
		swapTotal: env.NewSeries("swap_total", "By", edgeagent.Gauge),
		swapUsed:  env.NewSeries("swap_used", "By", edgeagent.Gauge),
	}
	if _, err := s.read(); err != nil {
		return nil, fmt.Errorf("read memory: %w", err)
	}
	return s, nil
}

type memory struct {
	env    sensors.Env
	file   attribute
	buf    []byte
	closed bool

	available, total, used, swapTotal, swapUsed edgeagent.Series
}

// meminfo is what we want of /proc/meminfo, in bytes.
type meminfo struct{ total, available, swapTotal, swapFree float64 }

// Sample reads /proc/meminfo.
func (s *memory) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	m, err := s.read()
	if err != nil {
		return dst, fmt.Errorf("read memory: %w", err)
	}
	at := s.env.Now()
	return append(dst,
		edgeagent.Reading{Series: s.available, At: at, Value: m.available},
		edgeagent.Reading{Series: s.total, At: at, Value: m.total},
		edgeagent.Reading{Series: s.used, At: at, Value: percent(m.total-m.available, m.total)},
		edgeagent.Reading{Series: s.swapTotal, At: at, Value: m.swapTotal},
		edgeagent.Reading{Series: s.swapUsed, At: at, Value: m.swapTotal - m.swapFree},
	), nil
}

func (s *memory) read() (meminfo, error) {
	b, err := s.file.read(s.buf)
	if err != nil {
		return meminfo{}, err
	}
	return parseMeminfo(b)
}

var errMeminfo = errors.New("meminfo has no MemTotal or no MemAvailable")

func parseMeminfo(b []byte) (m meminfo, err error) {
	m.total, m.available = -1, -1
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		key, value, _ := bytes.Cut(line, []byte(":"))
		var to *float64
		switch string(key) {
		case "MemTotal":
			to = &m.total
		case "MemAvailable":
			to = &m.available
		case "SwapTotal":
			to = &m.swapTotal
		case "SwapFree":
			to = &m.swapFree
		default:
			continue
		}
		kib, err := decimal(bytes.TrimSpace(bytes.TrimSuffix(value, []byte("kB"))), 0)
		if err != nil {
			return meminfo{}, err
		}
		*to = kib * 1024
	}
	if m.total < 0 || m.available < 0 {
		return meminfo{}, errMeminfo
	}
	return m, nil
}

// percent returns part of whole in steps of 0.01 %, 0 of nothing.
func percent(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return math.Round(part/whole*10000) / 100
}

// Close closes the file.
func (s *memory) Close() error {
	s.closed = true
	s.file.close()
	return nil
}
