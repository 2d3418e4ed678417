package i2c

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// crc8 is the checksum of Sensirion's chips and of the AHT20: polynomial 0x31,
// initially 0xFF. Neither 0x00 nor 0xFF alone have it right.
func crc8(b []byte) byte {
	crc := byte(0xFF)
	for _, x := range b {
		crc ^= x
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// sensirionWord returns the i-th word of an answer: two bytes and their checksum.
func sensirionWord(r []byte, i int) (uint16, error) {
	three := r[3*i : 3*i+3]
	if want := crc8(three[:2]); three[2] != want {
		return 0, fmt.Errorf("%w 0x%02x of % x, want 0x%02x", errChecksum, three[2], three[:2], want)
	}
	return uint16(three[0])<<8 | uint16(three[1]), nil
}

// Values of the key precision.
const (
	high   = "high"
	medium = "medium"
	low    = "low"
)

// SHT3x is the configuration of the driver sht3x.
type SHT3x struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x44 or 0x45; 0x44 by default
	// Precision is high (the default: 15 ms a sample), medium (6 ms) or low (4 ms).
	Precision string `yaml:"precision"`
}

// Validate checks the keys.
func (c *SHT3x) Validate() error {
	return errors.Join(checkBus(c.Bus), checkAddress(c.Address, 0x44, 0x45), checkWord("precision", c.Precision, high, medium, low))
}

func sheetSHT3x() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Sensirion SHT30, SHT31, SHT35", Documents: "Datasheet SHT3x-DIS", Conversion: 15500 * time.Microsecond,
		Metrics: []sensors.Metric{
			temperature(-40, 125, 0.01, "±0.2 °C from 0 to 65 °C"),
			humidity("±2 %"),
		},
		Doubts: "Each word has a checksum.",
	}
}

// Open opens the bus and takes a measurement.
func (c *SHT3x) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	chip := map[string]*shtChip{ // single shot, no clock stretching; longest times of the data sheet
		high:   {command: [2]byte{0x24, 0x00}, long: true, conversion: 15500 * time.Microsecond},
		medium: {command: [2]byte{0x24, 0x0B}, long: true, conversion: 6500 * time.Microsecond},
		low:    {command: [2]byte{0x24, 0x16}, long: true, conversion: 4500 * time.Microsecond},
	}[c.Precision]
	return open(ctx, env, place{"sht3x", c.Bus, c.Address}, sheetSHT3x().Metrics, chip)
}

// SHT4x is the configuration of the driver sht4x.
type SHT4x struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x44, 0x45 or 0x46; 0x44 by default
	// Precision is high (the default: 8 ms a sample), medium (4 ms) or low (2 ms).
	Precision string `yaml:"precision"`
}

// Validate checks the keys.
func (c *SHT4x) Validate() error {
	return errors.Join(checkBus(c.Bus), checkAddress(c.Address, 0x44, 0x46), checkWord("precision", c.Precision, high, medium, low))
}

func sheetSHT4x() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Sensirion SHT40, SHT41, SHT45", Documents: "Datasheet SHT4x", Conversion: 8300 * time.Microsecond,
		Metrics: []sensors.Metric{
			temperature(-40, 125, 0.01, "±0.2 °C (SHT45 ±0.1 °C)"),
			humidity("±1.8 % (SHT45 ±1 %)"),
		},
		Doubts: "Each word has a checksum. Humidity a little beyond 0 or 100 %, which the chip may give, is cut off as the data sheet advises.",
	}
}

// Open opens the bus and takes a measurement.
func (c *SHT4x) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	chip := map[string]*shtChip{ // longest times of the data sheet
		high:   {command: [2]byte{0xFD}, conversion: 8300 * time.Microsecond},
		medium: {command: [2]byte{0xF6}, conversion: 4500 * time.Microsecond},
		low:    {command: [2]byte{0xE0}, conversion: 1700 * time.Microsecond},
	}[c.Precision]
	return open(ctx, env, place{"sht4x", c.Bus, c.Address}, sheetSHT4x().Metrics, chip)
}

// shtChip measures on command. It has no settings.
type shtChip struct {
	command    [2]byte
	long       bool // the command has two bytes: it is an SHT3x
	conversion time.Duration
}

// setUp sees whether the chip measures.
func (c *shtChip) setUp(g *guard) error {
	var v values
	return c.measure(g, &v)
}

func (c *shtChip) measure(g *guard, v *values) error {
	n := 1
	if c.long {
		n = 2
	}
	if err := g.write(c.command[:n]...); err != nil {
		return err
	}
	if err := g.wait(c.conversion); err != nil {
		return err
	}
	r, err := g.command(6)
	if err != nil {
		return err
	}
	t, err := sensirionWord(r, 0)
	if err != nil {
		return err
	}
	h, err := sensirionWord(r, 1)
	if err != nil {
		return err
	}
	v.set(0, inSteps(-45+175*float64(t)/65535, 100))
	percent := 100 * float64(h) / 65535
	if !c.long {
		percent = min(max(-6+125*float64(h)/65535, 0), 100)
	}
	v.set(1, inSteps(percent, 100))
	return nil
}

// SCD4x is the configuration of the driver scd4x.
type SCD4x struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x62
	// LowPower measures every 30 s instead of every 5 s.
	LowPower bool `yaml:"low_power"`
	// SelfCalibration, on by default, takes the lowest value of a week for fresh
	// air. It must be off where there is never fresh air, as in a greenhouse.
	SelfCalibration bool `yaml:"self_calibration"`
	// Altitude in metres above the sea, 0 to 3000, corrects for thin air.
	Altitude int `yaml:"altitude"`
}

const scd4xAddress = 0x62

// Validate checks the keys.
func (c *SCD4x) Validate() error {
	errs := []error{checkBus(c.Bus)}
	if c.Address != scd4xAddress {
		errs = append(errs, oneAddress(c.Address, scd4xAddress))
	}
	if c.Altitude < 0 || c.Altitude > 3000 {
		errs = append(errs, outOfRange("altitude", c.Altitude, "0 to 3000 m"))
	}
	return errors.Join(errs...)
}

func sheetSCD4x() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Sensirion SCD40, SCD41", Documents: "Datasheet SCD4x", Conversion: 5 * time.Second,
		Metrics: []sensors.Metric{
			{Name: "co2", Unit: "ppm", Min: 1, Max: 40_000, MaxRate: maxPPM, Step: 1, Accuracy: "±(50 ppm + 5 %) from 400 to 2,000 ppm"},
			temperature(-10, 60, 0.01, "±0.8 °C from 15 to 35 °C"),
			humidity("±6 % from 15 to 35 °C"),
		},
		Doubts: "Each word has a checksum. The chip measures every 5 s by itself, or every 30 s: a sample between two measurements gives no reading, and a chip that has had nothing new for two and a half periods is an error.",
	}
}

// Open opens the bus and starts the chip, which takes half a second.
func (c *SCD4x) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"scd4x", c.Bus, c.Address}, sheetSCD4x().Metrics, &scd4xChip{cfg: *c, now: env.Clock.Run})
}

// Commands of the SCD4x.
const (
	scdStart           = 0x21B1
	scdStartLow        = 0x21AC
	scdStop            = 0x3F86
	scdReady           = 0xE4B8
	scdRead            = 0xEC05
	scdSerial          = 0x3682
	scdAltitude        = 0x2427
	scdSelfCalibration = 0x2416
	scdWakeUp          = 0x36F6
)

type scd4xChip struct {
	cfg  SCD4x
	now  func() time.Duration // run time
	last time.Duration        // of the last measurement, or of the start
}

func (c *scd4xChip) period() time.Duration {
	if c.cfg.LowPower {
		return 30 * time.Second
	}
	return 5 * time.Second
}

// setUp stops the chip, which alone lets it be told anything, and starts it. It
// reads the serial number to see whether the chip is there.
func (c *scd4xChip) setUp(g *guard) error {
	// No error: only a chip that is awake acknowledges this one.
	_ = g.try(scdWakeUp>>8, scdWakeUp&0xFF)
	if err := g.wait(30 * ms); err != nil {
		return err
	}
	if err := c.do(g, scdStop, 500*ms); err != nil {
		return err
	}
	if _, err := c.ask(g, scdSerial, 3); err != nil {
		return err
	}
	if err := c.tell(g, scdAltitude, uint16(c.cfg.Altitude)); err != nil {
		return err
	}
	calibrates := uint16(0)
	if c.cfg.SelfCalibration {
		calibrates = 1
	}
	if err := c.tell(g, scdSelfCalibration, calibrates); err != nil {
		return err
	}
	start := uint16(scdStart)
	if c.cfg.LowPower {
		start = scdStartLow
	}
	c.last = c.now()
	return c.do(g, start, 0)
}

// do sends a command that takes some time.
func (c *scd4xChip) do(g *guard, command uint16, takes time.Duration) error {
	if err := g.write(byte(command>>8), byte(command)); err != nil {
		return err
	}
	if takes == 0 {
		return nil
	}
	return g.wait(takes)
}

// tell sends a command with an argument.
func (c *scd4xChip) tell(g *guard, command, arg uint16) error {
	w := [5]byte{byte(command >> 8), byte(command), byte(arg >> 8), byte(arg)}
	w[4] = crc8(w[2:4])
	if err := g.write(w[:]...); err != nil {
		return err
	}
	return g.wait(ms)
}

// ask sends a command and reads its answer of n words, whose checksums are right.
func (c *scd4xChip) ask(g *guard, command uint16, n int) ([]byte, error) {
	if err := c.do(g, command, ms); err != nil {
		return nil, err
	}
	r, err := g.command(3 * n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		if _, err := sensirionWord(r, i); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (c *scd4xChip) measure(g *guard, v *values) error {
	r, err := c.ask(g, scdReady, 1)
	if err != nil {
		return err
	}
	if (uint16(r[0])<<8|uint16(r[1]))&0x07FF == 0 {
		if since := c.now() - c.last; since > c.period()*5/2 {
			return fmt.Errorf("%w: nothing new for %s", errPolling, since.Round(time.Second))
		}
		return nil
	}
	if r, err = c.ask(g, scdRead, 3); err != nil {
		return err
	}
	c.last = c.now()
	word := func(i int) float64 { return float64(uint16(r[3*i])<<8 | uint16(r[3*i+1])) }
	quality := edgeagent.Good
	if word(0) >= 40_000 { // the end of its range
		quality = edgeagent.Bad
	}
	v.doubt(0, word(0), quality)
	v.set(1, inSteps(-45+175*word(1)/65535, 100))
	v.set(2, inSteps(100*word(2)/65535, 100))
	return nil
}
