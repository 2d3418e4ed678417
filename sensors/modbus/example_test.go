package modbus_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/sensors/modbus"
)

func Example() {
	c := modbus.Default()
	c.URL = "tcp://192.168.1.20"
	fmt.Println(c.Validate())
	c.Registers = []modbus.Register{{Metric: "voltage", Table: "input", Type: "f32", Unit: "V"}}
	fmt.Println(c.Validate())
	fmt.Println(modbus.Presets())
	// Output:
	// registers: nothing is read
	// <nil>
	// [em340 sdm120 sdm630 sunspec-103]
}
