package uplink

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// gateway is one engine of a fleet: no goroutine, no clock of its own.
type gateway struct {
	*fleet
	e     *engine
	clock *handClock
	log   *memLog
	next  time.Duration
	index int
	up    bool
	tries bool // a connection was asked for
}

// fleet is many gateways before one server, in virtual time.
type fleet struct {
	now   time.Duration
	there bool            // the server
	dials []time.Duration // when anybody tried to connect
}

func (g *gateway) connect(context.Context) {
	g.tries = true
	g.dials = append(g.dials, g.now)
}
func (g *gateway) hangUp()      { g.tries, g.up = false, false; g.e.m.connectionEnded(g.now, nil) }
func (g *gateway) send(Message) { panic("nothing is stored") }

// run lets one gateway do what it can do now, and notes when it wants to be asked
// again.
func (g *gateway) run(t *testing.T) {
	g.clock.run = g.now
	for range 100 {
		if g.tries {
			g.tries = false
			if g.there {
				g.up = true
				g.e.m.connectionUp(g.now, Caps{})
			} else {
				g.e.m.connectionEnded(g.now, errors.New("connection refused"))
			}
		}
		wait, _ := g.e.step(t.Context())
		if wait > 0 {
			g.next = g.now + min(wait, 1000*time.Hour)
			return
		}
	}
	t.Fatal("the engine never rests")
}

type byNext []*gateway

func (q byNext) Len() int           { return len(q) }
func (q byNext) Less(i, j int) bool { return q[i].next < q[j].next }
func (q byNext) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *byNext) Push(any)          { panic("fixed") }
func (q *byNext) Pop() any          { panic("fixed") }

// peak returns the most events within a second, and from the first to the last.
func peak(at []time.Duration) (most int, span time.Duration) {
	at = slices.Sorted(slices.Values(at))
	for i, j := 0, 0; i < len(at); i++ {
		for at[i]-at[j] >= time.Second {
			j++
		}
		most = max(most, i-j+1)
	}
	return most, at[len(at)-1] - at[0]
}

// storm lets gateways lose a session that was well, with the server back after an
// outage, and returns the attempts to connect from then on.
func storm(t *testing.T, n int, cfg Config, hint string, outage time.Duration, seed uint64) []time.Duration {
	f := &fleet{there: true}
	queue := make(byNext, n)
	for i := range queue {
		g := &gateway{fleet: f, clock: &handClock{}, log: newLog(), index: i}
		g.e = newEngine(cfg.WithDefaults(), g.log, newFeed(g.log, nil, ""), g, g.clock, slog.New(slog.DiscardHandler), rand.New(rand.NewPCG(seed, uint64(i))))
		if hint != "" {
			g.e.hint([]byte(hint))
		}
		queue[i] = g
		g.run(t)
	}
	heap.Init(&queue)
	advance := func(until time.Duration) {
		for queue[0].next <= until {
			g := queue[0]
			f.now = g.next
			g.run(t)
			heap.Fix(&queue, g.index)
		}
		f.now = until
	}
	advance(2 * time.Minute)
	f.there, f.dials = outage == 0, nil
	for _, g := range queue {
		g.e.m.accepts = 1 // it was worth the name
		g.up = false
		g.e.m.connectionEnded(f.now, errDied)
		g.run(t)
	}
	heap.Init(&queue)
	if outage > 0 {
		advance(f.now + outage)
		f.there, f.dials = true, nil
	}
	advance(f.now + time.Hour)
	for _, g := range queue {
		if !g.up {
			t.Errorf("a gateway is not back after an hour")
			break
		}
	}
	return f.dials
}

// F14: a broker restarts under 5,000 gateways. They must not all come at once.
func TestF14ReconnectStorm(t *testing.T) {
	const n = 5000
	for _, tt := range []struct {
		name   string
		spread time.Duration
		hint   string
		outage time.Duration
		most   float64 // connects a second
	}{
		{"default spread of 5 s", 0, "", 0, 2 * n / 5},
		{"spread of 60 s", time.Minute, "", 0, 2 * n / 60.0},
		{"the server asks for 300 s", 0, `{"reconnect_spread_s":300}`, 0, 2 * n / 300.0},
		{"after an hour without it", 0, "", time.Hour, 2 * n / 60.0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := blockConfig()
			cfg.Reconnect.Spread = tt.spread
			dials := storm(t, n, cfg, tt.hint, tt.outage, 1)
			most, span := peak(dials)
			if len(dials) != n {
				t.Errorf("%d attempts of %d gateways", len(dials), n)
			}
			t.Logf("at most %d connects in a second, %d in %v", most, len(dials), span.Round(time.Second))
			if float64(most) > math.Ceil(tt.most) {
				t.Errorf("%d connects in a second, want at most %.0f", most, tt.most)
			}
		})
	}
}

// The negative control: without a spread they do come at once.
func TestF14WithoutSpread(t *testing.T) {
	cfg := blockConfig()
	cfg.Reconnect = ReconnectConfig{Base: time.Second, Spread: time.Nanosecond}
	if most, _ := peak(storm(t, 500, cfg, "", 0, 1)); most != 500 {
		t.Errorf("%d of 500 gateways in a second: this test cannot fail", most)
	}
}

var _ link = (*gateway)(nil)
