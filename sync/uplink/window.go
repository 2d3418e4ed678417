package uplink

import "time"

// window bounds what is in flight, in messages and in bytes.
//
// A window that is too large makes live readings wait behind the backlog that is
// already on the wire; one that is too small leaves the link idle. So the bytes in
// flight are held at what the link carries in one round trip plus standing, and one
// message, by which a small window grows: the delivery rate is measured on each message (bytes that arrived between its sending
// and its result, over that time), the round trip is the smallest one seen, or that
// of a message that was sent into an empty pipe, which had no queue of ours before
// it. The latter heals the window when the route gets longer: it then shrinks until
// the pipe runs empty, and a true round trip is measured.
//
// This is the idea of BBR (Cardwell et al., 2016) without its probing. It stands in for
// the decrease by delay of AIMD: docs/design/009 has the two side by side.
//
// The messages in flight follow AIMD (RFC 5681, in messages): few in a new session, one
// more with each result up to threshold, then one more in a round trip, and half as many
// when the server throttles or stops answering. A server
// that closes the connection because of too many, or a link that dies soon, must not
// keep us from getting anywhere.
type window struct {
	maxMessages int     // by configuration and by the server
	maxMessage  int     // bytes of one message
	open        float64 // messages that may be in flight, at most maxMessages
	threshold   float64 // of open: below it grows by one with each result, above by one in a round trip
	first       int     // open in the next session

	messages, bytes int // in flight

	rate      float64 // bytes per second; 0 = not measured yet; kept over sessions
	rtt       time.Duration
	smoothed  time.Duration // round trip with queue, 1/8 smoothed
	delivered uint64        // bytes with a result, ever
}

const (
	maxBytesInFlight = 1 << 20
	firstBytes       = 16 << 10 // in flight before anything was measured: half a second at 256 kbit/s
	firstMessage     = 4 << 10
	firstOpen        = 4        // messages in flight in a new session
	typicalMessage   = 32 << 10 // no gain beyond; a stored block is at most this
	smallestMessage  = 1 << 10
	standing         = 125 * time.Millisecond // of queue that we allow ourselves, besides one message
)

// mark remembers the state of the window when a message was sent.
type mark struct {
	at        time.Duration
	delivered uint64
	full      bool // the window, not the supply, held sending back
	alone     bool // nothing else was in flight
}

// target returns the bytes that a message should have at most: an eighth of a
// second on this link.
func (w *window) target() int {
	size := firstMessage
	if w.rate > 0 {
		size = int(min(w.rate/8, typicalMessage))
	}
	return max(smallestMessage, min(size, w.maxMessage))
}

// limit returns the bytes that may be in flight.
func (w *window) limit() int {
	size := firstBytes
	if w.rate > 0 {
		size = int(min(w.rate*(w.rtt+standing).Seconds()+float64(w.target()), maxBytesInFlight))
	}
	return max(size, w.target())
}

// room reports whether another message of the target size may be sent.
func (w *window) room() bool {
	return w.messages == 0 || w.messages < int(w.open) && w.bytes+w.target() <= w.limit()
}

func (w *window) sent(now time.Duration, size int) mark {
	m := mark{at: now, delivered: w.delivered, alone: w.messages == 0}
	w.messages++
	w.bytes += size
	m.full = !w.room()
	return m
}

// done takes a message's result into account.
func (w *window) done(now time.Duration, m mark, size int) {
	w.gone(size)
	if w.open < w.threshold {
		w.open++
	} else {
		w.open += 1 / w.open
	}
	w.open = min(w.open, float64(w.maxMessages))
	w.first = firstOpen
	w.delivered += uint64(size)
	elapsed := max(now-m.at, time.Millisecond)
	if m.alone || elapsed < w.rtt || w.rtt == 0 {
		w.rtt = elapsed
	}
	if w.smoothed == 0 {
		w.smoothed = elapsed
	}
	w.smoothed += (elapsed - w.smoothed) / 8
	rate := float64(w.delivered-m.delivered) / elapsed.Seconds()
	switch {
	case rate > w.rate:
		w.rate = rate
	case m.full: // a window that was not full says nothing about the link
		w.rate += (rate - w.rate) / 8
	}
}

// gone takes a message out of flight that nothing is learnt from.
func (w *window) gone(size int) {
	w.messages--
	w.bytes -= size
}

// newSession forgets what belongs to a session.
func (w *window) newSession(messages, message int) {
	w.messages, w.bytes, w.rtt, w.smoothed = 0, 0, 0, 0
	w.maxMessages, w.maxMessage = messages, message
	if w.first == 0 {
		w.first = firstOpen
	}
	if w.threshold == 0 {
		w.threshold = maxInFlight
	}
	w.open = max(1, min(float64(min(w.first, messages)), w.threshold/2))
	// Until something is accepted, the next session begins more carefully.
	w.first = max(1, w.first/2)
}

// throttled halves the messages in flight: the server has too much of them.
func (w *window) throttled() {
	w.threshold = max(1, w.open/2)
	w.open = w.threshold
}
