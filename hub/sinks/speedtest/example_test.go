package speedtest_test

import (
	"context"
	"fmt"

	"github.com/edgeagent/edgeagent/hub/sinks/speedtest"
)

// Without a store it is the hub itself that is measured.
func ExampleRun() {
	r, err := speedtest.Run(context.Background(), speedtest.Options{Batches: 5})
	fmt.Println(r.Readings, r.IngestPerSecond > 0, err)
	// Output: 20480 true <nil>
}
