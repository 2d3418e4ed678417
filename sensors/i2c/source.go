package i2c

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// chip is what tells one driver from another. Its methods are called by one
// goroutine, within a sample of the guard.
type chip interface {
	// setUp looks for the chip and writes its settings.
	setUp(g *guard) error
	// measure takes one measurement and puts its values, in the order of the data
	// sheet's metrics, into v. What it leaves out was not measured. [errLost]
	// has the chip set up and asked once more.
	measure(g *guard, v *values) error
}

// maxMetrics bounds the metrics of a chip: an ADS1115 has at most eight.
const maxMetrics = 8

// values are what a chip has measured.
type values struct {
	v   [maxMetrics]float64
	q   [maxMetrics]edgeagent.Quality
	has [maxMetrics]bool
}

// set puts one value.
func (v *values) set(i int, x float64) { v.v[i], v.has[i] = x, true }

// doubt puts one value that may be the chip's own or not.
func (v *values) doubt(i int, x float64, q edgeagent.Quality) {
	v.set(i, x)
	v.q[i] = q
}

// place is where a chip is.
type place struct {
	driver string
	bus    string
	addr   uint16
}

// sampleTime bounds a sample whose context has no deadline.
const sampleTime = 5 * time.Second

// staleAfter is how many samples fail in a row before the last values are given
// once more, as stale: one may be a glitch.
const staleAfter = 2

// source is an open sensor.
type source struct {
	env   sensors.Env
	place place
	bus   i2c.BusCloser
	guard guard
	chip  chip
	ready bool // set up, and no error since
	mute  bool // the chip may say nothing but 0x00 or 0xFF
	shut  bool
	fails int // samples in a row

	metrics []sensors.Metric
	series  []edgeagent.Series
	last    [maxMetrics]edgeagent.Reading // of each series; zero if none
	out     values
}

// open opens the bus and sets the chip up.
func open(ctx context.Context, env sensors.Env, at place, metrics []sensors.Metric, c chip) (sensors.Source, error) {
	if err := refuseHeld(env.Root, at); err != nil {
		return nil, err
	}
	if env.I2C == nil {
		return nil, errors.New("this machine has no I²C")
	}
	bus, err := env.I2C(at.bus)
	if err != nil {
		return nil, fmt.Errorf("sensor %s: %w", env.Sensor, err)
	}
	s := &source{env: env, place: at, bus: bus, guard: newGuard(bus, at.addr), chip: c, metrics: metrics}
	_, s.mute = c.(interface{ mute() })
	for _, m := range metrics {
		s.series = append(s.series, env.NewSeries(m.Name, m.Unit, edgeagent.Gauge))
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, sampleTime)
		defer cancel()
	}
	s.guard.begin(ctx)
	defer s.guard.end()
	if err := s.setUp(); err != nil {
		return nil, errors.Join(s.wrap(err), bus.Close())
	}
	return s, nil
}

// refuseHeld refuses an address that a driver of the kernel has taken: both would
// talk to the chip, each undoing the other's settings.
func refuseHeld(root string, at place) error {
	n, ok := findBus(at.bus)
	if !ok {
		return nil
	}
	device := fmt.Sprintf("%d-%04x", n, at.addr)
	link, err := os.Readlink(filepath.Join("/", root, "sys/bus/i2c/devices", device, "driver"))
	if err != nil {
		return nil //nolint:nilerr // no link: no driver
	}
	driver := filepath.Base(link)
	return edgeagent.WithHint(
		&heldError{fmt.Sprintf("address 0x%02x on bus %s is held by the kernel's driver %s", at.addr, at.bus, driver)},
		fmt.Sprintf("read it with %s: %s, or free it: echo %s > /sys/bus/i2c/drivers/%s/unbind",
			kernelReader(root, device), device, device, driver))
}

// kernelReader names the driver of ours that reads what the kernel's driver shows,
// and its key for the device.
func kernelReader(root, device string) string {
	hwmon, err := filepath.Glob(filepath.Join("/", root, "sys/bus/i2c/devices", device, "hwmon", "hwmon*"))
	if err == nil && len(hwmon) > 0 {
		return "driver: hwmon and device"
	}
	return "driver: iio and address"
}

// heldError is EBUSY with words of its own.
type heldError struct{ text string }

func (e *heldError) Error() string        { return e.text }
func (e *heldError) Is(target error) bool { return target == syscall.EBUSY }

// Sample takes one measurement.
func (s *source) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.shut {
		return dst, errors.New("sensor is closed")
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, sampleTime)
		defer cancel()
	}
	s.guard.begin(ctx)
	defer s.guard.end()
	if err := s.measure(); err != nil {
		s.ready = false // whatever it was, start afresh
		if errors.Is(ctx.Err(), context.Canceled) {
			return dst, s.wrap(err) // the agent stops: the chip has not failed
		}
		s.fails++
		err = s.wrap(err)
		if s.fails == staleAfter {
			dst = s.stale(dst)
		}
		return dst, err
	}
	s.fails = 0
	return s.readings(dst), nil
}

// measure asks the chip until it is seen to have kept its settings, at most twice.
func (s *source) measure() error {
	for range 2 {
		if !s.ready {
			if err := s.setUp(); err != nil {
				return err
			}
		}
		s.out = values{}
		err := s.chip.measure(&s.guard, &s.out)
		if err == nil && s.guard.reads > 0 && (s.guard.ones || s.guard.zeros) && !s.mute {
			return errSilent
		}
		if !errors.Is(err, errLost) {
			return err
		}
		s.ready = false
	}
	return errors.New("the chip loses its settings while it measures")
}

func (s *source) setUp() error {
	err := s.chip.setUp(&s.guard)
	s.ready = err == nil
	return err
}

// readings appends what was measured, with what the data sheet says of it.
func (s *source) readings(dst []edgeagent.Reading) []edgeagent.Reading {
	at := s.env.Now()
	for i := range s.metrics {
		if !s.out.has[i] {
			continue
		}
		r := edgeagent.Reading{Series: s.series[i], At: at, Value: s.out.v[i], Quality: s.out.q[i]}
		r.Quality = max(r.Quality, s.judge(i, r))
		if r.Quality != edgeagent.Bad { // a value that cannot be says nothing of the next one
			s.last[i] = r
		}
		dst = append(dst, r)
	}
	return dst
}

// judge returns bad for what the chip cannot measure and suspect for what has
// changed faster than it can. Readings closer than a second are compared as if a
// second lay between them, so that noise is not taken for speed.
func (s *source) judge(i int, r edgeagent.Reading) edgeagent.Quality {
	m, was := s.metrics[i], s.last[i]
	if r.Value < m.Min || r.Value > m.Max {
		return edgeagent.Bad
	}
	if m.MaxRate == 0 || was.Series.IsZero() {
		return edgeagent.Good
	}
	seconds := max(time.Duration(r.At.Run-was.At.Run).Seconds(), 1)
	if math.Abs(r.Value-was.Value) > m.MaxRate*seconds {
		return edgeagent.Suspect
	}
	return edgeagent.Good
}

// stale appends the last known values, as that: once, when a chip is given up for
// now, so that nobody takes them for fresh ones.
func (s *source) stale(dst []edgeagent.Reading) []edgeagent.Reading {
	at := s.env.Now()
	for _, r := range s.last[:len(s.metrics)] {
		if r.Series.IsZero() {
			continue
		}
		r.At, r.Quality = at, edgeagent.Stale
		dst = append(dst, r)
	}
	return dst
}

// wrap says where an error comes from and what to do about it.
func (s *source) wrap(err error) error {
	err = s.guard.cause(err)
	return edgeagent.WithHint(
		fmt.Errorf("sensor %s: read %s at 0x%02x on bus %s: %w", s.env.Sensor, s.place.driver, s.place.addr, s.place.bus, err), hintFor(err))
}

// Close closes the bus. Chips that measure on command sleep by themselves.
func (s *source) Close() error {
	if s.shut {
		return nil
	}
	s.shut = true
	if err := s.bus.Close(); err != nil {
		return fmt.Errorf("close bus %s: %w", s.place.bus, err)
	}
	return nil
}

// steps returns n steps of 1/perUnit: the float64 nearest to a short decimal.
func steps(n int64, perUnit float64) float64 { return float64(n) / perUnit }

// inSteps returns v rounded to 1/perUnit.
func inSteps(v, perUnit float64) float64 { return math.Round(v*perUnit) / perUnit }
