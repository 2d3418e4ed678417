package wire_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/sync/wire"
)

// one is a batch of one reading. Batches come from the buffer; this one is made by
// hand.
type one edgeagent.Reading

func (o one) Readings(dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	return append(dst, edgeagent.Reading(o)), nil
}

func (one) Events([]edgeagent.Event) ([]edgeagent.Event, error) { return nil, errors.New("no events") }

func (one) Cut(edgeagent.Range) (edgeagent.Batch, error) {
	return edgeagent.Batch{}, errors.New("no cut")
}

func Example() {
	boiler := edgeagent.NewSeries(edgeagent.SeriesKey{
		Sensor: "boiler", Metric: "temperature", Unit: "Cel",
		Tags: edgeagent.MakePairs(map[string]string{"site": "oslo"}),
	})
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	batch := edgeagent.NewBatch(
		edgeagent.BatchHeader{Stream: edgeagent.StreamTelemetry, Epoch: 1, Run: 2, First: 17, Count: 1}, nil,
		one{Series: boiler, At: edgeagent.Instant{Wall: at.UnixNano()}, Value: 21.5, Quality: edgeagent.Suspect})

	for _, name := range []string{"line", "json"} {
		f, err := wire.New(name)
		if err != nil {
			fmt.Println(err)
			return
		}
		out, err := f.Encode(nil, batch, "gw-17")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(string(out))
	}
	// Output:
	// boiler,device=gw-17,site=oslo temperature=21.5,quality="suspect" 1795424400000000000
	// {"t":"2026-11-23T09:00:00.000Z","device":"gw-17","sensor":"boiler","metric":"temperature","unit":"Cel","value":21.5,"q":"suspect","tags":{"site":"oslo"},"epoch":"0000000000000001","run":"00000002","stream":"telemetry","seq":17}
}
