package buffer_test

import (
	"context"
	"fmt"
	"os"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
)

// A destination reads what it has not confirmed, sends it, and confirms ranges.
func Example() {
	dir, err := os.MkdirTemp("", "buffer")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	b, _, err := buffer.Open(ctx, dir, buffer.Options{Device: "gw-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := b.Register(buffer.Destination{Name: "cloud"}); err != nil {
		fmt.Println(err)
		return
	}

	temperature := edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: "boiler", Metric: "temperature", Unit: "Cel", Resolution: edgeagent.DefaultResolution,
	})
	last, err := b.Append(ctx, []edgeagent.Reading{
		{Series: temperature, Value: 71.5, At: edgeagent.Instant{Wall: 1e9}},
		{Series: temperature, Value: 71.8, At: edgeagent.Instant{Wall: 2e9}},
	})
	fmt.Println("durable up to", last, err)

	cursor, err := b.Cursor("cloud", edgeagent.StreamTelemetry)
	if err != nil {
		fmt.Println(err)
		return
	}
	batch, _, err := cursor.Live(1).Next(ctx, edgeagent.Limit{Records: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	readings, err := batch.Readings(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range readings {
		fmt.Println(r.Series, r.Value)
	}
	err = b.Ack(ctx, "cloud", batch.Epoch, batch.Stream, []edgeagent.Range{batch.Range()})
	fmt.Println("unconfirmed:", cursor.Unconfirmed(), err)
	fmt.Println(b.Close(ctx))
	// Output:
	// durable up to 2 <nil>
	// boiler/temperature 71.5
	// boiler/temperature 71.8
	// unconfirmed: 0 <nil>
	// <nil>
}
