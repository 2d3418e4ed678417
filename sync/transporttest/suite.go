package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/sync/uplink"
)

// Link is a transport and what the suite can do at its far end.
type Link struct {
	Transport uplink.Transport
	// Arrived returns every message that the far end has received, repetitions
	// included, in the order of arrival.
	Arrived func() []Arrival
	// Ack lets the far end send an end-to-end acknowledgement to the session
	// that is up. Nil: there are none on this transport.
	Ack func(payload []byte)
	// Cut breaks every connection without a goodbye and lets none come up until
	// Restore. Nil: cannot be done.
	Cut     func()
	Restore func()
	// Refuse makes the server refuse logins, or take them again. Nil: cannot be
	// done.
	Refuse func(bool)
	// Withhold makes the server take messages and acknowledge none. Nil: cannot
	// be done.
	Withhold func()
}

// Arrival is a message at the far end.
type Arrival struct {
	Lane    uplink.Lane
	Payload string
}

// patience bounds every wait; only a broken transport is ever that slow.
const patience = time.Minute

// Run runs the suite. open makes a fresh transport and far end for each part, up and
// ready; what it starts it must end with t.Cleanup. Parts that need what the far end cannot
// do are named in the log: another far end of the same transport has to stand for them.
func Run(t *testing.T, open func(t *testing.T) Link) {
	var able Link
	if !t.Run("the far end starts", func(t *testing.T) { able = open(t) }) {
		return
	}
	for _, part := range []struct {
		name  string
		needs func(Link) bool
		run   func(*testing.T, Link)
	}{
		{"messages arrive unchanged", always, arriveUnchanged},
		{"a full window", always, fullWindow},
		{"ends with its context", always, endsWithContext},
		{"ends while idle", always, endsWhileIdle},
		{"start may return at once", always, startReturns},
		{"sessions follow one another", always, sessionsFollow},
		{"names itself without secrets", always, namesItself},
		{"end-to-end acks", func(l Link) bool { return l.Ack != nil }, acksArrive},
		{"a link that is cut", func(l Link) bool { return l.Cut != nil }, cutLink},
		{"no way to the server", func(l Link) bool { return l.Cut != nil && l.Restore != nil }, noWay},
		{"a refused login", func(l Link) bool { return l.Refuse != nil }, refusedLogin},
		{"a server that never acknowledges", func(l Link) bool { return l.Withhold != nil }, neverAcknowledged},
	} {
		if !part.needs(able) {
			t.Logf("not with this far end: %s", part.name)
			continue
		}
		t.Run(part.name, func(t *testing.T) { part.run(t, open(t)) })
	}
}

func always(Link) bool { return true }

// running is a session under way.
type running struct {
	t    *testing.T
	h    *recorder
	stop context.CancelFunc
	done chan error
}

// session starts a session that sends messages and then waits for its end.
func session(t *testing.T, l Link, messages ...uplink.Message) *running {
	t.Helper()
	return sessionWith(t, l, func(ctx context.Context, s uplink.Session, h *recorder) {
		for _, m := range messages {
			h.sending(m.ID)
			if err := s.Send(ctx, m); err != nil {
				return
			}
		}
		<-ctx.Done()
	})
}

func sessionWith(t *testing.T, l Link, start func(context.Context, uplink.Session, *recorder)) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, h: newRecorder(), stop: cancel, done: make(chan error, 1)}
	started := make(chan struct{})
	go func() {
		ended := make(chan struct{})
		err := l.Transport.Session(ctx, r.h, func(ctx context.Context, s uplink.Session) {
			defer close(ended)
			close(started)
			start(ctx, s, r.h)
		})
		r.h.mu.Lock()
		r.h.over = true
		select {
		case <-started:
			select {
			case <-ended:
			default:
				r.h.problem("Session returned while start was running")
			}
		default:
		}
		r.h.mu.Unlock()
		r.done <- err
	}()
	t.Cleanup(cancel)
	return r
}

// wait waits until ready, which is called with the recorder's lock held.
func (r *running) wait(what string, ready func(h *recorder) bool) {
	r.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		ok, changed := r.h.look(func() bool { return ready(r.h) })
		if ok {
			return
		}
		select {
		case <-changed:
		case err := <-r.done:
			r.done <- err
			if ok, _ := r.h.look(func() bool { return ready(r.h) }); ok {
				return
			}
			r.t.Fatalf("the session ended (%v) before %s", err, what)
		case <-timeout.C:
			r.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func (r *running) waitUp() {
	r.t.Helper()
	r.wait("it was up", func(h *recorder) bool { return h.ups > 0 })
}

func (r *running) waitResults(n int) {
	r.t.Helper()
	r.wait(fmt.Sprintf("%d results came", n), func(h *recorder) bool { return len(h.results) >= n })
}

// ended waits for the end, and checks what must hold of every session.
func (r *running) ended() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.h.mu.Lock()
		defer r.h.mu.Unlock()
		for _, p := range r.h.problems {
			r.t.Error(p)
		}
		return err
	case <-time.After(patience):
		r.t.Fatalf("the session did not end within %v", patience)
		return nil
	}
}

func (r *running) end() {
	r.t.Helper()
	r.stop()
	if err := r.ended(); err != nil && !errors.Is(err, context.Canceled) {
		r.t.Errorf("a session that was ended returned %v, want nil or the context's error", err)
	}
}

// messages makes n messages of growing size, over all lanes; their payloads tell
// them apart and hold every byte.
func messages(n int) []uplink.Message {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	out := make([]uplink.Message, n)
	for i := range out {
		payload := fmt.Appendf(nil, "%d:", i+1)
		for len(payload) < 1000*i%40_000 {
			payload = append(payload, every...)
		}
		out[i] = uplink.Message{ID: uint64(i + 1), Lane: uplink.Lane(i % 4), Payload: payload, ContentType: uplink.FormatBlock}
	}
	return out
}

// missing returns what of the messages has not arrived in its lane.
func missing(l Link, sent []uplink.Message) []uint64 {
	var out []uint64
	arrived := l.Arrived()
	for _, m := range sent {
		if !slices.Contains(arrived, Arrival{m.Lane, string(m.Payload)}) {
			out = append(out, m.ID)
		}
	}
	return out
}

// mustArrive waits until messages have arrived: the far end may be behind what it
// acknowledged.
func mustArrive(t *testing.T, l Link, sent []uplink.Message) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		ids := missing(l, sent)
		if len(ids) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("these did not arrive as they were sent: messages %v", ids)
			return
		}
		<-time.After(time.Millisecond)
	}
}

func arriveUnchanged(t *testing.T, l Link) {
	sent := append(messages(40), uplink.Message{ID: 41, Lane: uplink.LaneBacklog, Payload: make([]byte, 256<<10)})
	r := session(t, l, sent...)
	r.waitResults(len(sent))
	r.end()
	if n := r.h.accepted(); n != len(sent) {
		t.Errorf("%d of %d messages were accepted", n, len(sent))
	}
	mustArrive(t, l, sent)
}

// fullWindow sends as much as the engine ever has in flight, without waiting.
func fullWindow(t *testing.T, l Link) {
	sent := messages(64)
	for i := range sent {
		sent[i].Payload = sent[i].Payload[:min(len(sent[i].Payload), 100)]
	}
	r := session(t, l, sent...)
	r.waitResults(len(sent))
	r.end()
	mustArrive(t, l, sent)
}

func endsWithContext(t *testing.T, l Link) {
	n := uint64(0)
	r := sessionWith(t, l, func(ctx context.Context, s uplink.Session, h *recorder) {
		for ctx.Err() == nil { // sends until the end
			n++
			h.sending(n)
			if s.Send(ctx, uplink.Message{ID: n, Lane: uplink.LaneLive, Payload: fmt.Appendf(nil, "%d", n)}) != nil {
				return
			}
		}
	})
	r.waitResults(5)
	r.end()
}

func endsWhileIdle(t *testing.T, l Link) {
	r := session(t, l)
	r.waitUp()
	r.end()
	r = session(t, l)
	r.stop() // perhaps before it is up
	if err := r.ended(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("ended while connecting: %v", err)
	}
}

func startReturns(t *testing.T, l Link) {
	m := messages(1)[0]
	r := sessionWith(t, l, func(ctx context.Context, s uplink.Session, h *recorder) {
		h.sending(m.ID)
		if err := s.Send(ctx, m); err != nil {
			t.Errorf("send: %v", err)
		}
	})
	r.waitResults(1)
	r.end()
}

func sessionsFollow(t *testing.T, l Link) {
	for i := range 5 {
		m := uplink.Message{ID: 1, Lane: uplink.LaneEvent, Payload: fmt.Appendf(nil, "session %d", i)}
		r := session(t, l, m)
		r.waitResults(1)
		r.end()
		mustArrive(t, l, []uplink.Message{m})
	}
}

func namesItself(t *testing.T, l Link) {
	name := l.Transport.String()
	if name == "" || strings.Contains(name, "@") {
		t.Errorf("the link is named %q", name)
	}
}

func acksArrive(t *testing.T, l Link) {
	r := session(t, l, messages(1)...)
	r.waitResults(1)
	l.Ack([]byte(`{"by":"hub"}`))
	r.wait("the acknowledgement came", func(h *recorder) bool { return len(h.acks) > 0 })
	r.end()
	if got := r.h.acks[0]; got != `{"by":"hub"}` {
		t.Errorf("the acknowledgement came as %q", got)
	}
}

func cutLink(t *testing.T, l Link) {
	sent := messages(20)
	r := session(t, l, sent...)
	r.waitResults(10)
	l.Cut()
	if err := r.ended(); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a session whose link was cut returned %v", err)
	}
	var accepted []uplink.Message
	for _, m := range sent {
		if class, ok := r.h.results[m.ID]; ok && class == uplink.Accepted {
			accepted = append(accepted, m)
		}
	}
	mustArrive(t, l, accepted)
}

func noWay(t *testing.T, l Link) {
	l.Cut()
	r := session(t, l)
	if err := r.ended(); err == nil {
		t.Error("a session without a link returned nil")
	}
	if r.h.ups > 0 {
		t.Error("a session without a link was up")
	}
	l.Restore()
	r = session(t, l, messages(1)...)
	r.waitResults(1)
	r.end()
}

func refusedLogin(t *testing.T, l Link) {
	l.Refuse(true)
	r := session(t, l)
	refused, ok := errors.AsType[*uplink.RefusedError](r.ended())
	switch {
	case !ok:
		t.Error("a refused login is no RefusedError")
	case refused.Hint() == "":
		t.Errorf("%v: without a hint", refused)
	}
	if r.h.ups > 0 {
		t.Error("a refused session was up")
	}
	l.Refuse(false)
	r = session(t, l, messages(1)...)
	r.waitResults(1)
	r.end()
}

// neverAcknowledged is the trap of libraries that complete a message when its
// connection is replaced.
func neverAcknowledged(t *testing.T, l Link) {
	l.Withhold()
	for range 3 {
		sent := messages(10)
		r := session(t, l, sent...)
		r.waitUp()
		mustArrive(t, l, sent)
		r.end()
		if n := len(r.h.results); n > 0 {
			t.Errorf("%d results of messages that were never acknowledged", n)
		}
	}
}
