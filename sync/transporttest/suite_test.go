package transporttest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/edgeagent/edgeagent/sync/transporttest"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// pipe is the smallest transport there is: it must pass the suite, and the suite
// must run to the end without a network.
type pipe struct {
	mu       sync.Mutex
	arrived  []transporttest.Arrival
	down     bool
	refuse   bool
	withhold bool
	cut      context.CancelCauseFunc
	acks     chan []byte
}

var errCut = errors.New("cut")

func (p *pipe) String() string { return "pipe://memory" }

func (p *pipe) Session(ctx context.Context, h uplink.Handler, start func(context.Context, uplink.Session)) error {
	up, end := context.WithCancelCause(ctx)
	defer end(nil)
	p.mu.Lock()
	down, refuse := p.down, p.refuse
	p.cut = end
	p.mu.Unlock()
	switch {
	case down:
		return errCut
	case refuse:
		return uplink.Refused("no", "change destinations[].links[].username")
	}
	h.Up(uplink.Caps{})
	s := &pipeSession{p, make(chan uint64, 64)}
	var wg sync.WaitGroup
	wg.Go(func() { start(up, s) })
	for up.Err() == nil {
		select {
		case id := <-s.results:
			h.Result(uplink.Result{ID: id})
		case a := <-p.acks:
			h.Ack(a)
		case <-up.Done():
		}
	}
	wg.Wait()
	return context.Cause(up)
}

type pipeSession struct {
	p       *pipe
	results chan uint64
}

func (s *pipeSession) Send(ctx context.Context, m uplink.Message) error {
	s.p.mu.Lock()
	s.p.arrived = append(s.p.arrived, transporttest.Arrival{Lane: m.Lane, Payload: string(m.Payload)})
	withhold := s.p.withhold
	s.p.mu.Unlock()
	if withhold {
		return ctx.Err()
	}
	select {
	case s.results <- m.ID:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func openPipe(*testing.T) transporttest.Link {
	p := &pipe{acks: make(chan []byte, 1)}
	return transporttest.Link{
		Transport: p,
		Arrived: func() (out []transporttest.Arrival) {
			p.set(func() { out = append(out, p.arrived...) })
			return out
		},
		Ack: func(b []byte) { p.acks <- b },
		Cut: func() {
			p.set(func() {
				p.down = true
				if p.cut != nil {
					p.cut(errCut)
				}
			})
		},
		Restore:  func() { p.set(func() { p.down = false }) },
		Refuse:   func(r bool) { p.set(func() { p.refuse = r }) },
		Withhold: func() { p.set(func() { p.withhold = true }) },
	}
}

func TestSuite(t *testing.T) { transporttest.Run(t, openPipe) }

// A transport's own test is one line; the far end is what takes the work.
func ExampleRun() {
	var t *testing.T // of TestConformance(t *testing.T)
	run := func() { transporttest.Run(t, openPipe) }
	_ = run
	// Output:
}
