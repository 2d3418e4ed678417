package i2c

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgeagent/edgeagent/sensors"
)

// AHT20 is the configuration of the driver aht20.
type AHT20 struct {
	Bus     string `yaml:"bus"`     // as in [BMxx80]
	Address uint16 `yaml:"address"` // 0x38
}

const aht20Address = 0x38

// Validate checks the keys.
func (c *AHT20) Validate() error {
	errs := []error{checkBus(c.Bus)}
	if c.Address != aht20Address {
		errs = append(errs, oneAddress(c.Address, aht20Address))
	}
	return errors.Join(errs...)
}

func sheetAHT20() *sensors.Datasheet {
	return &sensors.Datasheet{
		Chips: "Aosong (ASAIR) AHT20", Documents: "AHT20 Product manuals A1", Conversion: 80 * ms,
		Metrics: []sensors.Metric{
			temperature(-40, 85, 0.01, "±0.3 °C"),
			humidity("±2 %"),
		},
		Doubts: "Each answer has a checksum and says whether the chip is calibrated.",
	}
}

// Open opens the bus and sets the chip up.
func (c *AHT20) Open(ctx context.Context, env sensors.Env) (sensors.Source, error) {
	return open(ctx, env, place{"aht20", c.Bus, c.Address}, sheetAHT20().Metrics, &aht20Chip{})
}

type aht20Chip struct{}

const (
	ahtBusy       = 0x80
	ahtCalibrated = 0x08
	ahtPolls      = 10 // of 10 ms each
)

func (*aht20Chip) setUp(g *guard) error {
	r, err := g.command(1, 0x71)
	if err != nil {
		return err
	}
	if r[0]&ahtCalibrated != 0 {
		return nil
	}
	if err := g.write(0xBE, 0x08, 0x00); err != nil {
		return err
	}
	return g.wait(10 * ms)
}

func (*aht20Chip) measure(g *guard, v *values) error {
	if err := g.write(0xAC, 0x33, 0x00); err != nil {
		return err
	}
	if err := g.wait(80 * ms); err != nil {
		return err
	}
	for range ahtPolls {
		r, err := g.command(7)
		if err != nil {
			return err
		}
		if r[0]&ahtBusy == 0 {
			return ahtValues(r, v)
		}
		if err := g.wait(10 * ms); err != nil {
			return err
		}
	}
	return errPolling
}

func ahtValues(r []byte, v *values) error {
	if want := crc8(r[:6]); r[6] != want {
		return fmt.Errorf("%w 0x%02x of % x, want 0x%02x", errChecksum, r[6], r[:6], want)
	}
	if r[0]&ahtCalibrated == 0 {
		return errLost
	}
	h := uint32(r[1])<<12 | uint32(r[2])<<4 | uint32(r[3])>>4
	t := uint32(r[3]&0xF)<<16 | uint32(r[4])<<8 | uint32(r[5])
	v.set(0, inSteps(float64(t)*200/(1<<20)-50, 100))
	v.set(1, inSteps(float64(h)*100/(1<<20), 100))
	return nil
}
