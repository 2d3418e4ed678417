package i2c

import (
	"context"
	"errors"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// BH1750 is the configuration of the driver bh1750.
type BH1750 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x23 or 0x5c; 0x23 by default
}

// Validate checks the keys.
func (c *BH1750) Validate() error {
	errs := []error{checkBus(c.Bus)}
	if c.Address != 0x23 && c.Address != 0x5C {
		errs = append(errs, edgeagent.Field("address", "0x%02x is not an address of this chip, want 0x23 or 0x5c", c.Address))
	}
	return errors.Join(errs...)
}

func sheetBH1750() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Rohm BH1750FVI", Documents: "BH1750FVI", Conversion: 180 * ms,
		Metrics: []sensors.Metric{{Name: "illuminance", Unit: "lx", Min: 0, Max: 54_612, Step: 0.83, Accuracy: "±20 %"}},
		Doubts: "The chip has neither identity nor checksum. 0 lx is suspect: it is dark, or the chip sends zeros. The top of the range is bad: " +
			"it is brighter, or nobody drives the bus.",
	}
}

// Open opens the bus and takes a measurement.
func (c *BH1750) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"bh1750", c.Bus, c.Address}, sheetBH1750().Metrics, &bh1750Chip{})
}

type bh1750Chip struct{}

func (*bh1750Chip) setUp(g *guard) error { return g.write(0x01) } // on

// mute says that an answer of nothing but 0x00 or 0xFF can be a measurement.
func (*bh1750Chip) mute() {}

func (*bh1750Chip) measure(g *guard, v *values) error {
	if err := g.write(0x20); err != nil { // once, with high resolution
		return err
	}
	if err := g.wait(180 * ms); err != nil {
		return err
	}
	r, err := g.command(2)
	if err != nil {
		return err
	}
	raw := uint16(r[0])<<8 | uint16(r[1])
	quality := edgeagent.Good
	switch raw {
	case 0:
		quality = edgeagent.Suspect
	case 0xFFFF:
		quality = edgeagent.Bad
	}
	v.doubt(0, inSteps(float64(raw)/1.2, 100), quality)
	return nil
}
