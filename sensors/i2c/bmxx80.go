package i2c

import (
	"context"
	"errors"
	"strings"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"github.com/edgeagent/edgeagent/sensors"
)

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

// oversampling translates the key; Validate has checked it.
func (c *BMxx80) oversampling() bmxx80.Oversampling {
	return map[int]bmxx80.Oversampling{
		1: bmxx80.O1x, 2: bmxx80.O2x, 4: bmxx80.O4x, 8: bmxx80.O8x, 16: bmxx80.O16x,
	}[c.Oversampling]
}

// Validate checks the keys.
func (c *BMxx80) Validate() error {
	return errors.Join(checkBus(c.Bus), checkAddress(c.Address, 0x76, 0x77),
		checkNumber("oversampling", c.Oversampling, 1, 2, 4, 8, 16))
}

func sheetBMxx80() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Bosch BME280, BMP280, BMP180", Documents: "BST-BME280-DS002, BST-BMP280-DS001, BST-BMP180-DS000", Conversion: 26 * ms,
		Metrics: []sensors.Metric{
			temperature(-40, 85, 0.01, "±0.5 °C at 25 °C, ±1 °C from 0 to 65 °C"),
			quick(humidity("±3 % from 20 to 80 % (BME280 only)")),
			{Name: "pressure", Unit: "Pa", Min: 30_000, Max: 110_000, MaxRate: maxPascal, Step: 1, Accuracy: "±100 Pa"},
		},
		Doubts: "After each sample the chip is asked for its humidity setting (BME280) or its identity: a chip that was without power for an instant is set up again.",
	}
}

// Open opens the bus and sets the chip up.
func (c *BMxx80) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"bmxx80", c.Bus, c.Address}, sheetBMxx80().Metrics, &bmxx80Chip{oversampling: c.oversampling()})
}

// bmxx80Chip reads through periph's driver.
type bmxx80Chip struct {
	oversampling bmxx80.Oversampling
	dev          *bmxx80.Dev
	isBME        bool
	id           byte
}

func (c *bmxx80Chip) setUp(g *guard) error {
	o := c.oversampling
	dev, err := bmxx80.NewI2C(g, g.addr, &bmxx80.Opts{Temperature: o, Pressure: o, Humidity: o})
	if err != nil {
		return err
	}
	c.dev = dev
	c.isBME = strings.HasPrefix(dev.String(), "BME280")
	c.id, err = c.register(g, regID)
	return err
}

func (c *bmxx80Chip) measure(g *guard, v *values) error {
	var e physic.Env
	if err := c.dev.Sense(&e); err != nil {
		return err
	}
	if err := c.verify(g); err != nil {
		return err
	}
	// The chip's own steps: 0.01 °C, 0.01 %, 1 Pa.
	v.set(0, steps(rounded(int64(e.Temperature-physic.ZeroCelsius), int64(physic.Kelvin)/100), 100))
	if c.isBME {
		v.set(1, steps(rounded(int64(e.Humidity), int64(physic.PercentRH)/100), 100))
	}
	v.set(2, steps(rounded(int64(e.Pressure), int64(physic.Pascal)), 1))
	return nil
}

const (
	regID      = 0xD0
	regCtrlHum = 0xF2
)

// verify asks whether the chip is still there, and whether a BME280 still knows how
// to measure humidity. That setting alone is written once and not with each
// measurement, so that a chip that was without power for an instant goes on without
// it and reports no error.
func (c *bmxx80Chip) verify(g *guard) error {
	reg, want := byte(regID), c.id
	if c.isBME {
		reg, want = regCtrlHum, byte(c.oversampling)
	}
	got, err := c.register(g, reg)
	if err != nil {
		return err
	}
	if got != want {
		return errLost
	}
	return nil
}

func (c *bmxx80Chip) register(g *guard, reg byte) (byte, error) {
	r, err := g.command(1, reg)
	if err != nil {
		return 0, err
	}
	return r[0], nil
}

// rounded returns v in whole steps.
func rounded(v, step int64) int64 {
	half := step / 2
	if v < 0 {
		half = -half
	}
	return (v + half) / step
}
