package i2c

import (
	"context"
	"errors"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// INA219 is the configuration of the driver ina219.
type INA219 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x40 to 0x4f; 0x40 by default
	// Shunt is the resistance of the shunt in ohm, 0.1 mΩ to 10 Ω; 0.1 Ω by
	// default, as on most boards.
	Shunt float64 `yaml:"shunt"`
	// Average is over how many conversions the chip averages: 1, 2, 4 … 128; 16 by
	// default, which takes 17 ms.
	Average int `yaml:"average"`
}

// Validate checks the keys.
func (c *INA219) Validate() error {
	errs := []error{checkBus(c.Bus), checkAddress(c.Address, 0x40, 0x4F)}
	if !(c.Shunt >= 0.0001 && c.Shunt <= 10) {
		errs = append(errs, outOfRange("shunt", c.Shunt, "0.0001 to 10 ohm"))
	}
	return errors.Join(append(errs, checkNumber("average", c.Average, 1, 2, 4, 8, 16, 32, 64, 128))...)
}

func sheetINA219() *sensors.Datasheet { return sheetINA219With(0.1) }

// sheetINA219With: the range of the current is 320 mV over the shunt.
func sheetINA219With(shunt float64) *sensors.Datasheet {
	most := inaMost * 10e-6 / shunt
	return &sensors.Datasheet{
		Chips: "Texas Instruments INA219", Documents: "SBOS448",
		Metrics: []sensors.Metric{
			{Name: "voltage", Unit: "V", Min: 0, Max: 26, Step: 0.004, Accuracy: "±0.5 %"},
			{Name: "current", Unit: "A", Min: -most, Max: most, Step: 10e-6 / shunt, Accuracy: "±0.5 %, and the shunt's"},
			{Name: "power", Unit: "W", Min: -26 * most, Max: 26 * most, Step: 0.0004, Accuracy: "of both"},
		},
		Doubts: "Each sample reads the settings back. They differ from those after power-on. A current at the end of the range is bad. " +
			"Current and power are worked out from both voltages: the chip's own need a calibration that it loses with its power.",
	}
}

// Metrics returns what it measures with its shunt.
func (c *INA219) Metrics() []sensors.Metric { return sheetINA219With(c.Shunt).Metrics }

// Open opens the bus and sets the chip up.
func (c *INA219) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	chip := &ina219Chip{shunt: c.Shunt, average: c.Average}
	return open(ctx, env, place{"ina219", c.Bus, c.Address}, c.Metrics(), chip)
}

type ina219Chip struct {
	shunt   float64
	average int
}

const (
	inaConfig = 0
	inaShunt  = 1
	inaBus    = 2
	inaMost   = 32_000 // steps of 10 µV: 320 mV
)

// settings: 32 V, 320 mV, both voltages again and again.
func (c *ina219Chip) settings() uint16 {
	average := uint16(8) // 1000: 12 bits, 1 conversion; 1001: 2 … 1111: 128
	for n := c.average; n > 1; n /= 2 {
		average++
	}
	if average == 8 {
		average = 3 // the same as 1000, as the chip has it after power-on
	}
	return 0x2000 | 0x1800 | average<<7 | average<<3 | 7
}

func (c *ina219Chip) setUp(g *guard) error {
	was, err := g.word(inaConfig)
	if err != nil || was == c.settings() {
		return err
	}
	if err := g.putWord(inaConfig, c.settings()); err != nil {
		return err
	}
	// Both voltages, 586 µs at most for each conversion.
	return g.wait(2 * time.Duration(c.average) * 586 * time.Microsecond)
}

func (c *ina219Chip) measure(g *guard, v *values) error {
	shunt, err := g.word(inaShunt)
	if err != nil {
		return err
	}
	bus, err := g.word(inaBus)
	if err != nil {
		return err
	}
	kept, err := g.word(inaConfig)
	if err != nil {
		return err
	}
	if kept != c.settings() {
		return errLost
	}
	volts := steps(int64(bus>>3), 250)
	amps := float64(int16(shunt)) * 10e-6 / c.shunt
	quality := edgeagent.Good
	if n := int16(shunt); n >= inaMost || n <= -inaMost {
		quality = edgeagent.Bad
	}
	v.set(0, volts)
	v.doubt(1, inSteps(amps, 1e6), quality)
	v.doubt(2, inSteps(volts*amps, 1e6), quality)
	return nil
}
