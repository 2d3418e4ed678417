package edgeagent_test

import (
	"fmt"

	"github.com/edgeagent/edgeagent"
)

func ExampleRanges() {
	var held edgeagent.Ranges
	held.Add(edgeagent.Range{From: 1, To: 100})
	held.Add(edgeagent.Range{From: 151, To: 200})
	fmt.Println(held.Missing(edgeagent.Range{From: 1, To: 210}))
	// An overlapping batch contributes only what is new.
	fmt.Println(held.Add(edgeagent.Range{From: 90, To: 160}), "new, now", held)
	// Output:
	// [{101 150} {201 210}]
	// 50 new, now [{1 200}]
}

func ExampleNewSeries() {
	key := edgeagent.SeriesKey{Sensor: "plant1/boiler", Metric: "temperature", Unit: "Cel", Resolution: edgeagent.DefaultResolution}
	a, b := edgeagent.NewSeries(key), edgeagent.NewSeries(key)
	fmt.Println(a, a == b)
	// Output: plant1/boiler/temperature true
}

func ExampleParseBytes() {
	b, _ := edgeagent.ParseBytes("64MiB")
	fmt.Println(int64(b), b)
	// Output: 67108864 64 MiB
}
