package uplink

import (
	"math"
	"time"
)

// bucket is a token bucket in bytes: rate bytes a second come in, burst at most are
// kept, and what is sent is taken out, into debt if need be. The zero value has no
// bound.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Duration // run time of tokens
}

func newBucket(rate, burst float64) bucket { return bucket{rate: rate, burst: burst, tokens: burst} }

func (b *bucket) bounded() bool { return b.rate > 0 }

// half is what comes in within half a second, no less than the smallest message; 0 = no
// bound.
func (b *bucket) half() int {
	if !b.bounded() {
		return 0
	}
	return max(smallestMessage, int(min(b.rate, b.burst)/2))
}

// set changes the rate from now on; what was saved stays, up to burst.
func (b *bucket) set(now time.Duration, rate, burst float64) {
	if b.rate == 0 {
		*b = bucket{rate, burst, burst, now}
		return
	}
	b.fill(now)
	b.rate, b.burst = rate, burst
	b.tokens = min(b.tokens, burst)
}

func (b *bucket) fill(now time.Duration) {
	b.tokens = min(b.burst, b.tokens+b.rate*(now-b.at).Seconds())
	b.at = now
}

// take pays for n bytes; a negative n gives back.
func (b *bucket) take(now time.Duration, n int) {
	if b.bounded() {
		b.fill(now)
		b.tokens = min(b.burst, b.tokens-float64(n))
	}
}

// has reports whether more than floor is there.
func (b *bucket) has(now time.Duration, floor float64) bool {
	if !b.bounded() {
		return true
	}
	b.fill(now)
	return b.tokens > floor
}

// when returns the run time at which more than floor is there, if that is later than
// now.
func (b *bucket) when(now time.Duration, floor float64) (time.Duration, bool) {
	if b.has(now, floor) {
		return 0, false
	}
	wait := math.Ceil((floor - b.tokens + 1) / b.rate * 1e9)
	return now + time.Duration(min(wait, 1e18)), true
}
