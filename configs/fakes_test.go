package configs

import (
	"context"
	"errors"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sensors"
)

// fakeDrivers stands in for the real list where a test is about the reading of
// files and not about a driver.
func fakeDrivers() []sensors.Driver {
	return []sensors.Driver{
		{Name: "chip", New: func() sensors.DriverConfig { return &chip{Address: 0x76} }},
		{Name: "file", New: func() sensors.DriverConfig { return &fileDriver{Pace: "original"} }},
	}
}

type chip struct {
	Bus     string           `yaml:"bus"`
	Address uint16           `yaml:"address"`
	Factor  float64          `yaml:"factor"`
	Pin     edgeagent.Secret `yaml:"pin"`
}

func (c *chip) Validate() error {
	var errs []error
	if c.Bus == "" {
		errs = append(errs, edgeagent.WithHint(edgeagent.Field("bus", "missing key bus"), `write "bus: 1" for /dev/i2c-1`))
	}
	if c.Address > 0x7f {
		errs = append(errs, edgeagent.Field("address", "0x%x is not a 7-bit address", c.Address))
	}
	return errors.Join(errs...)
}

func (c *chip) Open(context.Context, sensors.Env) (sensors.Source, error) {
	return nil, errors.ErrUnsupported
}

type fileDriver struct {
	File string `yaml:"file"`
	Pace string `yaml:"pace"`
	Loop bool   `yaml:"loop"`
}

func (c *fileDriver) Validate() error {
	if c.File == "" {
		return edgeagent.Field("file", "missing key file")
	}
	return nil
}

func (c *fileDriver) Open(context.Context, sensors.Env) (sensors.Source, error) {
	return nil, errors.ErrUnsupported
}
