package coap

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// postAll sends bodies of one size to one resource at the same time, through a link
// with a round trip of 600 ms, and returns how long it took.
func postAll(t *testing.T, nstart int, tags bool, count, size int, up, down faultnet.Faults, far *farEnd) (took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := faultnet.NewPackets(uint64(size))
		up.Latency, down.Latency = 300*time.Millisecond, 300*time.Millisecond
		p.Set(faultnet.Up, up)
		p.Set(faultnet.Down, down)
		overPackets(t, p, far, func(c *conn) {
			c.do(func(time.Time) { c.udp.nstart, c.udp.open, c.caller.tags = nstart, nstart, tags })
			began := time.Now()
			var wg sync.WaitGroup
			for i := range count {
				wg.Go(func() {
					body := pattern(size + i)
					r, err := c.call(t.Context(), &request{Method: methodPost, Path: []string{"x"}, ContentFormat: formatBlock, Accept: -1, Body: body})
					if err != nil || r.code != codeChanged {
						t.Errorf("body %d: %s, %v", i, r.Code, err)
					}
				})
			}
			wg.Wait()
			took = time.Since(began)
		})
	})
	return took
}

// holds fails unless the server got exactly these bodies, in any order.
func (f *farEnd) holds(t *testing.T, count, size int) {
	t.Helper()
	got := f.received()
	if len(got) != count {
		t.Errorf("%d bodies arrived, want %d", len(got), count)
	}
	for i := range count {
		want := pattern(size + i)
		if !slices.ContainsFunc(got, func(b []byte) bool { return bytes.Equal(b, want) }) {
			t.Errorf("body %d is missing, or changed", i)
		}
	}
}

// TestNStart: how many round trips messages of one lane take together.
func TestNStart(t *testing.T) {
	const trip = 600 * time.Millisecond
	for _, tt := range []struct {
		name         string
		nstart, size int
		tags         bool
		trips        int
	}{
		{"one datagram each, one at a time", 1, 900, false, 8},
		{"one datagram each, two at a time", 2, 900, false, 4},
		{"one datagram each, four at a time", 4, 900, false, 2},
		{"four blocks each, one at a time", 1, 4000, true, 32},
		{"four blocks each, to a server without Request-Tag", 4, 4000, false, 32},
		{"four blocks each, four at a time", 4, 4000, true, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			far := newFarEnd()
			if took := postAll(t, tt.nstart, tt.tags, 8, tt.size, faultnet.Faults{}, faultnet.Faults{}, far); took != time.Duration(tt.trips)*trip {
				t.Errorf("8 bodies took %v, want %d round trips, %v", took, tt.trips, time.Duration(tt.trips)*trip)
			}
			far.holds(t, 8, tt.size)
		})
	}
}

// TestNStartMatrix: whatever the network does, each body arrives once, and whole. Four
// datagrams are lost at most, which no message is given up for, whichever they are.
func TestNStartMatrix(t *testing.T) {
	for _, tags := range []bool{false, true} {
		for _, lost := range [][]int{nil, {1, 2, 3, 4}, {4, 9, 12, 13}, {2, 20, 40, 60}} {
			for _, size := range []int{1000, 8 << 10} {
				t.Run(fmt.Sprintf("lost %v, %d bytes, tags %v", lost, size, tags), func(t *testing.T) {
					far := newFarEnd()
					faults := faultnet.Faults{DropAt: lost, Duplicate: 0.1, Reorder: 0.2, Jitter: 500 * time.Millisecond}
					postAll(t, 4, tags, 12, size, faults, faultnet.Faults{}, far)
					far.holds(t, 12, size)
					far = newFarEnd()
					postAll(t, 4, tags, 12, size, faultnet.Faults{}, faults, far)
					far.holds(t, 12, size)
				})
			}
		}
	}
}

// TestNStartGivesWay: once a message has to be repeated one is on its way at a time,
// until messages go through again. Never are more on their way than configured.
func TestNStartGivesWay(t *testing.T) {
	r := newReliable(rand.New(rand.NewPCG(1, 4)))
	r.nstart, r.open = 4, 4
	now := time.Unix(0, 0)
	for range 20 {
		r.confirm(now, &message{code: methodPost})
	}
	answer := func(o *outgoing) {
		var m message
		r.receive(now, appendUDP(&message{kind: acknowledgement, id: o.msg.id}), &m)
	}
	if len(r.active) != 4 {
		t.Fatalf("%d on their way, want 4", len(r.active))
	}
	answer(r.active[0])
	now = r.wake(now)
	r.tick(now)
	repeated := slices.IndexFunc(r.active, func(o *outgoing) bool { return o.repeated > 0 })
	if repeated < 0 || r.open != 1 {
		t.Fatalf("after a repetition %d may be on their way", r.open)
	}
	answer(r.active[repeated])
	if len(r.active) != 3 || r.open != 1 {
		t.Errorf("%d on their way of %d, want nothing in place of a repeated one", len(r.active), r.open)
	}
	for i, want := range []int{2, 3, 4, 4, 4} { // each that needs no repetition makes room for one more
		answer(r.active[0])
		if r.open != want || len(r.active) > r.open {
			t.Errorf("answer %d: %d on their way of %d, want %d", i, len(r.active), r.open, want)
		}
	}
}

// TestNStartOfASession: the configured number holds from the first message on, for
// several bodies of one lane to a hub alone.
func TestNStartOfASession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		nstart int
		acks   bool
		open   int
		tags   bool
	}{
		{"not configured", 0, true, 1, false},
		{"one", 1, true, 1, false},
		{"a hub", 3, true, 3, true},
		{"another server", 4, false, 4, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, far := faultnet.NewPackets(1), newFarEnd()
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { _ = ServeUDP(p.B).serve(ctx, far.srv) })
				tr, err := New(uplink.LinkConfig{URL: "coap://x", NStart: tt.nstart}, Options{
					Device: "gw", Acks: tt.acks, Dial: func(context.Context, string, string) (net.Conn, error) { return p.A, nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				_ = tr.Session(ctx, newNoted(), func(_ context.Context, s uplink.Session) {
					c := s.(*session).conn
					c.mu.Lock()
					defer c.mu.Unlock()
					if c.udp.open != tt.open || c.udp.nstart != tt.open || c.caller.tags != tt.tags {
						t.Errorf("%d of %d at once, tags %v; want %d, tags %v", c.udp.open, c.udp.nstart, c.caller.tags, tt.open, tt.tags)
					}
					cancel()
				})
				wg.Wait()
			})
		})
	}
}
