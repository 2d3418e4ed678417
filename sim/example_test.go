package sim_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edgeagent/edgeagent/sim"
)

// A thermometer in a room that gets stuck after an hour.
func ExampleSensorWorld() {
	w := sim.NewSensorWorld(sim.Room, 20*time.Minute, 1)
	for i := range 6 {
		if i == 3 {
			w.Inject(sim.SensorStuck, 1)
		}
		at, celsius, ok := w.Next()
		fmt.Println(at, celsius, ok)
	}
	// Output:
	// 0s 19.68 true
	// 20m0s 19.59 true
	// 40m0s 19.66 true
	// 1h0m0s 19.66 true
	// 1h20m0s 19.66 true
	// 1h40m0s 19.66 true
}

// A gateway, its broker and its receiver for a second, and the verdict.
func ExampleDemo() {
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	demo, err := sim.NewDemo(sim.DemoOptions{Dir: dir, Socket: filepath.Join(dir, "demo.sock"), For: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := demo.Run(context.Background(), func(context.Context, sim.Snapshot) {})
	fmt.Println(err, "lost", report.Lost, "duplicates", report.Duplicates, "ok", report.OK)
	// Output: <nil> lost 0 duplicates 0 ok true
}
