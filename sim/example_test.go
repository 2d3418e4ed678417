package sim_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edgeagent/edgeagent/sim"
)

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
