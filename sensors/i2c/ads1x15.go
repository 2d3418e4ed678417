package i2c

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// ADS1x15 is the configuration of the driver ads1x15.
type ADS1x15 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x48 to 0x4b; 0x48 by default
	Chip    string `yaml:"chip"`    // ads1115 (default) or ads1015
	// Inputs are a0 to a3 against ground, or a0-a1, a0-a3, a1-a3, a2-a3. None
	// stands for a0 to a3.
	Inputs []string `yaml:"inputs"`
	// Range is the greatest voltage, to both sides: 6.144, 4.096 (default), 2.048,
	// 1.024, 0.512 or 0.256 V. An input never takes more than the supply.
	Range float64 `yaml:"range"`
	// Rate in conversions a second: 8 to 860 for an ADS1115, 128 to 3300 for an
	// ADS1015; 128 by default. A slow one has less noise.
	Rate int `yaml:"rate"`
}

// Validate checks the keys.
func (c *ADS1x15) Validate() error {
	errs := []error{checkBus(c.Bus), checkAddress(c.Address, 0x48, 0x4B), checkWord("chip", c.Chip, "ads1115", "ads1015")}
	for i, in := range c.Inputs {
		if err := checkWord(fmt.Sprintf("inputs[%d]", i), in, adsInputs()...); err != nil {
			errs = append(errs, err)
		} else if slices.Index(c.Inputs, in) < i {
			errs = append(errs, edgeagent.Field(fmt.Sprintf("inputs[%d]", i), "%s stands twice", in))
		}
	}
	if !slices.Contains(adsRanges(), c.Range) {
		errs = append(errs, outOfRange("range", c.Range, "6.144, 4.096, 2.048, 1.024, 0.512 or 0.256 V"))
	}
	return errors.Join(append(errs, checkNumber("rate", c.Rate, adsRates(c.Chip)...))...)
}

// adsInputs, adsRanges and adsRates are in the order of the bits that choose them.
func adsInputs() []string {
	return []string{"a0-a1", "a0-a3", "a1-a3", "a2-a3", "a0", "a1", "a2", "a3"}
}

func adsRanges() []float64 { return []float64{6.144, 4.096, 2.048, 1.024, 0.512, 0.256} }

func adsRates(chip string) []int {
	if chip == "ads1015" {
		return []int{128, 250, 490, 920, 1600, 2400, 3300}
	}
	return []int{8, 16, 32, 64, 128, 250, 475, 860}
}

func sheetADS1x15() *sensors.Datasheet {
	return sheetADS1x15With([]string{"a0", "a1", "a2", "a3"}, 4.096, 1<<15)
}

func sheetADS1x15With(inputs []string, most float64, steps int) *sensors.Datasheet {
	d := &sensors.Datasheet{
		Chips: "Texas Instruments ADS1115, ADS1015", Documents: "SBAS444, SBAS473", Conversion: 9 * ms,
		Doubts: "Each conversion is waited for, and the settings are read back after its value. A value at the end of the range is bad.",
	}
	for _, in := range inputs {
		d.Metrics = append(d.Metrics, sensors.Metric{
			Name: strings.ReplaceAll(in, "-", "_"), Unit: "V", Min: -most, Max: most, Step: most / float64(steps), Accuracy: "±0.15 %",
		})
	}
	return d
}

// inputs are those that are read.
func (c *ADS1x15) inputs() []string {
	if len(c.Inputs) == 0 {
		return []string{"a0", "a1", "a2", "a3"}
	}
	return c.Inputs
}

// step is one step of the converter, in its register.
func (c *ADS1x15) step() int {
	if c.Chip == "ads1015" {
		return 16
	}
	return 1
}

// Metrics returns what it measures at its inputs, in its range.
func (c *ADS1x15) Metrics() []sensors.Metric {
	return sheetADS1x15With(c.inputs(), c.Range, 1<<15/c.step()).Metrics
}

// Open opens the bus and looks for the chip.
func (c *ADS1x15) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	chip := &adsChip{most: c.Range, low: c.step(), wait: time.Second/time.Duration(c.Rate) + 25*time.Microsecond}
	// Once, without comparator.
	base := uint16(0x8000 | 0x0100 | 0x0003 | slices.Index(adsRanges(), c.Range)<<9 | slices.Index(adsRates(c.Chip), c.Rate)<<5)
	for _, in := range c.inputs() {
		chip.config = append(chip.config, base|uint16(slices.Index(adsInputs(), in))<<12)
	}
	return open(ctx, env, place{"ads1x15", c.Bus, c.Address}, c.Metrics(), chip)
}

type adsChip struct {
	config []uint16      // of each input
	most   float64       // volts
	low    int           // one step of the converter, in the register
	wait   time.Duration // for a conversion with the clock as it should be
}

const (
	adsConversion = 0
	adsConfig     = 1
	adsIdle       = 0x8000 // no conversion is under way
)

// setUp sees whether the chip takes settings. They are written with each conversion.
func (c *adsChip) setUp(g *guard) error {
	var v values
	return c.convert(g, 0, &v)
}

func (c *adsChip) measure(g *guard, v *values) error {
	for i := range c.config {
		if err := c.convert(g, i, v); err != nil {
			return err
		}
	}
	return nil
}

// convert measures one input. The chip's clock is off by up to 10 %: its word, not
// the time, says that the value is the new one.
func (c *adsChip) convert(g *guard, i int, v *values) error {
	if err := g.putWord(adsConfig, c.config[i]); err != nil {
		return err
	}
	wait := c.wait
	for polls := 0; ; polls++ {
		if err := g.wait(wait); err != nil {
			return err
		}
		idle, err := c.idle(g, i)
		if err != nil {
			return err
		}
		if idle {
			break
		}
		if polls == 10 {
			return errPolling
		}
		wait = c.wait/8 + 50*time.Microsecond
	}
	raw, err := g.word(adsConversion)
	if err != nil {
		return err
	}
	// Whoever has taken the chip away or set it otherwise shows now.
	if _, err := c.idle(g, i); err != nil {
		return err
	}
	n := int(int16(raw))
	quality := edgeagent.Good
	if n >= 1<<15-c.low || n <= -1<<15 {
		quality = edgeagent.Bad
	}
	v.doubt(i, inSteps(float64(n)*c.most/(1<<15), 1e6), quality)
	return nil
}

// idle reports whether the conversion of input i has ended.
func (c *adsChip) idle(g *guard, i int) (bool, error) {
	now, err := g.word(adsConfig)
	if err != nil {
		return false, err
	}
	if now&^adsIdle != c.config[i]&^adsIdle {
		return false, fmt.Errorf("%w: settings 0x%04x, written were 0x%04x", errOtherChip, now, c.config[i])
	}
	return now&adsIdle != 0, nil
}
