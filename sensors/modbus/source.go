package modbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/simonvetter/modbus"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

var errClosed = errors.New("sensor is closed")

// source is one device.
type source struct {
	env      sensors.Env
	bus      *bus
	unit     uint8
	list     []Register
	series   []edgeagent.Series
	requests []request
	expect   []Expect
	known    bool // it is the device that the preset is for
	closed   bool

	words map[place]uint16 // of the sample under way: where scale registers are found
}

// place is the address of a register.
type place struct {
	table   string
	address uint16
}

func newSource(env sensors.Env, c *Config, list []Register, b *bus) *source {
	s := &source{
		env: env, bus: b, unit: c.Unit, list: list, expect: c.preset.Expect, words: map[place]uint16{},
		requests: plan(list, c.MaxRegisters, max(c.MaxGap, c.preset.MaxGap)),
	}
	for _, r := range list {
		kind, err := edgeagent.ParseKind(r.Kind)
		if err != nil {
			kind = edgeagent.Gauge // the default
		}
		s.series = append(s.series, edgeagent.NewSeries(edgeagent.SeriesKey{
			Sensor: env.Sensor, Metric: r.Metric, Unit: r.Unit, Kind: kind,
			Resolution: edgeagent.DefaultResolution, Tags: env.Tags, Labels: edgeagent.MakePairs(r.Labels),
		}))
	}
	return s
}

// Sample asks the device. A request that it refuses is missing from the readings, and
// the error names the first such; an error of the line ends the sample.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.closed {
		return dst, errClosed
	}
	if err := s.recognise(ctx); err != nil {
		return dst, err
	}
	clear(s.words)
	var refused error
	ok := make([]bool, len(s.requests))
	for i, r := range s.requests {
		err := s.ask(ctx, r)
		switch {
		case err == nil:
			ok[i] = true
		case isAnswer(err):
			refused = firstOf(refused, err)
		default:
			return s.values(dst, ok), err
		}
	}
	return s.values(dst, ok), refused
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// recognise makes sure once that the preset is for this device.
func (s *source) recognise(ctx context.Context) error {
	if s.known {
		return nil
	}
	for _, x := range s.expect {
		r := x.register()
		if err := s.ask(ctx, request{span: span{tableOf(r.Table), int(r.Address), int(r.Address) + r.words() - 1}}); err != nil {
			return err
		}
		if got := r.raw(s.wordsOf(r)); got != x.Equals {
			return edgeagent.WithHint(fmt.Errorf("%s unit %d: address %d reads %#x, want %#x: this is not the device that the preset is for",
				s.bus.target, s.unit, x.Address, got, x.Equals), "check the keys unit and preset, or list the registers yourself")
		}
	}
	s.known = true
	return nil
}

// ask sends one request and keeps what comes back.
func (s *source) ask(ctx context.Context, r request) error {
	err := s.bus.do(ctx, func(c client) error {
		if r.table == "coil" || r.table == "discrete" {
			list, err := c.bits(s.unit, r.table, uint16(r.first), uint16(r.count())) //nolint:gosec // 16 bits by Validate
			for i, set := range list {
				s.words[place{r.table, uint16(r.first + i)}] = word(set) //nolint:gosec // see above
			}
			return err
		}
		list, err := c.registers(s.unit, r.table, uint16(r.first), uint16(r.count())) //nolint:gosec // see above
		for i, w := range list {
			s.words[place{r.table, uint16(r.first + i)}] = w //nolint:gosec // see above
		}
		return err
	})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("read %s %d to %d of unit %d: %w", r.table, r.first, r.last, s.unit, err)
	switch {
	case errors.Is(err, modbus.ErrIllegalDataAddress), errors.Is(err, modbus.ErrIllegalFunction):
		return edgeagent.WithHint(err, "the device has no such registers: addresses count from 0 (30001 is address 0 of table input); a smaller max_gap asks for less")
	case errors.Is(err, modbus.ErrRequestTimedOut), errors.Is(err, modbus.ErrGWTargetFailedToRespond):
		return edgeagent.WithHint(err, "check the key unit; on a serial bus speed, parity, stop_bits, the termination, and whether A and B are swapped")
	}
	return err
}

func word(set bool) uint16 {
	if set {
		return 1
	}
	return 0
}

func (s *source) wordsOf(r Register) []uint16 {
	words := make([]uint16, r.words())
	for i := range words {
		words[i] = s.words[place{tableOf(r.Table), r.Address + uint16(i)}] //nolint:gosec // at most 4
	}
	return words
}

// values appends what the requests that went well have brought.
func (s *source) values(dst []edgeagent.Reading, ok []bool) []edgeagent.Reading {
	at := s.env.Now()
	for i, req := range s.requests {
		if !ok[i] {
			continue
		}
		for _, item := range req.items {
			if v, valid := s.value(s.list[item]); valid {
				dst = append(dst, edgeagent.Reading{Series: s.series[item], At: at, Value: v})
			}
		}
	}
	return dst
}

// value reads a value of the sample. It is not valid when the device says so, or when
// its scale did not come.
func (s *source) value(r Register) (float64, bool) {
	raw := r.raw(s.wordsOf(r))
	if r.Invalid != nil && raw == *r.Invalid {
		return 0, false
	}
	v, ok := r.number(raw)
	exp := 0
	if ok && r.ScaleRegister != nil {
		var w uint16
		if w, ok = s.words[place{tableOf(r.Table), *r.ScaleRegister}]; ok {
			exp, ok = exponent(w)
		}
	}
	return r.scaled(v, exp), ok
}

// Close gives the bus back.
func (s *source) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return s.bus.release()
}
