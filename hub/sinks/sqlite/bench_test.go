package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/edgeagent/edgeagent/hub/sinks/speedtest"
)

// BenchmarkIngest is a hub on a file against a raw insert of equal rows into the same
// file, by turns.
func BenchmarkIngest(b *testing.B) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "hub.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n := 0
	var sum speedtest.Result
	for b.Loop() {
		r, err := speedtest.Run(b.Context(), speedtest.Options{Store: s, Raw: s, Device: fmt.Sprint("bench", n), Batches: 100})
		if err != nil {
			b.Fatal(err)
		}
		n++
		sum.IngestPerSecond += r.IngestPerSecond
		sum.RawPerSecond += r.RawPerSecond
	}
	b.ReportMetric(sum.IngestPerSecond/float64(n), "ingest_readings/s")
	b.ReportMetric(sum.RawPerSecond/float64(n), "raw_rows/s")
	b.ReportMetric(100*sum.Ratio(), "%of_raw")
}
