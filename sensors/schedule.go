package sensors

import (
	"hash/fnv"
	"time"
)

// grid is the series of run times at which a source is due: origin, origin +
// interval, and so on. Ticks come from the grid and not from the end of the last
// sample, so that a source does not drift.
type grid struct{ origin, interval time.Duration }

// newGrid spreads sources by a hash of their name, so that sensors of one interval
// do not all tick at once. The first tick comes between half and one and a half
// intervals after start, where every source is sampled once without jitter.
func newGrid(start, interval time.Duration, name string) grid {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	phase := time.Duration(h.Sum64() % uint64(interval))
	return grid{start + interval/2 + phase, interval}
}

// after returns the first tick later than t.
func (g grid) after(t time.Duration) time.Duration {
	if t < g.origin {
		return g.origin
	}
	return g.origin + ((t-g.origin)/g.interval+1)*g.interval
}

// ticks counts the ticks in (from, to].
func (g grid) ticks(from, to time.Duration) uint64 {
	if to <= from {
		return 0
	}
	return uint64((g.after(to) - g.after(from)) / g.interval)
}

// Bounds of the wait after a failure: it doubles from the first to the second.
const (
	backoffBase = time.Second
	backoffCap  = time.Minute
)

// backoff is the wait before a source that failed is tried again.
type backoff struct{ failures int }

// next counts one more failure and returns how long to wait. jitter in [0, 1)
// takes away up to half, so that sensors that failed together do not come back
// together.
func (b *backoff) next(jitter float64) time.Duration {
	d := backoffCap
	if b.failures < 6 {
		d = min(backoffBase<<b.failures, backoffCap)
	}
	b.failures++
	return d - time.Duration(jitter/2*float64(d))
}

func (b *backoff) reset() { b.failures = 0 }
