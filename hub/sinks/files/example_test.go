package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/files"
)

// A day of a device is a file.
func Example() {
	dir, _ := os.MkdirTemp("", "out")
	defer os.RemoveAll(dir)
	sink, err := files.New(dir, files.JSONL)
	if err != nil {
		fmt.Println(err)
		return
	}
	series := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel"})
	err = sink.Commit(context.Background(), hub.Cut{
		Tenant: "default", Device: "gw-7", Epoch: 0x9f02, Run: 1, Stream: edgeagent.StreamTelemetry,
		Ranges: []edgeagent.Range{{From: 1, To: 1}},
		Rows:   []hub.Row{{Seq: 1, Series: series, Time: 1_772_366_400_000_000_000, Value: 61.5}},
	})
	b, _ := os.ReadFile(filepath.Join(dir, "default", "gw-7", "2026-03-01.jsonl"))
	fmt.Print(string(b), err)
	// Output:
	// {"t":"2026-03-01T12:00:00.000Z","tenant":"default","device":"gw-7","sensor":"boiler","metric":"temperature","unit":"Cel","value":61.5,"q":"good","epoch":"0000000000009f02","run":"00000001","stream":"telemetry","seq":1}
	// <nil>
}
