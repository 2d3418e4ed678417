package coap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/faultnet"
)

func keyOf(string) []byte { return []byte("secret") }

// secureLink is a client's end with a pre-shared key, over a pipe.
func secureLink(dial DialFunc) *link {
	u, _ := url.Parse("coaps://hub:5684")
	return &link{url: u, identity: "gw-7", key: edgeagent.NewSecret("secret"), dial: dial, now: time.Now}
}

// TestF09NATRebinding: a client whose NAT gives it another address goes on at once with
// a connection id; without one it is not known any more, and a new session helps.
func TestF09NATRebinding(t *testing.T) {
	for _, without := range []bool{false, true} {
		t.Run(fmt.Sprintf("without connection id %v", without), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, far := faultnet.NewPackets(1), newFarEnd()
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				defer wg.Wait()
				defer cancel()
				l, err := ServeDTLS(p.B, DTLSConfig{PSK: keyOf, NoConnectionID: without})
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { _ = l.serve(ctx, far.srv) })
				c, err := secureLink(func(context.Context, string, string) (net.Conn, error) { return p.A, nil }).connect(ctx)
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { _ = c.run(ctx) })
				post(t, c, []byte("before"))
				p.Rebind("elsewhere")
				if !without {
					_, took := post(t, c, pattern(5000))
					far.mustHold(t, []byte("before"), pattern(5000))
					if took > time.Second {
						t.Errorf("took %v", took)
					}
					if far.srv.stats.handshakes.Load() != 1 {
						t.Error("it shook hands again")
					}
					return
				}
				if _, err := c.call(ctx, &request{Method: methodPost, Path: []string{"x"}, Body: []byte("after")}); !errors.Is(err, errTimeout) {
					t.Errorf("%v, want no answer", err)
				}
				far.mustHold(t, []byte("before"))
			})
		})
	}
}

// TestF10DTLSLoss: handshake and transfer at a loss of 20 % each way.
func TestF10DTLSLoss(t *testing.T) {
	var took []time.Duration
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			p, far := faultnet.NewPackets(seed), newFarEnd()
			p.Set(faultnet.Up, faultnet.Faults{Drop: 0.2})
			p.Set(faultnet.Down, faultnet.Faults{Drop: 0.2})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			l, err := ServeDTLS(p.B, DTLSConfig{PSK: keyOf})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _ = l.serve(ctx, far.srv) })
			began := time.Now()
			var c *conn
			for range 20 { // as the engine does
				c, err = secureLink(func(context.Context, string, string) (net.Conn, error) { return &unclosed{p.A}, nil }).connect(ctx)
				if err == nil {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { _ = c.run(ctx) })
			for range 3 { // a backlog of 10,000 readings is less
				post(t, c, pattern(8<<10))
			}
			far.mustHold(t, pattern(8<<10), pattern(8<<10), pattern(8<<10))
			took = append(took, time.Since(began))
		})
	}
	slices.Sort(took)
	t.Logf("24 KiB over DTLS at 20 %%: median %v, longest %v (virtual)", took[10], took[19])
}

// unclosed is a socket that a failed handshake leaves open: the pipe has but one.
type unclosed struct{ net.Conn }

func (u *unclosed) Close() error { return nil }

// TestDTLSRefuses: another key, no key of that name, and another authority get nowhere.
func TestDTLSRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, far := faultnet.NewPackets(1), newFarEnd()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		l, err := ServeDTLS(p.B, DTLSConfig{PSK: func(identity string) []byte {
			if identity == "gw-7" {
				return []byte("another")
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = l.serve(ctx, far.srv) })
		for _, identity := range []string{"gw-7", "nobody"} {
			s := secureLink(func(context.Context, string, string) (net.Conn, error) { return &unclosed{p.A}, nil })
			s.identity = identity
			_, err := s.connect(ctx)
			var hinter edgeagent.Hinter
			if err == nil || !errors.As(err, &hinter) {
				t.Errorf("%s: %v, want an error with a hint", identity, err)
			}
		}
		if far.srv.stats.peers.Load() != 0 {
			t.Error("somebody got in")
		}
	})
}

// TestManyDTLSClients: 100 clients at once on one listener, 1,000 in soak. What a client
// costs the listener is logged: its own end is beside it, so it is at most half.
func TestManyDTLSClients(t *testing.T) {
	n := soak("SOAK_DTLS", 100)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	far := newFarEnd()
	l, err := ServeDTLS(pc, DTLSConfig{PSK: keyOf})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = l.serve(ctx, far.srv) })
	before := heap()
	began := time.Now()
	conns := make([]*conn, n)
	var shaking sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i := range conns {
		shaking.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			c, err := secureLink(func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
			}).connect(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = c
		})
	}
	shaking.Wait()
	took := time.Since(began)
	if t.Failed() {
		return
	}
	for _, c := range conns {
		wg.Go(func() { _ = c.run(ctx) })
	}
	for i, c := range conns {
		post(t, c, fmt.Appendf(nil, "client %d", i))
	}
	got := far.received()
	slices.SortFunc(got, bytes.Compare)
	if len(slices.CompactFunc(slices.Clone(got), bytes.Equal)) != n {
		t.Errorf("%d messages, want %d", len(got), n)
	}
	if peers := far.srv.stats.peers.Load(); int(peers) != n {
		t.Errorf("the listener knows %d clients, want %d", peers, n)
	}
	t.Logf("%d handshakes in %v, %.0f/s; %.1f KiB of heap a client, both ends", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), float64(heap()-before)/float64(n)/1024)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
