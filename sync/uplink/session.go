package uplink

import (
	"context"
	"sync"
	"sync/atomic"
)

// Bounds of what a session's transport may tell before the engine has looked.
const (
	maxResults = 4 * maxInFlight // more can only come from a broken transport: dropped, counted
	maxAcks    = 16              // cumulative, so the oldest is dropped for a new one, counted
)

// session is the engine's end of one session: a queue of messages down, and an inbox
// of what happened up. Both are bounded, and neither end ever waits for the other in
// them.
type session struct {
	cancel context.CancelFunc
	down   chan Message  // room for all that may be in flight
	notify func()        // wakes the engine
	handed atomic.Uint64 // the last message that Send has returned for

	mu    sync.Mutex // guards inbox
	inbox inbox
}

// inbox is what happened since the engine last looked.
type inbox struct {
	up       bool
	caps     Caps
	results  []Result
	acks     [][]byte
	hint     []byte // the latest
	hinted   bool
	ended    bool
	endErr   error
	sendErr  error
	overflow uint64 // results dropped
	stale    uint64 // acks dropped for newer ones
}

var (
	_ Handler     = (*session)(nil)
	_ HintHandler = (*session)(nil)
)

func newSession(cancel context.CancelFunc, notify func()) *session {
	return &session{cancel: cancel, down: make(chan Message, maxInFlight), notify: notify}
}

// Up implements [Handler].
func (s *session) Up(c Caps) { s.put(func(b *inbox) { b.up, b.caps = true, c }) }

// Result implements [Handler].
func (s *session) Result(r Result) {
	s.put(func(b *inbox) {
		if len(b.results) >= maxResults {
			b.overflow++
			return
		}
		b.results = append(b.results, r)
	})
}

// Ack implements [Handler].
func (s *session) Ack(payload []byte) {
	s.put(func(b *inbox) {
		if len(b.acks) >= maxAcks {
			b.acks = b.acks[1:]
			b.stale++
		}
		b.acks = append(b.acks, payload)
	})
}

// Hint implements [HintHandler]. The newest one replaces the one before.
func (s *session) Hint(payload []byte) { s.put(func(b *inbox) { b.hint, b.hinted = payload, true }) }

func (s *session) end(err error) { s.put(func(b *inbox) { b.ended, b.endErr = true, err }) }

func (s *session) put(f func(*inbox)) {
	s.mu.Lock()
	f(&s.inbox)
	s.mu.Unlock()
	s.notify()
}

// takeAll empties the inbox.
func (s *session) takeAll() inbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.inbox
	s.inbox = inbox{}
	return b
}

// run sends messages until ctx ends or the link does not take one.
func (s *session) run(ctx context.Context, to Session) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.down:
			if err := to.Send(ctx, m); err != nil {
				s.put(func(b *inbox) { b.sendErr = err })
				return
			}
			s.handed.Store(m.ID)
		}
	}
}
