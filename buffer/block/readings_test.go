package block

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

// failer is what testing.TB and rapid.T have in common here.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// sameRows compares by bits: NaN payloads count, and so does the sign of 0.
func sameRows(tb failer, got, want []Row) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Series != w.Series || g.Time != w.Time || g.Quality != w.Quality || math.Float64bits(g.Value) != math.Float64bits(w.Value) {
			tb.Fatalf("row %d: %+v (%#x), want %+v (%#x)", i, g, math.Float64bits(g.Value), w, math.Float64bits(w.Value))
		}
	}
}

// roundTrip encodes and decodes rows, and holds the header against them.
func roundTrip(tb failer, id ID, rows []Row) []byte {
	tb.Helper()
	var e Encoder
	blk, err := e.Readings([]byte("before"), id, rows)
	if err != nil {
		tb.Fatalf("encode: %v", err)
	}
	if string(blk[:6]) != "before" {
		tb.Fatal("encoding overwrote what was there")
	}
	blk = blk[6:]
	var d Decoder
	got, h, err := d.Readings([]Row{{Series: 7}}, blk)
	if err != nil {
		tb.Fatalf("decode: %v", err)
	}
	if got[0].Series != 7 {
		tb.Fatal("decoding overwrote what was there")
	}
	sameRows(tb, got[1:], rows)
	want := Header{
		Kind: KindReadings, Compressed: h.Compressed, Unsynced: id.Unsynced, Stream: id.Stream, Resolution: id.Resolution,
		Count: uint32(len(rows)), Epoch: id.Epoch, First: id.First, Run: id.Run, RawLen: h.RawLen, StoredLen: h.StoredLen,
		MinTime: math.MaxInt64, MaxTime: math.MinInt64,
	}
	for _, r := range rows {
		want.MinTime, want.MaxTime = min(want.MinTime, r.Time), max(want.MaxTime, r.Time)
		want.MaxSeriesID = max(want.MaxSeriesID, r.Series)
	}
	if h != want {
		tb.Fatalf("header %+v, want %+v", h, want)
	}
	if h.Size() != len(blk) || len(blk) > MaxStored {
		tb.Fatalf("block of %d bytes, header says %d", len(blk), h.Size())
	}
	return blk
}

// column names a way to make numbers; tests combine them.
var valueMakers = []struct {
	name string
	make func(r *rand.Rand, i int) float64
}{
	{"zero", func(*rand.Rand, int) float64 { return 0 }},
	{"minus zero", func(*rand.Rand, int) float64 { return math.Copysign(0, -1) }},
	{"counter", func(_ *rand.Rand, i int) float64 { return 8589946442 + float64(17*i) }},
	{"parabola", func(_ *rand.Rand, i int) float64 { return float64(3*i*i - 100*i) }},
	{"bool", func(r *rand.Rand, _ int) float64 { return float64(r.IntN(2)) }},
	{"two decimals", func(r *rand.Rand, _ int) float64 { return math.Round(2000+100*r.NormFloat64()) / 100 }},
	{"float32 decimals", func(r *rand.Rand, _ int) float64 {
		return float64(float32(math.Round(2000+100*r.NormFloat64()) / 100))
	}},
	{"arithmetic", func(r *rand.Rand, _ int) float64 { return 36 + float64(r.IntN(100))*0.1 + 0.003*3 }},
	{"float32 noise", func(r *rand.Rand, _ int) float64 { return float64(math.Float32frombits(r.Uint32() &^ 0x4000_0000)) }},
	{"noise", func(r *rand.Rand, _ int) float64 { return r.NormFloat64() }},
	{"adc", func(r *rand.Rand, _ int) float64 { return float64(r.IntN(12)) * 3.3 / 4095 }},
	{"any bits", func(r *rand.Rand, _ int) float64 { return math.Float64frombits(r.Uint64()) }},
	{"nan payloads", func(r *rand.Rand, _ int) float64 { return math.Float64frombits(0x7FF0_0000_0000_0001 | r.Uint64()) }},
	{"one nan", func(_ *rand.Rand, i int) float64 {
		if i == 3 {
			return math.NaN()
		}
		return 21.5
	}},
	{"infinities", func(_ *rand.Rand, i int) float64 { return math.Inf(i&1 - 1) }},
	{"denormals", func(r *rand.Rand, _ int) float64 { return math.Float64frombits(r.Uint64N(1 << 20)) }},
	{"huge", func(r *rand.Rand, _ int) float64 { return r.NormFloat64() * 1e300 }},
	{"beyond 2^53", func(r *rand.Rand, _ int) float64 { return float64(int64(1)<<53 + int64(r.IntN(1000))) }},
	{"rare outliers", func(r *rand.Rand, i int) float64 {
		if i%97 == 50 {
			return float64(r.Uint64N(1 << 50))
		}
		return float64(r.IntN(5))
	}},
	{"mixture", func(r *rand.Rand, i int) float64 {
		return []float64{1.25, math.Inf(1), r.NormFloat64(), 7, math.NaN(), -0.1}[r.IntN(6)] * float64(i&1*2-1)
	}},
}

var timeMakers = []struct {
	name string
	make func(r *rand.Rand, i int) int64 // in units
}{
	{"regular", func(_ *rand.Rand, i int) int64 { return 1772323200000 + 1000*int64(i) }},
	{"jitter", func(r *rand.Rand, i int) int64 { return 1772323200000 + 1000*int64(i) + r.Int64N(9) }},
	{"same", func(*rand.Rand, int) int64 { return 1772323200000 }},
	{"backwards", func(_ *rand.Rand, i int) int64 { return 1772323200000 - 1000*int64(i) }},
	{"before 1970", func(_ *rand.Rand, i int) int64 { return -5 + int64(i%11) }},
	{"anything", func(r *rand.Rand, _ int) int64 { return r.Int64N(1<<33) - 1<<32 }},
}

func TestRoundTrip(t *testing.T) {
	for _, vm := range valueMakers {
		for _, tm := range timeMakers {
			t.Run(vm.name+"/"+tm.name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				for _, n := range []int{1, 2, 3, 5, 64, 255, 256, 257, 258, 513, 900} {
					for _, series := range []int{1, 3, 29} {
						id, rows := telemetry, make([]Row, n)
						id.Resolution = uint8((n + series) % 10)
						for i := range rows {
							u := unit(id.Resolution)
							at := tm.make(r, i/series) % (math.MaxInt64 / u) * u // years of seconds leave int64 as ns
							rows[i] = Row{uint32(1 + i%series), at, vm.make(r, i), 0}
						}
						roundTrip(t, id, rows)
					}
				}
			})
		}
	}
}

func TestRoundTripShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	random := func(n int, row func(i int) Row) []Row {
		rows := make([]Row, n)
		for i := range rows {
			rows[i] = row(i)
		}
		return rows
	}
	at := func(i int) int64 { return 1772323200_000000000 + int64(i)*1_000000 }
	tests := []struct {
		name string
		id   ID
		rows []Row
	}{
		{"4096 series of one row", telemetry, random(4096, func(i int) Row { return Row{uint32(i), at(0), float64(i), 0} })},
		{"ids that fall", telemetry, random(500, func(i int) Row { return Row{uint32(500 - i), at(i), 1, 0} })},
		{"the largest ids", telemetry, random(500, func(i int) Row { return Row{math.MaxUint32 - uint32(i%3), at(i), 1, 0} })},
		{"small and large ids", telemetry, random(500, func(i int) Row { return Row{uint32(i%2) << (i % 32), at(i), 1, 0} })},
		{"series at random", telemetry, random(4096, func(i int) Row { return Row{r.Uint32N(5), at(i), 1, 0} })},
		{"300 series at random", telemetry, random(4096, func(i int) Row { return Row{r.Uint32N(300), at(i), 1, 0} })},
		{"two rates", telemetry, random(4096, func(i int) Row { return Row{uint32(i%7) * uint32(min(i%60, 1)), at(i / 7), 1, 0} })},
		{"a poll cut in the middle", telemetry, random(1000, func(i int) Row { return Row{uint32((i + 2) % 24), at((i + 2) / 3), 1, 0} })},
		{"qualities at random", telemetry, random(900, func(i int) Row { return Row{uint32(i % 3), at(i), 1, edgeagent.Quality(r.IntN(4))} })},
		{"one series stale", telemetry, random(900, func(i int) Row { return Row{uint32(i % 3), at(i), 1, edgeagent.Stale * edgeagent.Quality(i%3/2)} })},
		{"bad at the end", telemetry, random(900, func(i int) Row { return Row{1, at(i), 1, edgeagent.Bad * edgeagent.Quality(i/899)} })},
		{"all of time", ID{Stream: 3, First: 1}, random(300, func(i int) Row { return Row{uint32(i % 2), []int64{math.MinInt64, math.MaxInt64, 0, -1, 1}[i%5], 1, 0} })},
		{"any time", ID{Stream: 3, First: 1}, random(1000, func(i int) Row { return Row{uint32(i % 2), int64(r.Uint64()), 1, 0} })},
		{"from the least time", ID{Stream: 3, First: 1}, random(9, func(i int) Row { return Row{1, math.MinInt64 + int64(i), 1, 0} })},
		{"two to the 63rd apart", ID{Stream: 3, First: 1}, random(3, func(i int) Row { return Row{1, []int64{0, math.MinInt64, 0}[i], 1, 0} })},
		{"a capture", ID{Resolution: 3}, random(50, func(i int) Row { return Row{1, at(i), 1, 0} })},
		{"unsynced", ID{Stream: 3, First: 1, Unsynced: true}, random(5, func(i int) Row { return Row{1, int64(i), 1, 0} })},
		{"the last numbers", ID{Stream: 3, First: 1<<53 - 5}, random(5, func(i int) Row { return Row{1, int64(i), 1, 0} })},
		{"1024 rows at their largest", ID{Stream: 3, First: 1}, random(1024, func(int) Row {
			return Row{r.Uint32(), int64(r.Uint64()), math.Float64frombits(r.Uint64()), edgeagent.Quality(r.IntN(4))}
		})},
		{"512 pairs at their largest", ID{Stream: 3, First: 1}, random(1024, func(i int) Row {
			return Row{uint32(i/2) * 0x9E3779B1, int64(r.Uint64()), math.Float64frombits(r.Uint64()), edgeagent.Quality(1 + i&1)}
		})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { roundTrip(t, test.id, test.rows) })
	}
}

// TestModel lets a generator combine columns of all makers.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		series := rapid.IntRange(1, 40).Draw(t, "series")
		values := rapid.SliceOfN(rapid.IntRange(0, len(valueMakers)-1), series, series).Draw(t, "values")
		times := rapid.SliceOfN(rapid.IntRange(0, len(timeMakers)-1), series, series).Draw(t, "times")
		shuffled := rapid.Bool().Draw(t, "shuffled")
		worst := rapid.IntRange(0, 3).Draw(t, "worst quality")
		id := telemetry
		id.Resolution = uint8(rapid.IntRange(0, 6).Draw(t, "resolution"))
		rows := make([]Row, rapid.IntRange(1, 1024).Draw(t, "rows"))
		for i := range rows {
			s := i % series
			if shuffled {
				s = r.IntN(series)
			}
			rows[i] = Row{
				uint32(s), timeMakers[times[s]].make(r, i) * unit(id.Resolution), valueMakers[values[s]].make(r, i),
				edgeagent.Quality(r.IntN(worst + 1)),
			}
		}
		roundTrip(t, id, rows)
	})
}

func TestEncoderRefuses(t *testing.T) {
	noise := make([]Row, MaxRecords)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range noise {
		noise[i] = Row{1, int64(r.Uint64()), math.Float64frombits(r.Uint64()), 0}
	}
	tests := []struct {
		name string
		id   ID
		rows []Row
		want error
	}{
		{"no rows", telemetry, nil, ErrEmpty},
		{"too many rows", telemetry, make([]Row, MaxRecords+1), ErrTooLarge},
		{"too many bytes", ID{Stream: 3, First: 1}, noise, ErrTooLarge},
		{"a time between two units", telemetry, []Row{{Time: 1_500_000}}, ErrInvalid},
		{"a later time between two units", telemetry, []Row{{Time: 1_000_000}, {Time: 2_000_001}}, ErrInvalid},
		{"an unknown quality", telemetry, []Row{{Quality: 4}}, ErrInvalid},
		{"an unknown resolution", ID{Stream: 3, First: 1, Resolution: 10}, []Row{{}}, ErrInvalid},
		{"a stream of events", ID{Stream: edgeagent.StreamAlarm, First: 1}, []Row{{}}, ErrInvalid},
		{"no number", ID{Stream: edgeagent.StreamTelemetry}, []Row{{}}, ErrInvalid},
		{"a number without a stream", ID{First: 1}, []Row{{}}, ErrInvalid},
		{"numbers beyond 53 bits", ID{Stream: 3, First: 1<<53 - 1}, []Row{{}, {}}, ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var e Encoder
			dst, err := e.Readings([]byte("x"), test.id, test.rows)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if string(dst) != "x" {
				t.Errorf("a refusal left %d bytes", len(dst))
			}
			// The encoder is as good as new afterwards.
			if _, err := e.Readings(nil, telemetry, []Row{{Series: 3, Time: 5_000_000, Value: 1}}); err != nil {
				t.Errorf("after the refusal: %v", err)
			}
		})
	}
}

// TestEncoderKeepsNothing: what an encoder made before does not show.
func TestEncoderKeepsNothing(t *testing.T) {
	rows := readSet(t, "gateway")[:5000]
	var used Encoder
	for from := 0; from < len(rows); from += 700 {
		part := rows[from:min(from+700, len(rows))]
		var fresh Encoder
		a, err1 := used.Readings(nil, telemetry, part)
		b, err2 := fresh.Readings(nil, telemetry, part)
		if err1 != nil || err2 != nil || string(a) != string(b) {
			t.Fatalf("rows from %d differ: %v, %v", from, err1, err2)
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	rows := readSet(t, "gateway")[:MaxRecords]
	var e Encoder
	var d Decoder
	var blk []byte
	var got []Row
	allocs := testing.AllocsPerRun(100, func() {
		var err error
		if blk, err = e.Readings(blk[:0], telemetry, rows); err != nil {
			t.Fatal(err)
		}
		if got, _, err = d.Readings(got[:0], blk); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a block, want none", allocs)
	}
}
