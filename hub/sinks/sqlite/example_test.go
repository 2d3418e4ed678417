package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/hub/sinks/sqlite"
)

// A hub commits what it receives; a page or a command reads it.
func Example() {
	dir, _ := os.MkdirTemp("", "hub")
	defer os.RemoveAll(dir)
	ctx := context.Background()
	s, err := sqlite.Open(ctx, filepath.Join(dir, "hub.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	key := edgeagent.SeriesKey{Sensor: "boiler", Metric: "temperature", Unit: "Cel"}
	cut := &hub.Cut{
		Tenant: "default", Device: "gw-7", Epoch: 0x9f02, Stream: edgeagent.StreamTelemetry, Run: 1,
		Ranges: []edgeagent.Range{{From: 1, To: 1}},
		Rows:   []hub.Row{{Seq: 1, ID: 1, Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano(), Value: 61.5}},
	}
	err = s.Commit(ctx, []hub.Change{{
		EpochID: cut.EpochID(), Cut: cut,
		Series:  []hub.SeriesName{{ID: 1, Key: key}},
		Streams: []hub.StreamChange{{Stream: cut.Stream, State: hub.StreamState{Held: []hub.Span{{Range: cut.Ranges[0], Run: 1}}}}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for r, err := range s.Read(ctx, hub.Query{Device: "gw-7", Series: "boiler/temperature", Newest: true, Limit: 10}) {
		fmt.Println(r.Row.Series, r.Row.Value, r.Row.Quality, err)
	}
	// Output: boiler/temperature 61.5 good <nil>
}
