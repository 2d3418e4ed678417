package model

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestBelowIsRoundedComparison(t *testing.T) {
	check := func(t *rapid.T, limit float32, x float64) {
		if got, want := x <= below(limit), float32(x) < limit; got != want {
			t.Fatalf("x %v (%x), limit %v: %v, want %v", x, math.Float64bits(x), limit, got, want)
		}
	}
	edges := []float32{
		0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32,
		math.MaxFloat32, -math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1)), 1, -1, 1 << 24,
	}
	limits := rapid.OneOf(rapid.SampledFrom(edges), rapid.Float32())
	rapid.Check(t, func(t *rapid.T) {
		limit := limits.Draw(t, "limit")
		before := math.Nextafter32(limit, float32(math.Inf(-1)))
		after := math.Nextafter32(limit, float32(math.Inf(1)))
		// Points that lie close: the neighbours, half way, and a hair beside.
		for _, base := range []float64{
			float64(limit), float64(before), float64(after), float64(before)/2 + float64(limit)/2, float64(after)/2 + float64(limit)/2,
			math.MaxFloat32 + 1<<103, -math.MaxFloat32 - 1<<103, 0, math.Inf(1), math.Inf(-1), math.NaN(), math.Ldexp(1, -150),
		} {
			check(t, limit, base)
			check(t, limit, math.Nextafter(base, math.Inf(1)))
			check(t, limit, math.Nextafter(base, math.Inf(-1)))
		}
		check(t, limit, rapid.Float64().Draw(t, "x"))
	})
}
