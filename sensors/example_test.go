package sensors_test

import (
	"context"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

// door is the smallest source there is.
type door struct {
	env    sensors.Env
	series edgeagent.Series
}

func (d *door) Sample(_ context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, edgeagent.Reading{Series: d.series, At: d.env.Now(), Value: 1}), nil
}

func (d *door) Close() error { return nil }

// doorConfig is its part of the configuration.
type doorConfig struct{}

func (doorConfig) Validate() error { return nil }

func (doorConfig) Open(_ context.Context, env sensors.Env) (sensors.Source, error) {
	return &door{env, env.NewSeries("open", "", edgeagent.State)}, nil
}

// printer is a sink that stops the scheduler after the first reading.
type printer struct{ stop func() }

func (p printer) Put(_ context.Context, rs []edgeagent.Reading) error {
	fmt.Println(rs[0].Series, rs[0].Value, rs[0].Quality)
	p.stop()
	return nil
}

func ExampleScheduler() {
	ctx, stop := context.WithCancel(context.Background())
	config := sensors.Config{Name: "cellar", Driver: "door", Interval: time.Minute, Options: doorConfig{}}
	env := sensors.Env{Root: "/", Clock: clock.Go()}
	s := sensors.NewScheduler([]sensors.Spec{sensors.NewSpec(config, env)}, printer{stop}, sensors.Options{})
	fmt.Println(s.Run(ctx), s.Taken())
	// Output:
	// cellar/open 1 good
	// <nil> 1
}
