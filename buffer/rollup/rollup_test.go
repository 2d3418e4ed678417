package rollup

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

const minute = int64(time.Minute)

// fold folds rows that have the numbers from first on, and returns copies of the
// pieces.
func fold(tb testing.TB, f *Folder, first edgeagent.Seq, rows []block.Row) []Piece {
	tb.Helper()
	var pieces []Piece
	keep := func(p Piece) error {
		p.Rows = append([]block.RollupRow(nil), p.Rows...)
		pieces = append(pieces, p)
		return nil
	}
	for i := range rows {
		if err := f.Add(first+edgeagent.Seq(i), &rows[i], keep); err != nil {
			tb.Fatal(err)
		}
	}
	if err := f.Flush(keep); err != nil {
		tb.Fatal(err)
	}
	return pieces
}

func row(series uint32, at int64, count uint64, sum, low, high, first, last float64) block.RollupRow {
	return block.RollupRow{Series: series, Time: at, Count: count, Sum: sum, Min: low, Max: high, First: first, Last: last}
}

func source(from, to edgeagent.Seq) block.RollupSource {
	return block.RollupSource{Stream: edgeagent.StreamTelemetry, From: from, To: to, Bucket: 60}
}

func TestFold(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	const bad = edgeagent.Bad
	tests := map[string]struct {
		rows []block.Row
		want []Piece
	}{
		"nothing": {nil, nil},
		"one": {
			[]block.Row{{Series: 3, Time: 5, Value: -2.5}},
			[]Piece{{source(10, 10), []block.RollupRow{row(3, 5, 1, -2.5, -2.5, -2.5, -2.5, -2.5)}}},
		},
		"two series, two minutes": {
			[]block.Row{
				{Series: 2, Time: 1, Value: 1},
				{Series: 1, Time: 2, Value: 10},
				{Series: 2, Time: minute - 1, Value: 3},
				{Series: 2, Time: minute, Value: 4},
				{Series: 1, Time: minute + 1, Value: 5},
			},
			[]Piece{{source(10, 14), []block.RollupRow{
				row(1, 2, 1, 10, 10, 10, 10, 10),
				row(1, minute+1, 1, 5, 5, 5, 5, 5),
				row(2, 1, 2, 4, 1, 3, 1, 3),
				row(2, minute, 1, 4, 4, 4, 4, 4),
			}}},
		},
		"before 1970": {
			[]block.Row{{Series: 1, Time: -minute, Value: 1}, {Series: 1, Time: -1, Value: 2}, {Series: 1, Time: 0, Value: 4}},
			[]Piece{{source(10, 12), []block.RollupRow{row(1, -minute, 2, 3, 1, 2, 1, 2), row(1, 0, 1, 4, 4, 4, 4, 4)}}},
		},
		"late readings find their bucket": {
			[]block.Row{
				{Series: 1, Time: 5, Value: 1},
				{Series: 1, Time: minute + 5, Value: 2},
				{Series: 1, Time: 4, Value: -8},
				{Series: 1, Time: minute + 4, Value: 3},
			},
			[]Piece{{source(10, 13), []block.RollupRow{row(1, 5, 2, -7, -8, 1, 1, -8), row(1, minute+5, 2, 5, 2, 3, 2, 3)}}},
		},
		"bad, NaN and infinite do not count": {
			[]block.Row{
				{Series: 1, Time: 1, Value: nan},
				{Series: 1, Time: 2, Value: 999, Quality: bad},
				{Series: 1, Time: 3, Value: 7, Quality: edgeagent.Suspect},
				{Series: 1, Time: 4, Value: inf},
				{Series: 1, Time: 5, Value: -inf},
				{Series: 1, Time: 6, Value: 6, Quality: edgeagent.Stale},
				{Series: 2, Time: 6, Value: nan},
			},
			[]Piece{{source(10, 16), []block.RollupRow{row(1, 1, 2, 13, 6, 7, 7, 6)}}},
		},
		"nothing that counts": {[]block.Row{{Series: 1, Value: nan}, {Series: 2, Value: 1, Quality: bad}}, nil},
		"a sum that overflows": {
			[]block.Row{{Series: 1, Value: math.MaxFloat64}, {Series: 1, Value: math.MaxFloat64}},
			[]Piece{{source(10, 11), []block.RollupRow{row(1, 0, 2, inf, math.MaxFloat64, math.MaxFloat64, math.MaxFloat64, math.MaxFloat64)}}},
		},
		"sums are decimal": {
			[]block.Row{{Series: 1, Value: 0.1}, {Series: 1, Value: 0.2}, {Series: 1, Value: 0.3}},
			[]Piece{{source(10, 12), []block.RollupRow{row(1, 0, 3, 0.6, 0.1, 0.3, 0.1, 0.3)}}},
		},
		"large ids": {
			[]block.Row{{Series: math.MaxUint32, Value: 1}, {Series: math.MaxUint32, Value: 2}, {Series: directIDs, Value: 3}},
			[]Piece{{source(10, 12), []block.RollupRow{row(directIDs, 0, 1, 3, 3, 3, 3, 3), row(math.MaxUint32, 0, 2, 3, 1, 2, 1, 2)}}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := New(time.Minute)
			for range 2 { // the second time with a used folder
				if diff := cmp.Diff(tt.want, fold(t, f, 10, tt.rows)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
		})
	}
}

func TestPiecesEndAtBuckets(t *testing.T) {
	var rows []block.Row
	for second := range 3 * 3600 {
		for s := range 30 {
			rows = append(rows, block.Row{Series: uint32(s + 1), Time: int64(second) * 1e9, Value: float64(second)})
		}
	}
	pieces := fold(t, New(time.Minute), 1, rows)
	if len(pieces) != 2 {
		t.Errorf("%d pieces, want 2", len(pieces))
	}
	next, total := edgeagent.Seq(1), 0
	for _, p := range pieces {
		if p.Source.From != next || p.Source.To%(30*60) != 0 {
			t.Errorf("a piece of [%d,%d], want from %d to the end of a minute", p.Source.From, p.Source.To, next)
		}
		next = p.Source.To + 1
		total += len(p.Rows)
		for _, r := range p.Rows {
			if r.Count != 60 {
				t.Fatalf("a row of %d readings", r.Count)
			}
		}
	}
	if total != 30*180 {
		t.Errorf("%d rows, want %d", total, 30*180)
	}
}

// More series than fit a piece are many rows, but never more than the bound.
func TestPiecesAreBounded(t *testing.T) {
	var rows []block.Row
	for i := range 2*maxRows + 5 {
		rows = append(rows, block.Row{Series: uint32(i + 1), Value: 1})
	}
	for _, p := range fold(t, New(time.Minute), 1, rows) {
		if len(p.Rows) > maxRows {
			t.Errorf("%d rows in a piece", len(p.Rows))
		}
	}
}

func TestErrorOfEmit(t *testing.T) {
	f, stop := New(time.Minute), errors.New("stop")
	if err := f.Add(1, &block.Row{Series: 1, Value: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(func(Piece) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("flush: %v", err)
	}
}

func TestRound15(t *testing.T) {
	for _, tt := range []struct{ in, want float64 }{
		{0.1 + 0.2, 0.3},
		{-(0.1 + 0.2), -0.3},
		{0, 0},
		{123456789012345, 123456789012345},
		{1e300, 1e300},
		{5e-324, 5e-324},
		{2.0000000000000004, 2},
		{999999999999999.9, 1e15},
		{1e-7 / 3, 3.33333333333333e-8},
		{math.Inf(-1), math.Inf(-1)},
	} {
		got := round15(tt.in)
		if math.Abs(tt.in) < 1e-7 {
			tt.want = tt.in // beyond 22 decimals: left as it is
		}
		if got != tt.want {
			t.Errorf("round15(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

// Whatever the order and the pieces: the rows add up to the readings, and the pieces
// to the range.
func TestNothingIsLostOrCountedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6000).Draw(t, "n")
		series := rapid.IntRange(1, 5000).Draw(t, "series")
		spread := rapid.Int64Range(1, 20*minute).Draw(t, "spread")
		step := rapid.Int64Range(0, minute).Draw(t, "step")
		x := rapid.Uint64Range(1, math.MaxUint64).Draw(t, "seed")
		rows := make([]block.Row, n)
		type sum struct {
			n    uint64
			sum  float64
			low  float64
			high float64
		}
		want := map[key]sum{}
		for i := range rows {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			r := block.Row{Series: uint32(x%uint64(series)) + 1, Time: int64(i)*step - int64(x>>20)%spread, Value: float64(x>>50) - 8000}
			if x>>10%16 == 0 {
				r.Quality = edgeagent.Bad
			}
			rows[i] = r
			k := key{r.Series, floorDiv(r.Time, minute)}
			s, had := want[k]
			if r.Quality == edgeagent.Bad {
				continue
			}
			if !had {
				s.low, s.high = r.Value, r.Value
			}
			want[k] = sum{s.n + 1, s.sum + r.Value, min(s.low, r.Value), max(s.high, r.Value)}
		}
		got := map[key]sum{}
		var covered edgeagent.Ranges
		f := New(time.Minute)
		emit := func(p Piece) error {
			if covered.Add(edgeagent.Range{From: p.Source.From, To: p.Source.To}) != uint64(p.Source.To-p.Source.From)+1 {
				t.Fatal("pieces overlap")
			}
			for i, r := range p.Rows {
				if i > 0 && (p.Rows[i-1].Series > r.Series || p.Rows[i-1].Series == r.Series && p.Rows[i-1].Time > r.Time) {
					t.Fatal("rows in disorder")
				}
				k := key{r.Series, floorDiv(r.Time, minute)}
				s, had := got[k]
				if !had {
					s.low, s.high = r.Min, r.Max
				}
				got[k] = sum{s.n + r.Count, s.sum + r.Sum, min(s.low, r.Min), max(s.high, r.Max)}
			}
			return nil
		}
		for i := range rows {
			if err := f.Add(edgeagent.Seq(i+1), &rows[i], emit); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Flush(emit); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(sum{})); diff != "" {
			t.Fatal(diff)
		}
	})
}
