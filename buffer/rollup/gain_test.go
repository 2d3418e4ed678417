package rollup

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

var sets = []string{"gateway", "env"}

// readSet reads one of the recorded sets of the block codec: 100,000 readings, each
// series at about 1 Hz.
func readSet(tb testing.TB, name string) []block.Row {
	tb.Helper()
	f, err := os.Open(filepath.Join("..", "block", "testdata", name+".csv.gz"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var rows []block.Row
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
		rows = append(rows, block.Row{Series: ids[part[1]], Time: at, Value: v})
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return rows
}

// encoded returns blocks of 4,096 readings each.
func encoded(tb testing.TB, rows []block.Row) (blocks [][]byte, size int) {
	tb.Helper()
	var e block.Encoder
	for first := 0; first < len(rows); first += block.MaxRecords {
		id := block.ID{Stream: edgeagent.StreamTelemetry, Epoch: 1, First: edgeagent.Seq(first + 1), Run: 1, Resolution: 6}
		b, err := e.Readings(nil, id, rows[first:min(first+block.MaxRecords, len(rows))])
		if err != nil {
			tb.Fatal(err)
		}
		blocks, size = append(blocks, b), size+len(b)
	}
	return blocks, size
}

// thinner is the whole way from stored blocks to stored rollups.
type thinner struct {
	dec  block.Decoder
	enc  block.Encoder
	fold *Folder
	rows []block.Row
	blk  []byte
	size int
	n    int
}

func (x *thinner) thin(tb testing.TB, blocks [][]byte) {
	emit := func(p Piece) (err error) {
		id := block.ID{Stream: edgeagent.StreamRollup, Epoch: 1, First: 1, Run: 1, Resolution: 6}
		x.n += len(p.Rows)
		for rows := p.Rows; len(rows) > 0; {
			n := min(len(rows), 1024)
			if x.blk, err = x.enc.Rollup(x.blk[:0], id, p.Source, rows[:n]); err != nil {
				return err
			}
			x.size, rows = x.size+len(x.blk), rows[n:]
		}
		return nil
	}
	seq := edgeagent.Seq(1)
	for _, b := range blocks {
		var err error
		if x.rows, _, err = x.dec.Readings(x.rows[:0], b); err != nil {
			tb.Fatal(err)
		}
		for i := range x.rows {
			if err := x.fold.Add(seq, &x.rows[i], emit); err != nil {
				tb.Fatal(err)
			}
			seq++
		}
	}
	if err := x.fold.Flush(emit); err != nil {
		tb.Fatal(err)
	}
}

// Rollups must be worth having: an eighth of the space, or less.
func TestGainOnSets(t *testing.T) {
	for _, set := range sets {
		blocks, size := encoded(t, readSet(t, set))
		x := thinner{fold: New(time.Minute)}
		x.thin(t, blocks)
		gain := float64(size) / float64(x.size)
		t.Logf("%s: %d bytes of readings, %d of %d rows: %.1fx", set, size, x.size, x.n, gain)
		if gain < 8 {
			t.Errorf("%s: %.1f times smaller, want 8", set, gain)
		}
	}
}

func TestNoAllocationInSteadyState(t *testing.T) {
	rows := readSet(t, "gateway")[:10_000]
	f := New(time.Minute)
	emit := func(Piece) error { return nil }
	run := func() {
		for i := range rows {
			if err := f.Add(edgeagent.Seq(i+1), &rows[i], emit); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Flush(emit); err != nil {
			t.Fatal(err)
		}
	}
	run()
	// Many runs: what the runtime itself allocates now and then is not counted as ours.
	if n := testing.AllocsPerRun(100, run); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func BenchmarkFold(b *testing.B) {
	for _, set := range sets {
		b.Run(set, func(b *testing.B) {
			rows := readSet(b, set)
			f := New(time.Minute)
			emit := func(Piece) error { return nil }
			b.ReportAllocs()
			for b.Loop() {
				for i := range rows {
					if err := f.Add(edgeagent.Seq(i+1), &rows[i], emit); err != nil {
						b.Fatal(err)
					}
				}
				if err := f.Flush(emit); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/reading")
		})
	}
}

// BenchmarkThin is the whole way: decode the blocks, fold, encode the rollups.
func BenchmarkThin(b *testing.B) {
	for _, set := range sets {
		b.Run(set, func(b *testing.B) {
			rows := readSet(b, set)
			blocks, size := encoded(b, rows)
			x := thinner{fold: New(time.Minute)}
			x.thin(b, blocks)
			gain := float64(size) / float64(x.size)
			b.ReportAllocs()
			for b.Loop() {
				x.thin(b, blocks)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/reading")
			b.ReportMetric(gain, "gain")
		})
	}
}
