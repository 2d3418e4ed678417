package serial_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/sensors/serial"
)

func Example() {
	c := serial.Default()
	c.Port = "ttyACM0"
	fmt.Println(c.Validate())
	// Output: port: "ttyACM0" is not the path of a serial port
}
