package i2c

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent/sensors"
)

// Registers that TMP102, LM75 and MCP9808 share.
const (
	regTemperature = 0
	regSettings    = 1
)

// TMP102 is the configuration of the driver tmp102.
type TMP102 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x48 to 0x4b; 0x48 by default
}

// Validate checks the keys.
func (c *TMP102) Validate() error {
	return errors.Join(checkBus(c.Bus), checkAddress(c.Address, 0x48, 0x4B))
}

func sheetTMP102() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Texas Instruments TMP102", Documents: "SBOS397",
		Metrics: []sensors.Metric{temperature(-40, 125, 0.0625, "±0.5 °C, at most ±2 °C from -25 to 85 °C")},
		Doubts:  "Each sample reads the settings back. They differ from those after power-on, so that the 0 °C that the chip shows before its first measurement is never taken for a reading.",
	}
}

// Open opens the bus and sets the chip up.
func (c *TMP102) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"tmp102", c.Bus, c.Address}, sheetTMP102().Metrics, &tmp102Chip{})
}

type tmp102Chip struct{}

const (
	// tmp102Settings: eight conversions a second. After power-on there are four,
	// which tells a chip that has lost its settings.
	tmp102Settings = 0x60E0
	tmp102Alert    = 0x0020 // says what the alert pin does, whatever it is set to
	// tmp102Fixed are the bits that are the same in every TMP102: the resolution
	// bits are set and the last four clear.
	tmp102Fixed, tmp102FixedValue = 0x600F, 0x6000
	tmp102First                   = 40 * ms // after power-on; the data sheet says 35 at most
)

func (*tmp102Chip) setUp(g *guard) error {
	was, err := g.word(regSettings)
	if err != nil {
		return err
	}
	if was&tmp102Fixed != tmp102FixedValue {
		return fmt.Errorf("%w: settings 0x%04x are none of a TMP102", errOtherChip, was)
	}
	if was&^tmp102Alert == tmp102Settings&^tmp102Alert {
		return nil
	}
	if err := g.putWord(regSettings, tmp102Settings); err != nil {
		return err
	}
	return g.wait(tmp102First)
}

func (*tmp102Chip) measure(g *guard, v *values) error {
	raw, err := g.word(regTemperature)
	if err != nil {
		return err
	}
	kept, err := g.word(regSettings)
	if err != nil {
		return err
	}
	if kept&^tmp102Alert != tmp102Settings&^tmp102Alert {
		return errLost
	}
	if raw&0xF != 0 {
		return fmt.Errorf("%w: temperature 0x%04x is none of a TMP102", errOtherChip, raw)
	}
	v.set(0, steps(int64(int16(raw))>>4, 16))
	return nil
}

// LM75 is the configuration of the driver lm75.
type LM75 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x48 to 0x4f; 0x48 by default
	// Resolution is how many bits of a temperature count: 9 (0.5 °C, the default)
	// to 12 (1/16 °C). Chips that can choose are told.
	Resolution int `yaml:"resolution"`
}

// Validate checks the keys.
func (c *LM75) Validate() error {
	return errors.Join(checkBus(c.Bus), checkAddress(c.Address, 0x48, 0x4F),
		checkNumber("resolution", c.Resolution, 9, 10, 11, 12))
}

func sheetLM75() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "LM75, LM75A, LM75B, TMP75, TMP105, TMP175, DS75", Documents: "SNIS153 (LM75B), SBOS288 (TMP75), SBOS297 (TMP105)",
		Metrics: []sensors.Metric{temperature(-55, 125, 0.5, "±2 °C from -25 to 100 °C, ±3 °C beyond")},
		Doubts:  "As tmp102: the settings are read back with each sample, and differ from those after power-on.",
	}
}

// Open opens the bus and sets the chip up.
func (c *LM75) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"lm75", c.Bus, c.Address}, sheetLM75().Metrics, &lm75Chip{bits: c.Resolution})
}

type lm75Chip struct{ bits int }

const (
	// lm75Queue: the alert pin waits for two conversions. After power-on it waits
	// for one, which tells a chip that has lost its settings.
	lm75Queue = 0x08
	// lm75Kept are the bits that every chip of the kind has and keeps: the alert
	// queue and shutdown.
	lm75Kept  = 0x19
	lm75First = 300 * ms // the slowest of the kind (LM75A, TMP75 with twelve bits)
)

func (c *lm75Chip) settings() byte { return lm75Queue | byte(c.bits-9)<<5 }

func (c *lm75Chip) setUp(g *guard) error {
	r, err := g.command(1, regSettings)
	if err != nil {
		return err
	}
	if r[0] == c.settings() {
		return nil
	}
	if err := g.write(regSettings, c.settings()); err != nil {
		return err
	}
	return g.wait(lm75First)
}

func (c *lm75Chip) measure(g *guard, v *values) error {
	raw, err := g.word(regTemperature)
	if err != nil {
		return err
	}
	kept, err := g.command(1, regSettings)
	if err != nil {
		return err
	}
	if kept[0]&lm75Kept != lm75Queue {
		return errLost
	}
	n := int64(int16(raw)) >> (16 - c.bits) // the others are undefined
	v.set(0, steps(n, float64(int(1)<<(c.bits-8))))
	return nil
}

// MCP9808 is the configuration of the driver mcp9808.
type MCP9808 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x18 to 0x1f; 0x18 by default
}

// Validate checks the keys.
func (c *MCP9808) Validate() error {
	return errors.Join(checkBus(c.Bus), checkAddress(c.Address, 0x18, 0x1F))
}

func sheetMCP9808() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Microchip MCP9808", Documents: "DS25095",
		Metrics: []sensors.Metric{temperature(-40, 125, 0.0625, "±0.25 °C, at most ±0.5 °C from -20 to 100 °C")},
		Doubts:  "The maker's number is checked, and each sample reads the settings back. They differ from those after power-on, as with tmp102.",
	}
}

// Open opens the bus and sets the chip up.
func (c *MCP9808) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"mcp9808", c.Bus, c.Address}, sheetMCP9808().Metrics, &mcp9808Chip{})
}

type mcp9808Chip struct{}

const (
	mcpTemperature = 5
	mcpMaker       = 6
	mcpDevice      = 7
	mcpResolution  = 8

	// mcpSettings: 1.5 °C of hysteresis for alerts. After power-on there is none,
	// which tells a chip that has lost its settings.
	mcpSettings = 0x0200
	mcpFinest   = 3
	mcpFirst    = 300 * ms // 250 at the finest resolution
)

func (*mcp9808Chip) setUp(g *guard) error {
	maker, err := g.word(mcpMaker)
	if err != nil {
		return err
	}
	device, err := g.word(mcpDevice)
	if err != nil {
		return err
	}
	if maker != 0x0054 || device>>8 != 0x04 {
		return fmt.Errorf("%w: maker 0x%04x and device 0x%04x, an MCP9808 has 0x0054 and 0x04…", errOtherChip, maker, device)
	}
	was, err := g.word(regSettings)
	if err != nil || was == mcpSettings {
		return err
	}
	if err := g.write(mcpResolution, mcpFinest); err != nil {
		return err
	}
	if err := g.putWord(regSettings, mcpSettings); err != nil {
		return err
	}
	return g.wait(mcpFirst)
}

func (*mcp9808Chip) measure(g *guard, v *values) error {
	raw, err := g.word(mcpTemperature)
	if err != nil {
		return err
	}
	kept, err := g.word(regSettings)
	if err != nil {
		return err
	}
	if kept != mcpSettings {
		return errLost
	}
	v.set(0, steps(int64(int16(raw<<3))>>3, 16)) // three bits of alerts, then a sign
	return nil
}
