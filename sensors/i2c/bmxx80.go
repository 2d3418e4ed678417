package i2c

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// Drivers lists the drivers of this package.
func Drivers() []sensors.Driver {
	return []sensors.Driver{{
		Name:    "bmxx80",
		Summary: "Bosch BME280, BMP280 or BMP180 on I²C: temperature, pressure, humidity",
		New:     func() sensors.DriverConfig { return &BMxx80{Address: 0x76, Oversampling: 4} },
	}}
}

// BMxx80 is the configuration of the driver bmxx80.
type BMxx80 struct {
	// Bus is a number or a name: "1", "/dev/i2c-1". There is no default.
	Bus string `yaml:"bus"`
	// Address is 0x76 or 0x77; 0x76 by default.
	Address uint16 `yaml:"address"`
	// Oversampling of every quantity: 1, 2, 4, 8 or 16; 4 by default, which takes
	// 26 ms a sample.
	Oversampling int `yaml:"oversampling"`
}

var oversamplings = map[int]bmxx80.Oversampling{
	1: bmxx80.O1x, 2: bmxx80.O2x, 4: bmxx80.O4x, 8: bmxx80.O8x, 16: bmxx80.O16x,
}

// Validate checks the keys.
func (c *BMxx80) Validate() error {
	var errs []error
	if c.Bus == "" {
		errs = append(errs, edgeagent.Field("bus", "%w", edgeagent.WithHint(errors.New("missing key bus"),
			`add bus: "1" for /dev/i2c-1; "ls /dev/i2c-*" lists the buses of a machine`)))
	}
	if c.Address != 0x76 && c.Address != 0x77 {
		errs = append(errs, edgeagent.Field("address", "0x%02x is not an address of this chip, want 0x76 or 0x77", c.Address))
	}
	if _, ok := oversamplings[c.Oversampling]; !ok {
		errs = append(errs, edgeagent.Field("oversampling", "%d is not possible, want 1, 2, 4, 8 or 16", c.Oversampling))
	}
	return errors.Join(errs...)
}

// Open opens the bus and sets the chip up.
func (c *BMxx80) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	if err := refuseHeld(env.Root, c.Bus, c.Address); err != nil {
		return nil, err
	}
	if env.I2C == nil {
		return nil, errors.New("this machine has no I²C")
	}
	bus, err := env.I2C(c.Bus)
	if err != nil {
		return nil, fmt.Errorf("sensor %s: %w", env.Sensor, err)
	}
	s := &chip{
		env: env, cfg: *c, bus: bus, guard: guard{bus: bus},
		temperature: env.NewSeries("temperature", "Cel", edgeagent.Gauge),
		pressure:    env.NewSeries("pressure", "Pa", edgeagent.Gauge),
		humidity:    env.NewSeries("humidity", "%", edgeagent.Gauge),
	}
	s.guard.begin(ctx)
	if err := s.setUp(); err != nil {
		return nil, errors.Join(s.wrap(err), bus.Close())
	}
	return s, nil
}

// refuseHeld refuses an address that a driver of the kernel has taken: both would
// talk to the chip, each undoing the other's settings.
func refuseHeld(root, bus string, addr uint16) error {
	n, ok := busNumber(bus)
	if !ok {
		return nil
	}
	device := fmt.Sprintf("%d-%04x", n, addr)
	link, err := os.Readlink(filepath.Join("/", root, "sys/bus/i2c/devices", device, "driver"))
	if err != nil {
		return nil //nolint:nilerr // no link: no driver
	}
	driver := filepath.Base(link)
	return edgeagent.WithHint(
		fmt.Errorf("address 0x%02x on bus %s is held by the kernel's driver %s", addr, bus, driver),
		fmt.Sprintf("read it with driver: iio and address: %s, or free it: echo %s > /sys/bus/i2c/drivers/%s/unbind", device, device, driver))
}

// chip is an open sensor.
type chip struct {
	env   sensors.Env
	cfg   BMxx80
	bus   i2c.BusCloser
	guard guard
	dev   *bmxx80.Dev // nil until set up, and after an error
	isBME bool
	shut  bool

	temperature, pressure, humidity edgeagent.Series
}

// sampleTime bounds a sample whose context has no deadline.
const sampleTime = 5 * time.Second

// Sample takes one forced measurement.
func (s *chip) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	if s.shut {
		return dst, errors.New("sensor is closed")
	}
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	s.guard.begin(ctx)
	var e physic.Env
	if err := s.measure(&e); err != nil {
		s.dev = nil // whatever it was, start afresh
		return dst, s.wrap(err)
	}
	return s.readings(dst, &e), nil
}

// measure senses until the chip is seen to have kept its settings, at most twice.
func (s *chip) measure(e *physic.Env) error {
	for range 2 {
		if s.dev == nil {
			if err := s.setUp(); err != nil {
				return err
			}
		}
		if err := s.dev.Sense(e); err != nil {
			return err
		}
		kept, err := s.keptSettings()
		if kept || err != nil {
			return err
		}
		s.dev = nil
	}
	return errors.New("the chip loses its settings while it measures")
}

// setUp looks for the chip and writes its settings.
func (s *chip) setUp() error {
	o := oversamplings[s.cfg.Oversampling]
	dev, err := bmxx80.NewI2C(&s.guard, s.cfg.Address, &bmxx80.Opts{Temperature: o, Pressure: o, Humidity: o})
	if err != nil {
		return err
	}
	s.dev = dev
	s.isBME = strings.HasPrefix(dev.String(), "BME280")
	return nil
}

// keptSettings reports whether a BME280 still knows how to measure humidity. That
// setting alone is written once and not with each measurement, so that a chip that
// was without power for an instant goes on without it and reports no error.
func (s *chip) keptSettings() (bool, error) {
	if !s.isBME {
		return true, nil
	}
	const ctrlHum = 0xF2
	var r [1]byte
	if err := s.guard.Tx(s.cfg.Address, []byte{ctrlHum}, r[:]); err != nil {
		return false, err
	}
	return bmxx80.Oversampling(r[0]&7) == oversamplings[s.cfg.Oversampling], nil
}

// readings appends what was measured, in the sensor's own steps: 0.01 °C, 1 Pa,
// 0.01 %. Beyond what the chip can measure (with a margin) they are bad.
func (s *chip) readings(dst []edgeagent.Reading, e *physic.Env) []edgeagent.Reading {
	at := s.env.Now()
	add := func(series edgeagent.Series, v, low, high float64) {
		q := edgeagent.Good
		if v < low || v > high {
			q = edgeagent.Bad
		}
		dst = append(dst, edgeagent.Reading{Series: series, At: at, Value: v, Quality: q})
	}
	add(s.temperature, steps(int64(e.Temperature-physic.ZeroCelsius), int64(physic.Kelvin)/100, 100), -45, 90)
	if s.isBME {
		add(s.humidity, steps(int64(e.Humidity), int64(physic.PercentRH)/100, 100), 0, 100)
	}
	add(s.pressure, steps(int64(e.Pressure), int64(physic.Pascal), 1), 25_000, 115_000)
	return dst
}

// steps rounds v to whole steps and returns them over perUnit: the float64 nearest
// to a short decimal.
func steps(v, step int64, perUnit float64) float64 {
	half := step / 2
	if v < 0 {
		half = -half
	}
	return float64((v+half)/step) / perUnit
}

// wrap says where an error comes from and what to do about it.
func (s *chip) wrap(err error) error {
	err = s.guard.cause(err)
	hint := "check the wiring, and the keys bus and address of this sensor (0x76 or 0x77)"
	if s.guard.silent && s.guard.left < maxTransactions && (s.guard.err == nil || errors.Is(err, errPolling)) {
		err = fmt.Errorf("the bus reads 0xff: %w", err)
		hint = "the chip does not drive the bus: check its power and the data line"
	}
	return edgeagent.WithHint(
		fmt.Errorf("sensor %s: read bmxx80 at 0x%02x on bus %s: %w", s.env.Sensor, s.cfg.Address, s.cfg.Bus, err), hint)
}

// Close closes the bus. The chip sleeps by itself between measurements.
func (s *chip) Close() error {
	if s.shut {
		return nil
	}
	s.shut = true
	if err := s.bus.Close(); err != nil {
		return fmt.Errorf("close bus %s: %w", s.cfg.Bus, err)
	}
	return nil
}
