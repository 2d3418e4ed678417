package buffer

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// recorded reads the recorded set of the block codec: 29 series at about 1 Hz.
func recorded(tb testing.TB) (rs []edgeagent.Reading) {
	tb.Helper()
	f, err := os.Open(filepath.Join("block", "testdata", "gateway.csv.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Scan() // the column names
	for lines.Scan() {
		part := strings.Split(lines.Text(), ",")
		at, errTime := strconv.ParseInt(part[0], 10, 64)
		v, errValue := strconv.ParseFloat(part[2], 64)
		if errTime != nil || errValue != nil {
			tb.Fatalf("bad line %q", lines.Text())
		}
		sensor, metric := edgeagent.SplitName(part[1])
		rs = append(rs, edgeagent.Reading{
			Series: edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: sensor, Metric: metric, Resolution: edgeagent.DefaultResolution}),
			At:     edgeagent.Instant{Wall: at}, Value: v, Recorded: true,
		})
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return rs
}

// BenchmarkThin replaces segments of readings by rollups, on disk, with all syncs.
// gain compares what the files take.
func BenchmarkThin(b *testing.B) {
	o := options()
	o.MaxBytes = 64 << 20 // segments of 2 MiB
	buf := open(b, b.TempDir(), o)
	register(b, buf, "cloud")
	set := recorded(b)
	span := set[len(set)-1].At.Wall - set[0].At.Wall + 1e9
	ch := buf.newest().streams[edgeagent.StreamTelemetry]
	var readings uint64
	var bytes int64
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for len(ch.segs) < 2 {
			for i := 0; i < len(set); i += 4096 {
				if _, err := buf.Append(b.Context(), set[i:min(i+4096, len(set))]); err != nil {
					b.Fatal(err)
				}
			}
			for i := range set {
				set[i].At.Wall += span
			}
		}
		readings, bytes = readings+ch.segs[0].records, bytes+ch.segs[0].bytes
		b.StartTimer()
		if err := thinOldest(b, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(readings), "ns/reading")
	b.ReportMetric(float64(bytes)/float64(buf.Stats().Streams[edgeagent.StreamRollup].Bytes), "gain")
}
