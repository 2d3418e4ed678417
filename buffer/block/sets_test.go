package block

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgeagent/edgeagent"
)

// The two sets are 100,000 readings each: a mixed gateway of 29 series, and
// eight temperature, humidity and pressure sensors.
var sets = []struct {
	name                   string
	most, most1000, most16 float64 // bytes per reading at 4,096, 1,000 and 16 a block
}{
	{"gateway", 1.0, 2.5, 16},
	{"env", 0.75, 2.5, 16},
}

var telemetry = ID{Stream: edgeagent.StreamTelemetry, Epoch: 0x9f02c4d1a7b35e68, First: 1, Run: 0x9c01f3aa, Resolution: 6}

func readSet(tb testing.TB, name string) []Row {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".csv.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var rows []Row
	ids := map[string]uint32{}
	lines := bufio.NewScanner(z)
	lines.Scan() // the column names
	for lines.Scan() {
		part := strings.Split(lines.Text(), ",")
		at, errTime := strconv.ParseInt(part[0], 10, 64)
		v, errValue := strconv.ParseFloat(part[2], 64)
		if errTime != nil || errValue != nil {
			tb.Fatalf("bad line %q", lines.Text())
		}
		if ids[part[1]] == 0 {
			ids[part[1]] = uint32(len(ids) + 1)
		}
		rows = append(rows, Row{Series: ids[part[1]], Time: at, Value: v})
	}
	if err := lines.Err(); err != nil || len(rows) != 100_000 {
		tb.Fatalf("%d rows, %v", len(rows), err)
	}
	return rows
}

// encodeSet cuts rows into whole blocks of n.
func encodeSet(tb testing.TB, rows []Row, n int) (blocks [][]byte, size int) {
	tb.Helper()
	var e Encoder
	for len(rows) >= n {
		b, err := e.Readings(nil, telemetry, rows[:n])
		if err != nil {
			tb.Fatal(err)
		}
		blocks, size, rows = append(blocks, b), size+len(b), rows[n:]
	}
	return blocks, size
}

func TestSizeOfSets(t *testing.T) {
	for _, set := range sets {
		rows := readSet(t, set.name)
		for _, c := range []struct {
			n    int
			most float64
		}{{4096, set.most}, {1000, set.most1000}, {256, 3.2}, {16, set.most16}} {
			blocks, size := encodeSet(t, rows, c.n)
			per := float64(size) / float64(len(blocks)*c.n)
			t.Logf("%s at %d: %.4f bytes/reading", set.name, c.n, per)
			if per > c.most {
				t.Errorf("%s at %d a block: %.3f bytes/reading, want at most %.2f", set.name, c.n, per, c.most)
			}
			var d Decoder
			for i, b := range blocks {
				got, _, err := d.Readings(nil, b)
				if err != nil {
					t.Fatal(err)
				}
				sameRows(t, got, rows[i*c.n:(i+1)*c.n])
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, set := range sets {
		for _, n := range []int{16, 256, 4096} {
			b.Run(fmt.Sprintf("%s/%d", set.name, n), func(b *testing.B) {
				rows := readSet(b, set.name)
				rows = rows[:len(rows)/n*n]
				var e Encoder
				var dst []byte
				at, size := 0, 0
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if dst, err = e.Readings(dst[:0], telemetry, rows[at:at+n]); err != nil {
						b.Fatal(err)
					}
					size += len(dst)
					at = (at + n) % len(rows)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/reading")
				b.ReportMetric(float64(size)/float64(b.N*n), "bytes/reading")
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, set := range sets {
		for _, n := range []int{16, 256, 4096} {
			b.Run(fmt.Sprintf("%s/%d", set.name, n), func(b *testing.B) {
				blocks, _ := encodeSet(b, readSet(b, set.name), n)
				var d Decoder
				var dst []Row
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if dst, _, err = d.Readings(dst[:0], blocks[i]); err != nil {
						b.Fatal(err)
					}
					i = (i + 1) % len(blocks)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/reading")
			})
		}
	}
}
