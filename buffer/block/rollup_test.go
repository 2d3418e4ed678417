package block

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
)

var (
	rollupID   = ID{Stream: edgeagent.StreamRollup, Epoch: 0x9f02c4d1a7b35e68, First: 1, Run: 0x9c01f3aa, Resolution: 6}
	fromMinute = RollupSource{Stream: edgeagent.StreamTelemetry, From: 4097, To: 8192, Bucket: 60}
)

// foldMinutes makes a row of each series and minute, by series and time.
func foldMinutes(rows []Row) []RollupRow {
	bySeries := map[uint32][]RollupRow{}
	var order []uint32
	for _, r := range rows {
		of := bySeries[r.Series]
		if len(of) == 0 {
			order = append(order, r.Series)
		}
		if n := len(of); n > 0 && of[n-1].Time/60e9 == r.Time/60e9 {
			of[n-1].add(r.Value)
			continue
		}
		bySeries[r.Series] = append(of, RollupRow{r.Series, r.Time, 1, r.Value, r.Value, r.Value, r.Value, r.Value})
	}
	var all []RollupRow
	for _, s := range order {
		for _, r := range bySeries[s] {
			// What the format's description asks of a sum.
			r.Sum, _ = strconv.ParseFloat(strconv.FormatFloat(r.Sum, 'g', 15, 64), 64)
			all = append(all, r)
		}
	}
	return all
}

func (r *RollupRow) add(v float64) {
	r.Count++
	r.Sum += v
	r.Min, r.Max, r.Last = min(r.Min, v), max(r.Max, v), v
}

// sameRollup compares by bits.
func sameRollup(tb failer, got, want []RollupRow) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d rows, want %d", len(got), len(want))
	}
	bits := func(r RollupRow) [8]uint64 {
		f := math.Float64bits
		return [8]uint64{uint64(r.Series), uint64(r.Time), r.Count, f(r.Sum), f(r.Min), f(r.Max), f(r.First), f(r.Last)}
	}
	for i := range want {
		if bits(got[i]) != bits(want[i]) {
			tb.Fatalf("row %d: %+v %x, want %+v %x", i, got[i], bits(got[i]), want[i], bits(want[i]))
		}
	}
}

// roundTripRollup encodes and decodes rows, and holds the header against them.
func roundTripRollup(tb failer, id ID, src RollupSource, rows []RollupRow) []byte {
	tb.Helper()
	var e Encoder
	blk, err := e.Rollup([]byte("before"), id, src, rows)
	if err != nil {
		tb.Fatalf("encode: %v", err)
	}
	if string(blk[:6]) != "before" {
		tb.Fatal("encoding overwrote what was there")
	}
	blk = blk[6:]
	var d Decoder
	got, gotSource, h, err := d.Rollup([]RollupRow{{Series: 7}}, blk)
	if err != nil {
		tb.Fatalf("decode: %v", err)
	}
	if got[0].Series != 7 {
		tb.Fatal("decoding overwrote what was there")
	}
	sameRollup(tb, got[1:], rows)
	if gotSource != src {
		tb.Fatalf("source %+v, want %+v", gotSource, src)
	}
	want := Header{
		Kind: KindRollup, Compressed: h.Compressed, Unsynced: id.Unsynced, Stream: id.Stream, Resolution: id.Resolution,
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

// makeRollup makes n rows of series, whose values are folds of what value makes,
// or the values themselves: nothing holds them together then.
func makeRollup(r *rand.Rand, n, series int, u int64, folded bool, value func(r *rand.Rand, i int) float64) []RollupRow {
	rows := make([]RollupRow, n)
	per := (n + series - 1) / series
	for i := range rows {
		at := (1772323200_000 + int64(i%per)*60_000 + r.Int64N(3)) % (math.MaxInt64 / u) * u
		v := value(r, i)
		row := RollupRow{uint32(1 + i/per), at, 1, v, v, v, v, v}
		if folded {
			for k := range r.IntN(20) {
				row.add(value(r, i+k))
			}
		} else {
			row.Count = 1 + r.Uint64N(maxSeq)
			row.Min, row.Max, row.First, row.Last = value(r, i), value(r, i), value(r, i), value(r, i)
		}
		rows[i] = row
	}
	return rows
}

func TestRollupRoundTrip(t *testing.T) {
	for _, vm := range valueMakers {
		t.Run(vm.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(13, 14))
			for _, n := range []int{1, 2, 3, 58, 250} {
				for _, series := range []int{1, 3, 29} {
					for _, folded := range []bool{true, false} {
						id := rollupID
						id.Resolution = uint8((n + series) % 10)
						roundTripRollup(t, id, fromMinute, makeRollup(r, n, series, unit(id.Resolution), folded, vm.make))
					}
				}
			}
		})
	}
}

func TestRollupShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	random := func(n int, series func(i int) uint32) []RollupRow {
		rows := make([]RollupRow, n)
		for i := range rows {
			f := func() float64 { return math.Float64frombits(r.Uint64()) }
			rows[i] = RollupRow{series(i), int64(r.Uint64()), 1 + r.Uint64N(maxSeq), f(), f(), f(), f(), f()}
		}
		return rows
	}
	any1ns := ID{Stream: edgeagent.StreamRollup, First: 1}
	tests := []struct {
		name string
		id   ID
		src  RollupSource
		rows []RollupRow
	}{
		{"256 rows at their largest, one series each", any1ns, fromMinute, random(256, func(int) uint32 { return r.Uint32() })},
		{"256 rows at their largest, pairs", any1ns, fromMinute, random(256, func(i int) uint32 { return uint32(i/2) * 0x9E3779B1 })},
		{"256 rows at their largest, mixed", any1ns, fromMinute, random(256, func(int) uint32 { return r.Uint32N(9) * 0x9E3779B1 })},
		{"4096 rows", rollupID, fromMinute, makeRollup(r, MaxRecords, 29, 1e6, true, func(*rand.Rand, int) float64 { return 21.5 })},
		{"a source of one record", rollupID, RollupSource{edgeagent.StreamTelemetry, 1, 1, 1}, makeRollup(r, 1, 1, 1e6, true, valueMakers[5].make)},
		{"the last records, thinned", rollupID, RollupSource{edgeagent.StreamRollup, 1, maxSeq, math.MaxUint32}, makeRollup(r, 5, 1, 1e6, true, valueMakers[5].make)},
		{"unsynced", ID{Stream: edgeagent.StreamRollup, First: 1, Unsynced: true, Resolution: 6}, fromMinute, makeRollup(r, 5, 2, 1e6, true, valueMakers[5].make)},
		// What is guessed of these is no number, or none that fits an integer.
		{"guesses out of bounds", any1ns, fromMinute, []RollupRow{
			{1, 1, 1, 5, 1, 2, 1, math.MaxFloat64},
			{1, 2, 2, 1.5, 1, 2, 1, 2},
			{1, 3, maxSeq, 2.5, 4, 1 << 52, 3, 3},
			{1, 4, 3, 0.5, math.NaN(), 2, 1, 2},
			{1, 5, 4, 0.5, 1, math.Inf(1), 1, math.NaN()},
			{1, 6, 4, 7, 1, 2, math.Copysign(0, -1), 0},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { roundTripRollup(t, test.id, test.src, test.rows) })
	}
}

func TestRollupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		rows := make([]RollupRow, rapid.IntRange(1, 256).Draw(t, "rows"))
		series := rapid.IntRange(1, 40).Draw(t, "series")
		makers := rapid.SliceOfN(rapid.IntRange(0, len(valueMakers)-1), 5, 5).Draw(t, "columns")
		for i := range rows {
			v := func(c int) float64 { return valueMakers[makers[c]].make(r, i) }
			at := timeMakers[i%len(timeMakers)].make(r, i) * 1e6
			rows[i] = RollupRow{r.Uint32N(uint32(series)), at, 1 + r.Uint64N(60), v(0), v(1), v(2), v(3), v(4)}
		}
		roundTripRollup(t, rollupID, fromMinute, rows)
	})
}

func TestRollupRefuses(t *testing.T) {
	one := []RollupRow{{Series: 1, Count: 1}}
	source := func(change func(*RollupSource)) RollupSource { s := fromMinute; change(&s); return s }
	r := rand.New(rand.NewPCG(17, 18))
	tests := []struct {
		name string
		id   ID
		src  RollupSource
		rows []RollupRow
		want error
	}{
		{"no rows", rollupID, fromMinute, nil, ErrEmpty},
		{"too many rows", rollupID, fromMinute, make([]RollupRow, MaxRecords+1), ErrTooLarge},
		{"too many bytes", rollupID, fromMinute, makeRollup(r, MaxRecords, 1, 1e6, false, valueMakers[11].make), ErrTooLarge},
		{"no readings", rollupID, fromMinute, []RollupRow{{Series: 1}}, ErrInvalid},
		{"readings beyond 53 bits", rollupID, fromMinute, []RollupRow{{Count: maxSeq + 1}}, ErrInvalid},
		{"a time between two units", rollupID, fromMinute, []RollupRow{{Count: 1, Time: 1_500_000}}, ErrInvalid},
		{"an unknown resolution", ID{Stream: 4, First: 1, Resolution: 10}, fromMinute, one, ErrInvalid},
		{"a stream of readings", telemetry, fromMinute, one, ErrInvalid},
		{"not numbered", ID{}, fromMinute, one, ErrInvalid},
		{"a source of events", rollupID, source(func(s *RollupSource) { s.Stream = edgeagent.StreamEvent }), one, ErrInvalid},
		{"a source from 0", rollupID, source(func(s *RollupSource) { s.From = 0 }), one, ErrInvalid},
		{"a source that ends before it begins", rollupID, source(func(s *RollupSource) { s.To = s.From - 1 }), one, ErrInvalid},
		{"a source beyond 53 bits", rollupID, source(func(s *RollupSource) { s.To = maxSeq + 1 }), one, ErrInvalid},
		{"a bucket of no time", rollupID, source(func(s *RollupSource) { s.Bucket = 0 }), one, ErrInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var e Encoder
			dst, err := e.Rollup([]byte("x"), test.id, test.src, test.rows)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if string(dst) != "x" {
				t.Errorf("a refusal left %d bytes", len(dst))
			}
			if _, err := e.Rollup(nil, rollupID, fromMinute, one); err != nil {
				t.Errorf("after the refusal: %v", err)
			}
		})
	}
}

// TestDecodeRollupRefuses: payloads that no encoder makes, under a checksum that
// fits.
func TestDecodeRollupRefuses(t *testing.T) {
	// One row of one series, as the encoder writes it.
	type payload struct{ stream, from, length, bucket, series, order, count, last, first uint64 }
	good := payload{stream: 3, from: 1, length: 9, bucket: 60, series: 1, count: 2}
	tests := []struct {
		name   string
		change func(p *payload)
		ok     bool
	}{
		{"nothing wrong", func(*payload) {}, true},
		{"thinned", func(p *payload) { p.stream = 4 }, true},
		{"first guessed", func(p *payload) { p.first = tagGuessed }, true},
		{"source of events", func(p *payload) { p.stream = 2 }, false},
		{"source stream beyond a byte", func(p *payload) { p.stream = 256 + 3 }, false},
		{"source from 0", func(p *payload) { p.from = 0 }, false},
		{"source beyond 53 bits", func(p *payload) { p.length = maxSeq }, false},
		{"source that wraps", func(p *payload) { p.length = math.MaxUint64 }, false},
		{"no bucket", func(p *payload) { p.bucket = 0 }, false},
		{"bucket beyond 32 bits", func(p *payload) { p.bucket = 1 << 32 }, false},
		{"no series", func(p *payload) { p.series = 0 }, false},
		{"two series, one row", func(p *payload) { p.series = 2 }, false},
		{"an unknown group", func(p *payload) { p.order = riceBase + maxRice + 1 }, false},
		{"no readings", func(p *payload) { p.count = 0 }, false},
		{"less than no readings", func(p *payload) { p.count = 1 }, false}, // zigzag of -1
		{"readings beyond 53 bits", func(p *payload) { p.count = 2 * (maxSeq + 1) }, false},
		{"last guessed", func(p *payload) { p.last = tagGuessed }, false},
		{"float64s guessed", func(p *payload) { p.first = tagGuessed | uint64(float64s) }, false},
		{"decimals with ulps guessed", func(p *payload) { p.first = tagGuessed | uint64(nearDecimal) }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := good
			test.change(&p)
			b := make([]byte, HeaderSize)
			for _, x := range []uint64{
				p.stream, p.from, p.length, p.bucket, p.series, 0, p.order, 0, 0, p.count,
				p.last, 0, p.first, 0, 0, 0, 0, 0, 0, 0,
			} {
				b = binary.AppendUvarint(b, x)
			}
			n := uint32(len(b) - HeaderSize)
			Header{Kind: KindRollup, Stream: 4, First: 1, Count: 1, RawLen: n, StoredLen: n}.put(b)
			var d Decoder
			rows, _, _, err := d.Rollup(nil, b)
			var c *CorruptError
			if (err == nil) != test.ok || err != nil && (!errors.As(err, &c) || rows != nil) {
				t.Errorf("%d rows, %v", len(rows), err)
			}
		})
	}
}

// TestGuesses pins down what a decoder in another language must reckon.
func TestGuesses(t *testing.T) {
	bits := func(fs ...float64) []uint64 {
		out := make([]uint64, len(fs))
		for i, f := range fs {
			out[i] = math.Float64bits(f)
		}
		return out
	}
	nan, inf := math.NaN(), math.Inf(1)
	columns := [rollupColumns][]uint64{
		columnLast:  bits(4, 2.5, nan, -1, inf),
		columnFirst: bits(1, 2.75, 7, nan, 3),
		columnMin:   bits(1, 2, 3, -5, -inf),
		columnMax:   bits(4, 3.5, 8, -4, inf),
	}
	want := map[int][]float64{
		columnFirst: {4, 4, 2.5, nan, -1}, // the last of the row before; of its own row at first
		columnMin:   {1, 2.5, 7, nan, 3},
		columnMax:   {4, 2.75, 7, nan, inf},
		columnSum:   {5, 5.5, 33, -18, nan},
	}
	for c, w := range want {
		got := guesses(nil, c, []int64{2, 2, 6, 4, 2}, &columns)
		// The bits of a NaN differ between machines, and nothing depends on them.
		if diff := cmp.Diff(w, got, cmpopts.EquateNaNs()); diff != "" {
			t.Errorf("column %d (-want +got):\n%s", c, diff)
		}
	}
	for _, g := range []struct {
		x    float64
		exp  byte
		want int64
	}{
		{0, 0, 0},
		{0.5, 0, 1},
		{-0.5, 0, 0},
		{-0.51, 0, -1},
		{20.07, 2, 2007},
		{-20.07, 2, -2007},
		{1.005, 3, 1005},
		{maxExact, 0, 0},
		{maxExact - 2, 0, maxExact - 2},
		{maxExact - 1, 0, 0},
		{-maxExact, 0, 0},
		{1e10, 15, 0},
		{nan, 2, 0},
		{inf, 2, 0},
		{-inf, 0, 0},
		{1e300, 15, 0},
	} {
		if got := guessDecimal(g.x, g.exp); got != g.want {
			t.Errorf("%v × 10^%d: %d, want %d", g.x, g.exp, got, g.want)
		}
	}
}

// TestRollupOfSets: minutes of readings once a second take a tenth of what the
// readings take.
func TestRollupOfSets(t *testing.T) {
	for _, set := range sets {
		readings := readSet(t, set.name)
		_, source := encodeSet(t, readings, MaxRecords)
		rows := foldMinutes(readings)
		blk := roundTripRollup(t, rollupID, fromMinute, rows)
		gain := float64(source) / float64(len(blk))
		t.Logf("%s: %d rows, %.2f bytes a row, %.1f times smaller than the readings", set.name, len(rows), float64(len(blk))/float64(len(rows)), gain)
		if gain < 9.5 {
			t.Errorf("%s: rollups are only %.1f times smaller", set.name, gain)
		}
	}
}

func TestRollupAllocatesNothing(t *testing.T) {
	rows := foldMinutes(readSet(t, "gateway"))
	var e Encoder
	var d Decoder
	var blk []byte
	var got []RollupRow
	allocs := testing.AllocsPerRun(100, func() {
		var err error
		if blk, err = e.Rollup(blk[:0], rollupID, fromMinute, rows); err != nil {
			t.Fatal(err)
		}
		if got, _, _, err = d.Rollup(got[:0], blk); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a block, want none", allocs)
	}
}

// TestDecodeRollupIsBounded: a small block that claims the most rows there can
// be.
func TestDecodeRollupIsBounded(t *testing.T) {
	constantColumn := []byte{0, byte(constant)}
	b := make([]byte, HeaderSize)
	for _, x := range []uint64{3, 1, 0, 60, 1, 0} {
		b = binary.AppendUvarint(b, x)
	}
	b = append(b, make([]byte, MaxCount/groupLen+1)...) // turns, and 0: a column of times follows
	b = append(b, constantColumn...)                    // times
	b = append(b, 2, byte(constant))                    // counts of 1
	for range rollupColumns {                           // values
		b = append(append(b, byte(decimal)), constantColumn...)
	}
	n := uint32(len(b) - HeaderSize)
	Header{Kind: KindRollup, Stream: 4, First: 1, Count: MaxCount, RawLen: n, StoredLen: n}.put(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var d Decoder
	rows, _, _, err := d.Rollup(nil, b)
	runtime.ReadMemStats(&after)
	if err != nil || len(rows) != MaxCount {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 12<<20 {
		t.Errorf("a block of %d bytes took %d bytes of memory", len(b), got)
	}
}

// FuzzRollupRoundTrip makes rows of any bytes: 57 a row.
func FuzzRollupRoundTrip(f *testing.F) {
	f.Add(uint8(0), []byte("fifty-seven bytes a row, or a little more than that, as there is a count of one byte"))
	for k, vm := range valueMakers {
		var b []byte
		for _, row := range makeRollup(rand.New(rand.NewPCG(19, uint64(k))), 40, 2, 1, true, vm.make) {
			b = binary.LittleEndian.AppendUint64(append(b, byte(row.Series)), uint64(row.Time))
			for _, v := range []float64{row.Sum, row.Min, row.Max, row.First, row.Last} {
				b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
			}
			b = binary.LittleEndian.AppendUint64(b, row.Count-1)
		}
		f.Add(uint8(6), b)
	}
	f.Fuzz(func(t *testing.T, resolution uint8, b []byte) {
		id := ID{Stream: edgeagent.StreamRollup, First: 1, Resolution: resolution % 10}
		var rows []RollupRow
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[1+8*i:]) }
		value := func(i int) float64 { return math.Float64frombits(word(i)) }
		for u := unit(id.Resolution); len(b) >= 57 && len(rows) < 256; b = b[57:] {
			rows = append(rows, RollupRow{
				uint32(b[0]), int64(word(0)) / u * u, 1 + word(6)%maxSeq, value(1), value(2), value(3), value(4), value(5),
			})
		}
		if len(rows) > 0 {
			roundTripRollup(t, id, fromMinute, rows)
		}
	})
}

func BenchmarkRollup(b *testing.B) {
	for _, set := range sets {
		rows := foldMinutes(readSet(b, set.name))
		var e Encoder
		blk, err := e.Rollup(nil, rollupID, fromMinute, rows)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encode/"+set.name, func(b *testing.B) {
			dst := make([]byte, 0, MaxStored)
			b.ReportAllocs()
			for b.Loop() {
				if dst, err = e.Rollup(dst[:0], rollupID, fromMinute, rows); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/row")
			b.ReportMetric(float64(len(blk))/float64(len(rows)), "bytes/row")
		})
		b.Run("decode/"+set.name, func(b *testing.B) {
			var d Decoder
			var dst []RollupRow
			b.ReportAllocs()
			for b.Loop() {
				if dst, _, _, err = d.Rollup(dst[:0], blk); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/row")
		})
	}
}
