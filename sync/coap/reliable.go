package coap

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Bounds of the message layer towards one peer.
const (
	maxQueued = 128 // confirmable messages that wait for their turn; more are dropped
	maxSeen   = 64  // messages whose repetitions are known, the oldest goes
)

// reliable is the message layer of RFC 7252 section 4 towards one peer over UDP: it
// repeats confirmable messages until they are acknowledged, and recognizes what the
// peer repeats. It is a pure state machine: datagrams and times go in, datagrams and
// events come out, and whoever drives it calls tick no later than wake says. It is
// not safe for concurrent use.
type reliable struct {
	rng *rand.Rand
	rtt estimator
	ids idBudget

	nstart int         // messages on their way at most (RFC 7252 section 4.7), 1 unless configured
	open   int         // how many of them now: 1 after a repetition, then one more with each message that needed none
	queue  []*outgoing // confirmable messages, not sent yet
	active []*outgoing // sent and not acknowledged, at most nstart
	seen   []heard     // in the order of arrival
	out    [][]byte    // datagrams to send

	counters linkCounters
}

// linkCounters is what happened at the message layer.
type linkCounters struct {
	sent, retransmitted, duplicates, malformed, dropped uint64
}

// outgoing is a confirmable message on its way.
type outgoing struct {
	msg      *message
	datagram []byte
	first    time.Time // when it was sent first
	due      time.Time // for the next transmission, or to give up
	timeout  time.Duration
	repeated int
}

// heard is a message that came, and what it was answered with.
type heard struct {
	id     uint16
	token  string // more than RFC 7252 asks for: a peer may be quicker than its ids last
	at     time.Time
	answer []byte // nil: none yet
}

func newReliable(rng *rand.Rand) *reliable {
	return &reliable{rng: rng, ids: idBudget{next: uint16(rng.Uint32()), tokens: idBurst}, nstart: 1, open: 1}
}

// incoming says what a datagram was.
type incoming uint8

const (
	nothing  incoming = iota // a repetition, noise, an acknowledgement
	asked                    // to be answered with respond
	answered                 // a response, perhaps of something that was never asked
	refused                  // a reset: the peer knows nothing of out
	pong                     // the answer to an empty message
)

// confirm sends a confirmable message as soon as nstart allows. It returns nil when the
// queue is full.
func (r *reliable) confirm(now time.Time, m *message) *outgoing {
	if len(r.queue) >= maxQueued {
		r.counters.dropped++
		return nil
	}
	m.kind = confirmable
	o := &outgoing{msg: m}
	r.queue = append(r.queue, o)
	r.fill(now)
	return o
}

// once sends a message that is not repeated, unless there is no id for it now.
func (r *reliable) once(now time.Time, m *message) {
	id, ok := r.ids.take(now)
	if !ok {
		r.counters.dropped++
		return
	}
	m.kind, m.id = nonConfirmable, id
	r.emit(appendUDP(m))
}

// fill sends what nstart allows.
func (r *reliable) fill(now time.Time) {
	for len(r.queue) > 0 && len(r.active) < r.open {
		id, ok := r.ids.take(now)
		if !ok {
			return
		}
		o := r.queue[0]
		r.queue = slices.Delete(r.queue, 0, 1)
		o.msg.id = id
		o.datagram = appendUDP(o.msg)
		base := r.rtt.timeout(now)
		o.timeout = base + time.Duration(r.rng.Float64()*ackRandomness*float64(base))
		o.first, o.due = now, now.Add(o.timeout)
		r.active = append(r.active, o)
		r.emit(o.datagram)
	}
}

func (r *reliable) emit(b []byte) {
	r.counters.sent++
	r.out = append(r.out, b)
}

// idle reports whether a confirmable message would be sent at once.
func (r *reliable) idle() bool { return len(r.queue) == 0 && len(r.active) < r.open }

// receive takes a datagram. The message refers to it; out is what it answers, if that
// is still known.
func (r *reliable) receive(now time.Time, b []byte, m *message) (in incoming, out *outgoing) {
	if err := parseUDP(m, b); err != nil {
		r.counters.malformed++
		// A confirmable message that cannot be read is refused, once its id is known
		// (section 4.2); everything else is ignored.
		if !errors.Is(err, errVersion) && len(b) >= 4 && m.kind == confirmable {
			r.reject(m.id)
		}
		return nothing, nil
	}
	switch m.kind {
	case acknowledgement:
		return r.acknowledged(now, m)
	case reset:
		if m.code != codeEmpty {
			return nothing, nil
		}
		if out = r.finish(m.id); out == nil {
			return nothing, nil
		}
		r.fill(now)
		if out.msg.code == codeEmpty {
			return pong, out
		}
		return refused, out
	case confirmable, nonConfirmable:
		return r.heard(now, m)
	}
	return nothing, nil
}

func (r *reliable) acknowledged(now time.Time, m *message) (incoming, *outgoing) {
	out := r.finish(m.id)
	if out == nil {
		return nothing, nil
	}
	r.rtt.measured(now, now.Sub(out.first), out.repeated)
	if out.repeated == 0 {
		r.open = min(r.open+1, r.nstart)
	}
	defer r.fill(now)
	switch {
	case m.code == codeEmpty:
		return nothing, out // the response comes apart from it
	case m.code.response() && string(m.token) == string(out.msg.token):
		return answered, out
	}
	return nothing, out
}

// heard takes a confirmable or non-confirmable message.
func (r *reliable) heard(now time.Time, m *message) (incoming, *outgoing) {
	if m.code == codeEmpty {
		if m.kind == confirmable {
			r.reject(m.id) // a ping: its answer is a reset
		}
		return nothing, nil
	}
	if old := r.repetition(now, m); old != nil {
		r.counters.duplicates++
		if m.kind == confirmable && old.answer != nil {
			r.emit(old.answer)
		}
		return nothing, nil
	}
	switch {
	case m.code.request():
		r.remember(heard{id: m.id, token: string(m.token), at: now})
		return asked, nil
	case m.code.response():
		r.remember(heard{id: m.id, token: string(m.token), at: now})
		// A response that comes apart says that the request arrived, too.
		out := r.finishToken(m.token)
		r.fill(now)
		return answered, out
	}
	if m.kind == confirmable {
		r.reject(m.id)
	}
	return nothing, nil
}

// repetition returns what is known of a message that came before.
func (r *reliable) repetition(now time.Time, m *message) *heard {
	for i := len(r.seen) - 1; i >= 0; i-- {
		h := &r.seen[i]
		if h.id == m.id && h.token == string(m.token) && now.Sub(h.at) < exchangeLifetime {
			return h
		}
	}
	return nil
}

func (r *reliable) remember(h heard) {
	if len(r.seen) == maxSeen {
		r.seen = slices.Delete(r.seen, 0, 1)
	}
	r.seen = append(r.seen, h)
}

// acknowledge answers a confirmable message; with a nil response by an empty message,
// which says that the response will come later. A response must have the token of its
// request.
func (r *reliable) acknowledge(id uint16, token []byte, response *message) {
	if response == nil {
		response = &message{}
	}
	response.kind, response.id = acknowledgement, id
	b := appendUDP(response)
	for i := range r.seen {
		if h := &r.seen[i]; h.id == id && h.token == string(token) {
			h.answer = b
		}
	}
	r.emit(b)
}

// refuse answers a message with a reset, also when it is repeated.
func (r *reliable) refuse(m *message) {
	b := r.reject(m.id)
	for i := range r.seen {
		if h := &r.seen[i]; h.id == m.id && h.token == string(m.token) {
			h.answer = b
		}
	}
}

func (r *reliable) reject(id uint16) []byte {
	b := appendUDP(&message{kind: reset, id: id})
	r.emit(b)
	return b
}

// ping sends an empty message, which the peer answers with a reset.
func (r *reliable) ping(now time.Time) *outgoing {
	return r.confirm(now, &message{})
}

// finish takes a message that was acknowledged out of the active ones.
func (r *reliable) finish(id uint16) *outgoing {
	return r.drop(func(o *outgoing) bool { return o.msg.id == id })
}

func (r *reliable) finishToken(token []byte) *outgoing {
	return r.drop(func(o *outgoing) bool { return o.msg.code.request() && string(o.msg.token) == string(token) })
}

func (r *reliable) drop(which func(*outgoing) bool) *outgoing {
	i := slices.IndexFunc(r.active, which)
	if i < 0 {
		return nil
	}
	o := r.active[i]
	r.active = slices.Delete(r.active, i, i+1)
	return o
}

// cancel takes back a message that nobody waits for any more.
func (r *reliable) cancel(now time.Time, o *outgoing) {
	same := func(x *outgoing) bool { return x == o }
	r.drop(same)
	r.queue = slices.DeleteFunc(r.queue, same)
	r.fill(now)
}

// tick repeats what is due, and returns what has been repeated in vain.
func (r *reliable) tick(now time.Time) (failed []*outgoing) {
	for i := 0; i < len(r.active); {
		o := r.active[i]
		switch {
		case now.Before(o.due):
			i++
		case o.repeated >= maxRetransmit && now.Sub(o.first) >= maxTransmitSpan:
			r.active = slices.Delete(r.active, i, i+1)
			r.rtt.forget()
			failed = append(failed, o)
		default:
			o.repeated++
			r.open = 1 // the link is full, or worse
			o.timeout *= 2
			o.due = now.Add(o.timeout)
			r.counters.retransmitted++
			r.emit(o.datagram)
			i++
		}
	}
	for len(r.seen) > 0 && now.Sub(r.seen[0].at) >= exchangeLifetime {
		r.seen = slices.Delete(r.seen, 0, 1)
	}
	r.fill(now)
	return failed
}

// wake returns when tick is to be called, zero for not at all.
func (r *reliable) wake(now time.Time) (at time.Time) {
	for _, o := range r.active {
		if at.IsZero() || o.due.Before(at) {
			at = o.due
		}
	}
	if len(r.queue) > 0 && len(r.active) < r.open { // for want of an id
		if t := now.Add(r.ids.wait()); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	return at
}

// take returns the datagrams that are to be sent.
func (r *reliable) take() [][]byte {
	out := r.out
	r.out = r.out[len(r.out):]
	return out
}

// idBudget gives message ids such that none is used again within EXCHANGE_LIFETIME:
// 16,384 at once, and 199 a second.
type idBudget struct {
	next   uint16
	tokens float64
	at     time.Time
	free   bool // in benchmarks: ids are used again at will
}

const (
	idBurst = 16384
	idRate  = (1<<16 - idBurst) / float64(exchangeLifetime/time.Second)
)

func (b *idBudget) take(now time.Time) (uint16, bool) {
	if !b.at.IsZero() {
		b.tokens = min(idBurst, b.tokens+idRate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.tokens < 1 && !b.free {
		return 0, false
	}
	b.tokens--
	b.next++
	return b.next, true
}

// wait returns how long it takes until there is another id.
func (b *idBudget) wait() time.Duration {
	return max(time.Duration((1-b.tokens)/idRate*float64(time.Second)), time.Millisecond)
}
