package uplink

import (
	"errors"
	"math/rand/v2"
	"time"
)

// backoff says how long to wait before the next attempt to connect. It is
// decorrelated jitter, sleep = min(cap, U(base, 3×previous)), which spreads a fleet
// better than doubling does. A refused login waits 60 times longer, since only a
// person can mend it. A server that says how long it is busy is not asked before.
type backoff struct {
	ReconnectConfig
	rnd *rand.Rand

	sleep   time.Duration // the last one; 0 = none since the last healthy session
	refused time.Duration // the same after refusals
	hinted  time.Duration // the spread that the server asks for; 0 = none
}

// Factors by which a refusal is slower: with the defaults 60 s to 1 h.
const (
	refusedBase = 60
	refusedCap  = 30
)

// after returns the wait after a session or an attempt ended with err. healthy says
// that it was a session worth the name: then a random part of spread is enough, and
// the sleeps begin anew.
func (b *backoff) after(err error, healthy bool) time.Duration {
	if _, ok := errors.AsType[*RefusedError](err); ok {
		base := refusedBase * b.Base
		b.refused = b.next(base, b.refused, max(refusedCap*b.Cap, base))
		return b.refused
	}
	b.refused = 0
	busy, _ := errors.AsType[*BusyError](err)
	if healthy && busy == nil {
		b.sleep = 0
		return b.spread()
	}
	b.sleep = b.next(b.Base, b.sleep, b.Cap)
	if busy != nil && busy.After > 0 { // all that were told the same must not come at once
		return max(b.sleep, min(busy.After, longestBusy)+b.spread())
	}
	return b.sleep
}

// longestBusy bounds what a server may ask for.
const longestBusy = time.Hour

// spread draws from the spread, the server's if that is longer.
func (b *backoff) spread() time.Duration { return b.between(0, max(b.Spread, b.hinted)) }

func (b *backoff) next(base, previous, limit time.Duration) time.Duration {
	return min(limit, b.between(base, 3*max(previous, base)))
}

// between draws from [low, high].
func (b *backoff) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(b.rnd.Int64N(int64(high-low)+1))
}

// healthyAfter is how long a session must have been up to reset the back-off: 60 s
// with the default base, less where the base says that hurry is wanted.
func (b *backoff) healthyAfter() time.Duration { return min(time.Minute, 60*b.Base) }
