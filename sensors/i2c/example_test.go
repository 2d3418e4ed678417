package i2c_test

import (
	"context"
	"fmt"

	periph "periph.io/x/conn/v3/i2c"

	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sim/bus"
)

func ExampleBMxx80() {
	chip := bus.NewBME280(0x76, func() (celsius, pascal, percent float64) { return 25.08, 100653, 46.33 })
	env := sensors.Env{
		Sensor: "cellar", Clock: clock.Go(),
		I2C: func(string) (periph.BusCloser, error) { return bus.New(chip), nil }, // a machine passes i2c.OpenBus
	}
	config := i2c.BMxx80{Bus: "1", Address: 0x76, Oversampling: 4}
	source, err := config.Open(context.Background(), env)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	readings, err := source.Sample(context.Background(), nil)
	for _, r := range readings {
		fmt.Println(r.Series, r.Value, r.Series.Key().Unit)
	}
	fmt.Println(err)
	// Output:
	// cellar/temperature 25.08 Cel
	// cellar/humidity 46.33 %
	// cellar/pressure 100653 Pa
	// <nil>
}
