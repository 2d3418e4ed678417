package replay_test

import (
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/replay"
)

func ExampleConfig() {
	config := replay.Default()
	config.File = "testdata/furnace.csv"
	config.Metric, config.Unit = "temperature", "Cel"
	config.Pace, config.Stamp = "max", replay.StampRecorded
	source, err := config.Open(context.Background(), sensors.Env{Sensor: "furnace", Dir: ".", Clock: clock.Go()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer source.Close()
	readings, err := source.Sample(context.Background(), nil)
	for _, r := range readings {
		fmt.Println(r.Series, r.Value, r.At.Wall)
	}
	fmt.Println(err)
	// Output:
	// furnace/temperature 812.5 1767225600000000000
	// furnace/temperature 813 1767225660000000000
	// source has ended
}
