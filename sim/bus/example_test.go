package bus_test

import (
	"fmt"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"

	"github.com/edgeagent/edgeagent/sim/bus"
)

func Example() {
	chip := bus.NewBME280(0x76, func() (celsius, pascal, percent float64) { return 25.08, 100653, 46.3 })
	dev, err := bmxx80.NewI2C(bus.New(chip), 0x76, &bmxx80.DefaultOpts)
	if err != nil {
		fmt.Println(err)
		return
	}
	var e physic.Env
	if err := dev.Sense(&e); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Temperature)
	// Output: 25.080°C
}
