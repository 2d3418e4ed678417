package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

// fakeTransport is a link with a delay and a rate to a receiver. Everything that it
// does wrong is a field; set changes them while a session is up.
type fakeTransport struct {
	to    *receiver
	mu    sync.Mutex    // guards everything below; also held in calls of the functions
	delay time.Duration // from the end of sending to the result
	rate  float64       // bytes a second; 0 = no limit
	caps  Caps

	refuse   func(n int) error     // n-th attempt, from 1
	lose     func(m Message) bool  // the transport accepts it and the receiver never gets it
	silent   func(m Message) bool  // no result, nothing arrives
	class    func(m Message) Class // of the result; other than Accepted nothing arrives
	dieAfter func(session int) int // messages until the session dies, 0 = never
	reorder  *rand.Rand            // results out of order
	ackEvery time.Duration         // end-to-end acks; 0 = none
	takes    func(m Message) error // Send fails
	stuck    bool                  // Send hangs until the session ends

	attempts int
	sessions int
	attempt  []time.Time // when each began
	ups      []time.Time
	open     int // sessions now
	most     int // sessions at once, ever
	inFlight int
	mostOut  int                      // messages without a result, ever
	goodbyes int                      // sessions that ended by ctx
	wire     uint64                   // bytes, both ways
	hint     []byte                   // retained; nil = none
	loss     *rand.Rand               // of one segment in fifty: it comes again, and holds up what is behind it
	again    func(m Message) []Result // more results than one
	cut      context.CancelCauseFunc
}

func (t *fakeTransport) String() string { return "fake://link" }

var errDied = errors.New("link died")

func (t *fakeTransport) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// kill ends the session that is up.
func (t *fakeTransport) kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cut != nil {
		t.cut(errDied)
	}
}

func (t *fakeTransport) begin() (attempt, session int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts++
	t.attempt = append(t.attempt, time.Now())
	t.open++
	t.most = max(t.most, t.open)
	return t.attempts, t.sessions + 1
}

func (t *fakeTransport) Session(ctx context.Context, h Handler, start func(context.Context, Session)) error {
	n, session := t.begin()
	defer func() { t.mu.Lock(); t.open--; t.cut = nil; t.mu.Unlock() }()
	if err := t.refused(n); err != nil {
		return err
	}
	up, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &fakeSession{t: t, h: h, up: up, end: end, wire: make(chan Message, maxInFlight), late: make(chan due, 4*maxInFlight)}
	t.mu.Lock()
	if t.dieAfter != nil {
		s.left = t.dieAfter(session)
	}
	caps := t.caps
	t.wire += sessionBytes
	t.sessions++
	t.ups = append(t.ups, time.Now())
	t.cut, t.inFlight = end, 0
	t.mu.Unlock()
	caps.LetsGo = true // what arrives is read before its result is told
	h.Up(caps)
	t.mu.Lock()
	hint := t.hint
	t.mu.Unlock()
	if x, ok := h.(HintHandler); ok && hint != nil {
		x.Hint(hint)
	}
	var wg sync.WaitGroup
	wg.Go(func() { start(up, s) })
	wg.Go(s.carry)
	wg.Go(s.answer)
	wg.Wait()
	if ctx.Err() != nil {
		t.mu.Lock()
		t.goodbyes++
		t.mu.Unlock()
	}
	return context.Cause(up)
}

func (t *fakeTransport) refused(n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refuse == nil {
		return nil
	}
	return t.refuse(n)
}

// speed returns the rate and the delay as they are now.
func (t *fakeTransport) speed() (float64, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate, t.delay
}

// What a message costs besides its payload, a result, and a session.
const (
	messageBytes = 90
	resultBytes  = 44
	sessionBytes = 1000
)

func (t *fakeTransport) count(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wire += uint64(n)
}

func (t *fakeTransport) onWire() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wire
}

type due struct {
	m  Message
	at time.Time
}

type fakeSession struct {
	t    *fakeTransport
	h    Handler
	up   context.Context
	end  context.CancelCauseFunc
	wire chan Message
	late chan due
	left int // messages until death; 0 = for ever
}

func (s *fakeSession) Send(_ context.Context, m Message) error {
	s.t.mu.Lock()
	stuck, err := s.t.stuck, error(nil)
	if s.t.takes != nil {
		err = s.t.takes(m)
	}
	s.t.mu.Unlock()
	if err != nil {
		return err
	}
	if stuck {
		<-s.up.Done()
		return context.Cause(s.up)
	}
	s.t.mu.Lock()
	s.t.inFlight++
	s.t.mostOut = max(s.t.mostOut, s.t.inFlight)
	s.t.mu.Unlock()
	select {
	case s.wire <- m:
		return nil
	case <-s.up.Done():
		return context.Cause(s.up)
	}
}

// carry takes the time that the bytes need.
func (s *fakeSession) carry() {
	for {
		select {
		case <-s.up.Done():
			return
		case m := <-s.wire:
			rate, delay := s.t.speed()
			s.t.count(len(m.Payload) + messageBytes)
			if rate > 0 && !s.pause(time.Duration(float64(len(m.Payload))/rate*1e9)) {
				return
			}
			if !s.pause(s.t.retransmit(len(m.Payload), delay)) {
				return
			}
			select {
			case s.late <- due{m, time.Now().Add(delay)}:
			case <-s.up.Done():
				return
			}
			if s.left--; s.left == 0 {
				s.end(errDied)
				return
			}
		}
	}
}

func (s *fakeSession) pause(d time.Duration) bool {
	if d <= 0 {
		return s.up.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-s.up.Done():
		return false
	}
}

// answer hands out results and acks.
func (s *fakeSession) answer() {
	var tick <-chan time.Time
	s.t.mu.Lock()
	every := s.t.ackEvery
	s.t.mu.Unlock()
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	var held []due
	for {
		select {
		case <-s.up.Done():
			return
		case <-tick:
			s.ack()
		case d := <-s.late:
			if !s.pause(time.Until(d.at)) {
				return
			}
			held = append(held, d)
			if r := s.t.reorder; r != nil && len(held) < 4 && len(s.late) > 0 {
				continue
			} else if r != nil {
				r.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
			}
			for _, d := range held {
				s.result(d.m)
			}
			held = held[:0]
		}
	}
}

func (s *fakeSession) result(m Message) {
	class, lost, silent := s.t.judge(m)
	if silent {
		return
	}
	if class == Accepted && !lost {
		s.t.to.take(m)
	}
	s.t.count(resultBytes)
	r := Result{ID: m.ID, Class: class}
	if class != Accepted {
		r.Err = errors.New(class.String())
	}
	s.h.Result(r)
	if s.t.again != nil {
		for _, x := range s.t.again(m) {
			s.h.Result(x)
		}
	}
}

// retransmit returns how long segments that are lost hold up a message.
func (t *fakeTransport) retransmit(n int, delay time.Duration) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; t.loss != nil && n > 0; n -= 1460 {
		if t.loss.IntN(50) == 0 {
			wait += max(200*time.Millisecond, delay) // found by the acknowledgements of what follows
		}
	}
	return wait
}

// judge says what becomes of a message.
func (t *fakeTransport) judge(m Message) (class Class, lost, silent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.silent != nil && t.silent(m) {
		return 0, false, true
	}
	t.inFlight--
	if t.class != nil {
		class = t.class(m)
	}
	return class, t.lose != nil && t.lose(m), false
}

func (s *fakeSession) ack() {
	for _, e := range s.t.to.known() {
		b, err := json.Marshal(s.t.to.ack(e))
		if err != nil {
			panic(err)
		}
		s.h.Ack(b)
	}
}

var _ edgeagent.BatchContent = memContent{}
