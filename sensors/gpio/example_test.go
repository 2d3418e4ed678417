package gpio_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent/sensors/gpio"
)

// A line is checked before it is opened.
func Example() {
	c := gpio.Default()
	c.Line = "17"
	fmt.Println(c.Validate())
	c.Chip = "gpiochip0"
	fmt.Println(c.Validate())
	// Output:
	// chip: missing key chip
	// <nil>
}
