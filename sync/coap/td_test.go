package coap

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// The tests here bear the names of the ETSI/IETF CoAP plugtests. Each runs over a packet
// pipe in virtual time, both ends being ours; libcoap_test.go has them against another.

// inBubble runs f with a client, a server and the pipe between them.
func inBubble(t *testing.T, f func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, far := faultnet.NewPackets(1), newFarEnd()
		overPackets(t, p, far, func(c *conn) { f(t, c, far, p) })
	})
}

// CORE_01, 02: a confirmable GET and POST; one datagram each way.
func TestTD_COAP_CORE_01_02(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
		far.put = []byte("21.5")
		if r := get(t, c, nil); r.Code != "2.05" || string(r.Body) != "21.5" || r.ContentFormat != formatText {
			t.Errorf("get: %+v", r)
		}
		if r, _ := post(t, c, []byte("x")); r.Code != "2.04" {
			t.Errorf("post: %s", r.Code)
		}
		if up, down, _ := p.Stats(); up != 2 || down != 2 {
			t.Errorf("%d datagrams up and %d down, want 2 each", up, down)
		}
	})
}

// CORE_05 to 08: a non-confirmable request is answered without an acknowledgement.
func TestTD_COAP_CORE_05(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
		far.put = []byte("x")
		var sent int
		c.do(func(now time.Time) {
			m := &message{code: methodGet, token: []byte("non")}
			m.addString(optURIPath, "x")
			c.udp.once(now, m)
		})
		synctest.Wait()
		time.Sleep(time.Second)
		up, down, _ := p.Stats()
		// The client knows no such request of its own, and says so once.
		if sent = up; down != 1 || sent != 2 {
			t.Errorf("%d up, %d down", up, down)
		}
	})
}

// CORE_09: a response that takes long comes apart from the acknowledgement, and is sent
// again when it is lost.
func TestTD_COAP_CORE_09(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
		far.reply = func(x *inbound) {
			time.AfterFunc(5*time.Second, func() { x.reply(&message{code: codeChanged}) })
		}
		p.Set(faultnet.Down, faultnet.Faults{DropAt: []int{2}}) // the response
		r, took := post(t, c, []byte("slow"))
		if r.Code != "2.04" || took < 7*time.Second || took > 8*time.Second {
			t.Errorf("%s after %v", r.Code, took)
		}
		synctest.Wait() // the acknowledgement of it is under way
		if up, down, _ := p.Stats(); up != 2 || down != 3 {
			t.Errorf("%d datagrams up and %d down, want request and ack, ack and response twice", up, down)
		}
	})
}

// CORE_11, 14: lost requests and lost answers; the server's handler runs once.
func TestTD_COAP_CORE_11_14(t *testing.T) {
	for _, lost := range []struct {
		name     string
		up, down []int
		least    time.Duration
	}{
		{"the request", []int{1}, nil, 2 * time.Second},
		{"the answer", nil, []int{1}, 2 * time.Second},
		{"four requests", []int{1, 2, 3, 4}, nil, 30 * time.Second},
		{"requests and answers in turn", []int{1, 3}, []int{1}, 14 * time.Second},
	} {
		t.Run(lost.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
				p.Set(faultnet.Up, faultnet.Faults{DropAt: lost.up})
				p.Set(faultnet.Down, faultnet.Faults{DropAt: lost.down})
				_, took := post(t, c, []byte("x"))
				far.mustHold(t, []byte("x"))
				if took < lost.least || took > lost.least*3/2 {
					t.Errorf("took %v, want %v to half more", took, lost.least)
				}
			})
		})
	}
}

// CORE_12, 13: a path of several parts arrives as it is.
func TestTD_COAP_CORE_12_13(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
		var got []string
		far.reply = func(x *inbound) { got = x.path; x.reply(&message{code: codeChanged}) }
		want := []string{"seg1", "seg 2", "söx/3", strings.Repeat("x", 255)}
		if _, err := c.call(t.Context(), &request{Method: methodPost, Path: want, ContentFormat: -1, Accept: -1}); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// CORE_15: an option that is critical and not understood is refused; one that is not is
// ignored.
func TestTD_COAP_CORE_15(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
		for id, want := range map[optionID]code{65001: codeBadOption, 65000: codeChanged, 35: codeBadOption} {
			p := newPeer(far.srv, "x", newReliable(rand.New(rand.NewPCG(1, 1))), nil, func(b []byte) error {
				var m message
				if err := parseUDP(&m, b); err != nil || m.code != want {
					t.Errorf("option %d: %s, %v; want %s", id, m.code, err, want)
				}
				return nil
			})
			m := &message{code: methodPost, id: 1, token: []byte("t")}
			m.add(id, []byte("x"))
			p.datagram(appendUDP(m))
			p.close()
		}
	})
}

// CORE_21, 22: content that is held is not sent again; config is fetched like this.
func TestTD_COAP_CORE_21(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
		far.put = pattern(3000)
		first := get(t, c, nil)
		if again := get(t, c, first.ETag); again.Code != "2.03" || len(again.Body) > 0 {
			t.Errorf("unchanged: %s with %d bytes", again.Code, len(again.Body))
		}
		far.mu.Lock()
		far.put = pattern(3001)
		far.mu.Unlock()
		if again := get(t, c, first.ETag); again.Code != "2.05" || len(again.Body) != 3001 {
			t.Errorf("changed: %s with %d bytes", again.Code, len(again.Body))
		}
	})
}

// CORE_31: a ping is answered with a reset.
func TestTD_COAP_CORE_31(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, _ *farEnd, _ *faultnet.Packets) {
		if err := c.alive(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// BLOCK_01, 02: a large body is fetched, also in smaller blocks than ours.
func TestTD_COAP_BLOCK_01_02(t *testing.T) {
	for szx := range uint8(7) {
		inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
			far.put = pattern(2000)
			m, ok := slice(formatText, far.put, etag(far.put), &block{szx: szx}, false)
			if b, has, _ := m.blockOption(optBlock2); !ok || !has || b.szx != szx || !b.more {
				t.Errorf("szx %d: %+v", szx, b)
			}
			if r := get(t, c, nil); !bytes.Equal(r.Body, far.put) {
				t.Errorf("%d bytes", len(r.Body))
			}
		})
	}
}

// BLOCK_03, 05: a large body is sent; the server may ask for smaller blocks.
func TestTD_COAP_BLOCK_03_05(t *testing.T) {
	for szx := range uint8(7) {
		synctest.Test(t, func(t *testing.T) {
			p, far := faultnet.NewPackets(1), newFarEnd()
			far.srv.szx = szx
			overPackets(t, p, far, func(c *conn) {
				body := pattern(5000)
				post(t, c, body)
				far.mustHold(t, body)
				want := 1 + (5000-1024+16<<szx-1)/(16<<szx)
				if up, _, _ := p.Stats(); up != want {
					t.Errorf("szx %d: %d datagrams, want %d", szx, up, want)
				}
			})
		})
	}
}

// BLOCK_04: content that changes while it is fetched is fetched anew, never mixed.
func TestTD_COAP_BLOCK_04(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
		n := 0
		far.reply = func(x *inbound) {
			if n++; n == 3 {
				far.put = pattern(4001)
			}
			x.content(formatText, far.put, false)
		}
		far.put = pattern(4000)
		if r := get(t, c, nil); !bytes.Equal(r.Body, pattern(4001)) {
			t.Errorf("%d bytes of both", len(r.Body))
		}
	})
}

// BLOCK_06: what is over the server's bound is refused with the bound.
func TestTD_COAP_BLOCK_06(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
		r, _ := post(t, c, pattern(maxBody+1))
		if r.Code != "4.13" || r.Limit != maxBody {
			t.Errorf("%s, limit %d", r.Code, r.Limit)
		}
		far.mustHold(t)
	})
}

// OBS_01 to 07: a resource is watched; what is lost on the way comes again; renewals go
// on by themselves.
func TestTD_COAP_OBS_01_07(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
		var met atomic.Pointer[peer]
		handle := far.srv.handle
		far.srv.handle = func(x *inbound) { met.Store(x.peer); handle(x) }
		far.put = []byte("one")
		var mu sync.Mutex
		var seen []string
		note := func(r response) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, string(r.Body))
		}
		r, err := c.observe(t.Context(), &request{Method: methodGet, Path: []string{"x"}, ContentFormat: -1, Accept: -1}, note)
		if err != nil || string(r.Body) != "one" || !r.obs {
			t.Fatalf("%+v, %v", r, err)
		}
		peer := met.Load()
		_, down, _ := p.Stats()
		p.Set(faultnet.Down, faultnet.Faults{DropAt: []int{down + 1}})
		if !peer.notify("x", formatText, []byte("two")) {
			t.Fatal("nobody watches")
		}
		peer.notify("x", formatText, []byte("three"))
		time.Sleep(10 * time.Second)
		long := strings.Repeat("x", 3000) // is fetched apart
		far.mu.Lock()
		far.put = []byte(long)
		far.mu.Unlock()
		peer.notify("x", formatText, []byte(long))
		time.Sleep(10 * time.Second)
		mu.Lock()
		if !slices.Equal(seen, []string{"two", "three", long}) {
			t.Errorf("seen %d notifications: %.30q", len(seen), seen)
		}
		seen = nil
		mu.Unlock()
		// The server forgets; the client asks again within 15 minutes.
		peer.do(func(time.Time) func() { peer.watches = nil; return nil })
		time.Sleep(16 * time.Minute)
		// It was silent for longer than the server remembers it: it is a new peer.
		if !met.Load().notify("x", formatText, []byte("four")) {
			t.Error("the observation was not renewed")
		}
	})
}

// TestReproducerLostAck: an upload goes on when the acknowledgement of one of its blocks
// is lost, each of them once. The library's never sends that block again.
func TestReproducerLostAck(t *testing.T) {
	for lost := 1; lost <= 64; lost += 7 {
		inBubble(t, func(t *testing.T, c *conn, far *farEnd, p *faultnet.Packets) {
			p.Set(faultnet.Down, faultnet.Faults{DropAt: []int{lost}})
			body := pattern(64 << 10)
			_, took := post(t, c, body)
			far.mustHold(t, body)
			if took > 3*time.Second {
				t.Errorf("acknowledgement %d: %v", lost, took)
			}
		})
	}
}

// TestReproducerTokenPerBlock: the server puts a body together whose token changes with
// each block. The library's hands on the last block alone.
func TestReproducerTokenPerBlock(t *testing.T) {
	for _, size := range []int{5000, 7777, 64 << 10, 100_000} {
		far := newFarEnd()
		answers := map[code]int{}
		p := newPeer(far.srv, "x", newReliable(rand.New(rand.NewPCG(1, 1))), nil, func(b []byte) error {
			var m message
			if err := parseUDP(&m, b); err != nil {
				t.Error(err)
			}
			answers[m.code]++
			return nil
		})
		body := pattern(size)
		for i := 0; i*1024 < size; i++ {
			m := &message{code: methodPost, id: uint16(i), token: []byte{byte(i), byte(i >> 8)}, payload: body[i*1024 : min(i*1024+1024, size)]}
			m.addString(optURIPath, "x")
			m.setBlock(optBlock1, block{num: uint32(i), more: i*1024+1024 < size, szx: 6})
			p.datagram(appendUDP(m))
		}
		p.close()
		far.mustHold(t, body)
		if answers[codeContinue] != (size-1)/1024 || answers[codeChanged] != 1 {
			t.Errorf("%d bytes: answers %v", size, answers)
		}
	}
}

// A server that forgot where it was gets the body from its beginning.
func TestIncomplete(t *testing.T) {
	inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
		var p *peer
		far.reply = func(x *inbound) { p = x.peer; x.reply(&message{code: codeChanged}) }
		post(t, c, nil)
		far.mu.Lock()
		far.reply = nil
		far.mu.Unlock()
		n := 0
		raw := p.write
		p.write = func(b []byte) error {
			if n++; n == 10 {
				p.blocks.close() // as after a restart
			}
			return raw(b)
		}
		body := pattern(64 << 10)
		post(t, c, body)
		far.mustHold(t, body)
	})
}

// A peer that has lost its state says so, and a peer that is silent is given up.
func TestEnds(t *testing.T) {
	t.Run("reset", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *conn, far *farEnd, _ *faultnet.Packets) {
			far.reply = func(x *inbound) {
				x.peer.do(func(time.Time) func() { x.peer.udp.refuse(&message{id: x.id}); return nil })
			}
			if _, err := c.call(t.Context(), &request{Method: methodPost, Path: []string{"x"}}); !errors.Is(err, errReset) {
				t.Errorf("%v", err)
			}
		})
	})
	t.Run("silence", func(t *testing.T) {
		inBubble(t, func(t *testing.T, c *conn, _ *farEnd, p *faultnet.Packets) {
			p.Set(faultnet.Up, faultnet.Faults{Blackhole: true})
			began := time.Now()
			_, err := c.call(t.Context(), &request{Method: methodPost, Path: []string{"x"}})
			if took := time.Since(began); !errors.Is(err, errTimeout) || took < 62*time.Second || took > 93*time.Second {
				t.Errorf("%v after %v, want the time-out of RFC 7252 section 4.8.2", err, took)
			}
		})
	})
	t.Run("keep-alive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, far := faultnet.NewPackets(1), newFarEnd()
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = ServeUDP(p.B).serve(ctx, far.srv) })
			c := newDatagramConn(p.A, rand.New(rand.NewPCG(1, 2)), 25*time.Second)
			over := make(chan error, 1)
			wg.Go(func() { over <- c.run(ctx) })
			time.Sleep(10 * time.Minute)
			if up, _, _ := p.Stats(); up < 23 || up > 24 {
				t.Errorf("%d pings in 10 min, want one every 25 s", up)
			}
			p.Set(faultnet.Down, faultnet.Faults{Blackhole: true})
			began := time.Now()
			if err := <-over; !errors.Is(err, errTimeout) || time.Since(began) > 2*time.Minute {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			cancel()
			wg.Wait()
		})
	})
}
