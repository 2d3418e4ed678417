package agent

import (
	"slices"

	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/exec"
	"github.com/edgeagent/edgeagent/sensors/gpio"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sensors/kernel"
	"github.com/edgeagent/edgeagent/sensors/modbus"
	"github.com/edgeagent/edgeagent/sensors/mqttin"
	"github.com/edgeagent/edgeagent/sensors/push"
	"github.com/edgeagent/edgeagent/sensors/replay"
	"github.com/edgeagent/edgeagent/sensors/serial"
)

// Drivers lists every sensor driver that this build knows. It is the one list:
// configuration is checked against it and sources are opened from it.
func Drivers() []sensors.Driver {
	return slices.Concat(kernel.Drivers(), i2c.Drivers(), gpio.Drivers(), modbus.Drivers(), mqttin.Drivers(), exec.Drivers(), push.Drivers(), serial.Drivers(), replay.Drivers())
}
