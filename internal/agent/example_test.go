package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sim/bus"
)

// A gateway with a simulated chip behind the real driver. It has no destination:
// what it reads stays in its buffer.
func Example() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cfg, err := configs.Parse(filepath.Join(dir, "agent.yaml"), []byte(`
version: 1
device: {id: greenhouse}
sensors:
  - {name: air, driver: bmxx80, bus: "1", interval: 20ms}
buffer: {dir: buffer}
api: {socket: `+filepath.Join(dir, "agent.sock")+`}
`), configs.Options{Drivers: agent.Drivers()})
	if err != nil {
		fmt.Println(err)
		return
	}
	chip := bus.NewBME280(0x76, func() (celsius, pascal, percent float64) { return 21, 101_325, 50 })
	a, err := agent.New(agent.Options{Config: cfg, I2C: bus.New(chip).Open, Clock: clock.Go()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if _, stored, _ := a.Counts(); stored >= 3 {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	}()
	if err := a.Run(ctx); err != nil {
		fmt.Println(err)
		return
	}
	taken, accepted, _ := a.Counts()
	fmt.Println(taken > 0, taken == accepted)
	for _, v := range a.Status(context.Background()).Sensors[0].Values {
		fmt.Printf("%s %.0f %s\n", v.Series, float64(v.Value), v.Unit)
	}
	// Output:
	// true true
	// air/temperature 21 Cel
	// air/humidity 50 %
	// air/pressure 101325 Pa
}
