package buffer

import (
	"math"
	"time"
)

// maxPush bounds how far a time that the agent took itself is pushed up to rise
// within its series.
const maxPush = int64(time.Second)

// clockStep is how much the wall clock must move against the run time to start a
// new clock segment.
const clockStep = time.Second

var pow10 = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// roundTime rounds t to the nearest multiple of 10^resolution ns, halves up, and
// inwards where the result would not fit.
func roundTime(t int64, resolution uint8) int64 {
	unit := pow10[resolution]
	rest := t % unit
	if rest < 0 {
		rest += unit
	}
	up := 2*rest >= unit && rest != 0
	if t < math.MinInt64+rest {
		up = true
	}
	if up && t > math.MaxInt64-(unit-rest) {
		up = false
	}
	if up {
		return t + (unit - rest)
	}
	return t - rest
}

// stampTime returns the time of a reading that the agent took at wall, when the
// last one of its series bears last: at least one unit later, but at most one
// second ahead of the clock.
func stampTime(wall, last int64, resolution uint8) int64 {
	t := roundTime(wall, resolution)
	if t > last {
		return t
	}
	unit := pow10[resolution]
	if last > math.MaxInt64-unit || t > math.MaxInt64-maxPush {
		return t
	}
	return min(last+unit, t+maxPush)
}
