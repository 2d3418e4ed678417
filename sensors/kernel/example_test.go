package kernel_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/kernel"
)

// A tree of files stands in for /sys.
func ExampleThermal() {
	root, err := os.MkdirTemp("", "sys")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(root)
	zone := filepath.Join(root, "sys/class/thermal/thermal_zone0")
	if err := os.MkdirAll(zone, 0o700); err != nil {
		fmt.Println(err)
		return
	}
	_ = os.WriteFile(filepath.Join(zone, "type"), []byte("cpu-thermal\n"), 0o600)
	_ = os.WriteFile(filepath.Join(zone, "temp"), []byte("48312\n"), 0o600)

	config := kernel.Thermal{Zone: "cpu-thermal"}
	source, err := config.Open(context.Background(), sensors.Env{Sensor: "pi", Root: root, Clock: clock.Go()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	readings, err := source.Sample(context.Background(), nil)
	fmt.Println(readings[0].Series, readings[0].Value, readings[0].Series.Key().Unit, err)
	// Output: pi/temperature 48.312 Cel <nil>
}
