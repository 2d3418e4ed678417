package block

import (
	"math"
	"testing"
)

// sameRows compares by bits: NaN payloads count, and so does the sign of 0.
func sameRows(tb testing.TB, got, want []Row) {
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
