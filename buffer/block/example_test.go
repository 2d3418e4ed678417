package block_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

func Example() {
	id := block.ID{
		Stream: edgeagent.StreamTelemetry, Epoch: 0x9f02c4d1a7b35e68, First: 1201, Run: 0x9c01f3aa,
		Resolution: edgeagent.DefaultResolution,
	}
	const start = 1_772_323_200_000_000_000 // ns
	rows := make([]block.Row, 0, 600)
	for i := range 300 {
		at := start + int64(i)*1_000_000_000
		rows = append(rows,
			block.Row{Series: 1, Time: at, Value: 21.5 + float64(i%7)/100},
			block.Row{Series: 2, Time: at, Value: 1013.25, Quality: edgeagent.Stale})
	}

	var enc block.Encoder
	blk, err := enc.Readings(nil, id, rows)
	if err != nil {
		fmt.Println(err)
		return
	}
	var dec block.Decoder
	got, h, err := dec.Readings(nil, blk)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %d to %d of run %s\n", h.Stream, h.First, h.Last(), h.Run)
	fmt.Println(len(got), "readings in less than 300 bytes:", len(blk) < 300)
	fmt.Println(got[3].Series, got[3].Value, got[3].Quality)
	// Output:
	// telemetry 1201 to 1800 of run 9c01f3aa
	// 600 readings in less than 300 bytes: true
	// 2 1013.25 stale
}

func ExampleNext() {
	var enc block.Encoder
	key := edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel", Resolution: 6}
	message, err := enc.Series(nil, "gw-7", 1, []block.SeriesEntry{{ID: 1, Key: key}})
	if err != nil {
		fmt.Println(err)
		return
	}
	id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: 1, Run: 2, Resolution: 6}
	message, err = enc.Readings(message, id, []block.Row{{Series: 1, Time: 1_772_323_200_000_000_000, Value: 64.5}})
	if err != nil {
		fmt.Println(err)
		return
	}

	for len(message) > 0 {
		var blk []byte
		if blk, message, err = block.Next(message); err != nil {
			fmt.Println(err)
			return
		}
		h, err := block.Check(blk)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(h.Kind, h.Count)
	}
	// Output:
	// series 1
	// readings 1
}
