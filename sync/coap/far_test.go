package coap

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent/internal/faultnet"
)

// farEnd is a server that keeps what it is sent, and what it is asked for is what was
// put there.
type farEnd struct {
	srv *server

	mu    sync.Mutex
	got   [][]byte
	put   []byte
	reply func(*inbound) // nil: 2.04
}

func newFarEnd() *farEnd {
	f := &farEnd{}
	f.srv = &server{handle: f.handle, szx: largestSZX, gone: func(*peer) {}}
	return f
}

func (f *farEnd) handle(x *inbound) {
	f.mu.Lock()
	reply, put := f.reply, f.put
	if x.code == methodPost && reply == nil {
		f.got = append(f.got, x.body)
	}
	f.mu.Unlock()
	switch {
	case reply != nil:
		reply(x)
	case x.code == methodGet:
		x.content(formatText, put, true)
	default:
		x.reply(&message{code: codeChanged})
	}
}

func (f *farEnd) received() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got
}

// overPackets connects a client to a server through a packet pipe, and runs f.
func overPackets(t *testing.T, p *faultnet.Packets, f *farEnd, with func(*conn)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = ServeUDP(p.B).serve(ctx, f.srv) })
	c := newDatagramConn(p.A, rand.New(rand.NewPCG(1, 2)), 0)
	wg.Go(func() { _ = c.run(ctx) })
	with(c)
	cancel()
	wg.Wait()
}

func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func post(t *testing.T, c *conn, body []byte) (response, time.Duration) {
	t.Helper()
	began := time.Now()
	r, err := c.call(t.Context(), &request{Method: methodPost, Path: []string{"x"}, ContentFormat: formatBlock, Accept: -1, Body: body})
	if err != nil {
		t.Errorf("post of %d bytes: %v", len(body), err)
	}
	return r, time.Since(began)
}

func get(t *testing.T, c *conn, etag []byte) response {
	t.Helper()
	r, err := c.call(t.Context(), &request{Method: methodGet, Path: []string{"x"}, ContentFormat: -1, Accept: -1, ETag: etag})
	if err != nil {
		t.Errorf("get: %v", err)
	}
	return r
}

// mustHold fails unless the server got exactly these bodies.
func (f *farEnd) mustHold(t *testing.T, want ...[]byte) {
	t.Helper()
	got := f.received()
	if len(got) != len(want) {
		t.Errorf("%d bodies arrived, want %d", len(got), len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("body %d arrived with %d bytes, want %d, or changed", i, len(got[i]), len(want[i]))
		}
	}
}
