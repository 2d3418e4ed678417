package coap

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// noted keeps the results of a session.
type noted struct {
	results chan uplink.Result
	acks    chan string
}

func (noted) Up(uplink.Caps)            {}
func (n noted) Result(r uplink.Result)  { n.results <- r }
func (n noted) Ack(b []byte)            { n.acks <- string(b) }
func newNoted() noted                   { return noted{make(chan uplink.Result, 100), make(chan string, 100)} }
func (n noted) only() (r uplink.Result) { return <-n.results }

// TestF11Results: what each answer makes the engine do.
func TestF11Results(t *testing.T) {
	maxAge := func(seconds uint32) func(*message) { return func(m *message) { m.addUint(optMaxAge, seconds) } }
	for _, tt := range []struct {
		name  string
		code  code
		with  func(*message)
		class uplink.Class
		after time.Duration // give or take a fifth
		hint  bool
	}{
		{"2.04", codeChanged, nil, uplink.Accepted, 0, false},
		{"2.01", codeCreated, nil, uplink.Accepted, 0, false},
		{"4.29 with Max-Age", codeTooMany, maxAge(5), uplink.Throttled, 5 * time.Second, false},
		{"4.29 without", codeTooMany, nil, uplink.Throttled, time.Minute, false},
		{"5.03 with Max-Age", codeUnavailable, maxAge(30), uplink.Throttled, 30 * time.Second, false},
		{"5.00", codeInternal, nil, uplink.Throttled, 0, false},
		{"4.13 with Size1", codeTooLarge, func(m *message) { m.addUint(optSize1, 512) }, uplink.Poison, 0, false},
		{"4.00", codeBadRequest, nil, uplink.Poison, 0, false},
		{"4.02", codeBadOption, nil, uplink.Poison, 0, false},
		{"4.22", codeUnprocessable, nil, uplink.Poison, 0, false},
		{"4.03", codeForbidden, nil, uplink.ConfigError, 0, true},
		{"4.04", codeNotFound, nil, uplink.ConfigError, 0, true},
		{"4.15", codeUnsupportedFormat, nil, uplink.ConfigError, 0, true},
		{"5.01", codeNotImplemented, nil, uplink.ConfigError, 0, false},
		{"4.01", codeUnauthorized, nil, uplink.ConfigError, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, far := faultnet.NewPackets(1), newFarEnd()
				far.reply = func(x *inbound) {
					m := &message{code: tt.code}
					if tt.with != nil {
						tt.with(m)
					}
					x.reply(m)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { _ = ServeUDP(p.B).serve(ctx, far.srv) })
				tr, err := New(uplink.LinkConfig{URL: "coap://x/{tenant}/{lane}"}, Options{Device: "gw", Dial: func(context.Context, string, string) (net.Conn, error) { return p.A, nil }})
				if err != nil {
					t.Fatal(err)
				}
				h := newNoted()
				wg.Go(func() {
					_ = tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
						_ = s.Send(ctx, uplink.Message{ID: 7, Lane: uplink.LaneEvent, Payload: []byte("x"), ContentType: uplink.FormatLine})
					})
				})
				r := h.only()
				low, high := tt.after*4/5, tt.after*6/5
				if r.ID != 7 || r.Class != tt.class || r.After < low || r.After > high || (r.Class == uplink.Accepted) != (r.Err == nil) {
					t.Errorf("%+v, want class %s after %v to %v", r, tt.class, low, high)
				}
				if _, ok := errors.AsType[edgeagent.Hinter](r.Err); tt.hint && !ok {
					t.Errorf("%v: no hint", r.Err)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

// TestUnauthorized: a server that answers 4.01 has perhaps forgotten the session, so one
// more is tried before the login counts as refused; a message that it takes starts the
// count anew.
func TestUnauthorized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := newFarEnd()
		answer := codeChanged
		far.reply = func(x *inbound) { x.reply(&message{code: answer}) }
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		dials := 0
		tr, err := New(uplink.LinkConfig{URL: "coap://x"}, Options{Device: "gw", Dial: func(context.Context, string, string) (net.Conn, error) {
			dials++
			p := faultnet.NewPackets(1)
			wg.Go(func() { _ = ServeUDP(p.B).serve(ctx, far.srv) })
			return p.A, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, step := range []struct {
			answers []code // to the messages of a session
			refused bool
		}{
			{[]code{codeChanged, codeUnauthorized}, false},
			{[]code{codeUnauthorized}, true},
			{[]code{codeUnauthorized}, true},
			{[]code{codeChanged, codeUnauthorized}, false}, // it has known us in between
			{[]code{codeTooMany, codeForbidden, codeUnauthorized}, true},
		} {
			h := newNoted()
			err := tr.Session(ctx, h, func(ctx context.Context, s uplink.Session) {
				for n, c := range step.answers {
					answer = c
					if err := s.Send(ctx, uplink.Message{ID: uint64(n), Payload: []byte("x")}); err != nil {
						t.Error(err)
					}
					if r := h.only(); (r.Class == uplink.Accepted) != (c == codeChanged) {
						t.Errorf("session %d: %s is taken for %s", i, c, r.Class)
					}
				}
			})
			_, refused := errors.AsType[*uplink.RefusedError](err)
			_, hinted := errors.AsType[edgeagent.Hinter](err)
			if refused != step.refused || !hinted {
				t.Errorf("session %d ends with %v; refused %v, want %v", i, err, refused, step.refused)
			}
		}
		if dials != 5 {
			t.Errorf("%d sessions", dials)
		}
		cancel()
		wg.Wait()
	})
}

// TestReceiverCodes: what a hub's end answers to requests that it does not take.
func TestReceiverCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := faultnet.NewPackets(1)
		rx, err := NewReceiver(ReceiverConfig{
			Listeners: []Listener{ServeUDP(p.B)},
			Authorize: func(_, tenant, device string) bool { return device != "other" },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = rx.Run(ctx, func(d Delivery) { d.Ack() }) })
		c := newDatagramConn(p.A, newRand(), 0)
		wg.Go(func() { _ = c.run(ctx) })
		data := []string{"ea", "v1", "t", "gw", "d", "live"}
		for _, tt := range []struct {
			name   string
			method code
			path   []string
			format int
			want   string
		}{
			{"data", methodPost, data, formatBlock, "2.04"},
			{"no block", methodPost, data, formatSenMLCBOR, "4.15"},
			{"no format", methodPost, data, -1, "4.15"},
			{"another method", methodPut, data, formatBlock, "4.05"},
			{"reading data", methodGet, data, -1, "4.05"},
			{"another device", methodPost, []string{"ea", "v1", "t", "other", "d", "live"}, formatBlock, "4.03"},
			{"another tree", methodPost, []string{"ea", "v2", "t", "gw", "d", "live"}, formatBlock, "4.04"},
			{"nothing", methodGet, nil, -1, "4.04"},
			{"a wildcard", methodPost, []string{"ea", "v1", "t", "+", "d", "live"}, formatBlock, "4.04"},
			{"a slash", methodPost, []string{"ea", "v1", "t", "a/b", "d", "live"}, formatBlock, "4.04"},
			{"acks", methodGet, []string{"ea", "v1", "t", "gw", "ack"}, -1, "2.05"},
		} {
			r, err := c.call(ctx, &request{Method: tt.method, Path: tt.path, ContentFormat: tt.format, Accept: -1, Body: []byte("x")})
			if err != nil || r.Code != tt.want {
				t.Errorf("%s: %s, %v; want %s", tt.name, r.Code, err, tt.want)
			}
		}
		if s := rx.Stats(); s.Delivered != 1 || s.Refused != 9 {
			t.Errorf("%+v", s)
		}
		cancel()
		wg.Wait()
	})
}

// TestReceiverIsBounded: a hub that stands still is sent no more than fits, and the rest
// is told to come later.
func TestReceiverIsBounded(t *testing.T) {
	rx, err := NewReceiver(ReceiverConfig{Listeners: []Listener{{}}})
	if err != nil {
		t.Fatal(err)
	}
	far := newFarEnd()
	answers := map[code]int{}
	p := newPeer(far.srv, "x", newReliable(newRand()), nil, func(b []byte) error {
		var m message
		if err := parseUDP(&m, b); err != nil {
			t.Error(err)
		}
		if age, ok := m.uint(optMaxAge); m.code == codeUnavailable && (!ok || age == 0) {
			t.Error("5.03 without Max-Age")
		}
		answers[m.code]++
		return nil
	})
	defer p.close()
	for range queueMessages + 10 {
		rx.take(&inbound{peer: p, code: methodPost, path: []string{"ea", "v1", "t", "gw", "d", "live"}, format: formatBlock, kind: confirmable})
	}
	if s := rx.Stats(); s.Depth != queueMessages || s.Throttled != 10 || answers[codeUnavailable] != 10 {
		t.Errorf("%+v, answers %v", s, answers)
	}
}

// TestAssemblerIsBounded: a peer holds a few bodies, all peers a fixed sum.
func TestAssemblerIsBounded(t *testing.T) {
	far := newFarEnd()
	now := time.Unix(0, 0)
	a := newAssembler(&far.srv.bodies, largestSZX, false)
	send := func(tag byte, num uint32) *message {
		m := &message{code: methodPost, payload: make([]byte, 1024)}
		m.add(optRequestTag, []byte{tag})
		b := block{num: num, more: true, szx: largestSZX}
		m.setBlock(optBlock1, b)
		_, _, answer := a.take(now, m, b)
		return answer
	}
	for tag := range byte(20) {
		send(tag, 0)
	}
	if n := far.srv.bodies.Load(); len(a.partials) != maxPartials || n != maxPartials*1024 {
		t.Errorf("%d bodies of %d bytes", len(a.partials), n)
	}
	far.srv.bodies.Add(maxAllBodies)
	if r := send(1, 0); r.code != codeUnavailable {
		t.Errorf("no room: %s", r.code)
	}
	now = now.Add(partialLife)
	a.expire(now)
	if len(a.partials) != 0 {
		t.Errorf("%d bodies after their time", len(a.partials))
	}
}
