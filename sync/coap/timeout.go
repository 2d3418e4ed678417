package coap

import "time"

// Times of RFC 7252 section 4.8.2 and bounds of the measured time-out.
const (
	ackTimeout       = 2 * time.Second
	maxRetransmit    = 4
	maxTransmitSpan  = 45 * time.Second  // from the first transmission to the last, at the defaults
	exchangeLifetime = 247 * time.Second // a message id may not be used again before

	leastTimeout  = 500 * time.Millisecond
	mostTimeout   = 32 * time.Second
	ackRandomness = 0.5 // ACK_RANDOM_FACTOR - 1
)

// estimator works out how long to wait for an acknowledgement: 2 s at first
// (RFC 7252), then from the round trips as draft-ietf-core-cocoa-03 does. Exchanges
// that needed no second transmission count for a half; those that needed one or two,
// of which nobody knows which one was answered, for a quarter and from the first one
// on. So the estimate finds its way up when the route gets longer, where Karn's rule
// alone would hold it down for ever.
type estimator struct {
	strong, weak roundTrip
	overall      time.Duration // 0: nothing was measured
	at           time.Time     // of the last change
}

// roundTrip is the smoothed time and its variation (RFC 6298 section 2).
type roundTrip struct{ mean, variation time.Duration }

func (r *roundTrip) sample(d time.Duration) {
	if r.mean == 0 {
		r.mean, r.variation = max(d, 1), d/2
		return
	}
	r.variation += ((r.mean - d).Abs() - r.variation) / 4
	r.mean += (d - r.mean) / 8
}

// measured takes the time from the first transmission to the answer.
func (e *estimator) measured(now time.Time, d time.Duration, retransmitted int) {
	old := e.overall
	if old == 0 {
		old = ackTimeout
	}
	switch {
	case retransmitted == 0:
		e.strong.sample(d)
		e.overall = (old + e.strong.mean + 4*e.strong.variation) / 2
	case retransmitted <= 2:
		e.weak.sample(d)
		e.overall = (3*old + e.weak.mean + e.weak.variation) / 4
	default:
		return
	}
	e.overall = min(max(e.overall, leastTimeout), mostTimeout)
	e.at = now
}

// timeout returns ACK_TIMEOUT for a new exchange. An estimate that nothing has
// confirmed for long moves towards the default.
func (e *estimator) timeout(now time.Time) time.Duration {
	if e.overall == 0 {
		return ackTimeout
	}
	for e.overall < ackTimeout && now.Sub(e.at) >= 16*e.overall {
		e.at = e.at.Add(16 * e.overall)
		e.overall = min(2*e.overall, ackTimeout)
	}
	if e.overall > 3*time.Second && now.Sub(e.at) >= 4*e.overall {
		e.overall = time.Second + e.overall/2
		e.at = now
	}
	return e.overall
}

// forget is called when an exchange has failed: what was measured is of no use.
func (e *estimator) forget() { *e = estimator{} }
