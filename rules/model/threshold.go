package model

import "math"

// below returns the largest t for which x <= t, for every float64 x, says the same as
// float32(x) < limit: XGBoost's split, without rounding x each time. NaN stands for
// no such t; x <= NaN is false for all x, as is x < -Inf.
//
// float32(x) is below limit if x is nearer to the float32 before limit than to limit;
// half way between them the one with an even last bit wins (IEEE 754, ties to even),
// and beyond the largest float32 rounding gives an infinity from half a step on.
func below(limit float32) float64 {
	if limit != limit || math.IsInf(float64(limit), -1) {
		return math.NaN()
	}
	before := math.Nextafter32(limit, float32(math.Inf(-1)))
	lo, hi := float64(before), float64(limit)
	const step = 1 << 104 // between the largest float32 numbers
	if math.IsInf(lo, -1) {
		lo = hi - step
	}
	if math.IsInf(hi, 1) {
		hi = lo + step
	}
	middle := lo + (hi-lo)/2 // exact: float64 has 29 bits to spare
	if even := math.Float32bits(before)&1 == 0; even {
		return middle
	}
	return math.Nextafter(middle, math.Inf(-1))
}
