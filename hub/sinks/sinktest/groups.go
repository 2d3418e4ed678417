package sinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
)

// gate holds a commit up while messages arrive, so that they go into the next one.
type gate struct {
	entered chan struct{} // a commit waits
	open    chan struct{}
}

// gatedStore is a store whose commits wait at the worker's gate, if there is one.
type gatedStore struct {
	hub.Store
	w *worker
}

func (s gatedStore) Commit(ctx context.Context, changes []hub.Change) error {
	cuts := int64(0)
	for _, c := range changes {
		if c.Cut != nil || c.Pending != nil {
			cuts++
		}
	}
	s.w.most.Store(max(s.w.most.Load(), cuts))
	if g := s.w.gate.Load(); g != nil {
		select {
		case g.entered <- struct{}{}:
		default:
		}
		select {
		case <-g.open:
		case <-ctx.Done():
		}
	}
	return s.Store.Commit(ctx, changes)
}

// message is what an agent sends.
type message struct {
	from    *agent
	payload []byte
}

// together hands over messages that arrive while the hub is busy with one of first, and
// waits until all are acknowledged or the hub is dead.
func (w *worker) together(first message, list ...message) {
	g := &gate{entered: make(chan struct{}, 1), open: make(chan struct{})}
	w.gate.Store(g)
	acks := []<-chan struct{}{w.send(first)}
	select {
	case <-g.entered:
	case <-w.in.ctx.Done():
	}
	for _, m := range list {
		acks = append(acks, w.send(m))
	}
	select {
	case w.in.barrier <- struct{}{}: // the last one has been taken, too
	case <-w.in.ctx.Done():
	}
	w.gate.Store(nil)
	if w.arm != nil {
		w.arm()
	}
	close(g.open)
	w.await(acks...)
}

// crowd is some agents whose messages come together, and one that comes first.
type crowd struct {
	starter *agent
	started edgeagent.Seq
	agents  []*agent
}

func newCrowd() *crowd {
	c := &crowd{starter: &agent{device: "starter", epoch: 1}}
	for i := range 3 {
		c.agents = append(c.agents, &agent{device: fmt.Sprintf("gw-%d", i), epoch: edgeagent.Epoch(0x9f02 + i)})
	}
	return c
}

// first is a message that has never been there.
func (c *crowd) first() message {
	c.started++
	return message{c.starter, c.starter.records(edgeagent.StreamAlarm, rng(c.started, c.started))}
}

func (c *crowd) names() (out []message) {
	for _, a := range c.agents {
		out = append(out, message{a, a.names()})
	}
	return out
}

// records is a message of each agent and stream; several in one where with is more.
func (c *crowd) records(ranges ...edgeagent.Range) (out []message) {
	for _, a := range c.agents {
		for _, s := range streams {
			var payload []byte
			for _, r := range ranges {
				payload = append(payload, a.records(s, r)...)
			}
			out = append(out, message{a, payload})
		}
	}
	return out
}

// of is how many records of a stream a crowd has: few, because sinks that sync each cut
// take their time.
const of = 40

// all makes sure of everything, at the end.
func (c *crowd) all(w *worker) (want []hub.Stored) {
	w.together(c.first(), c.names()...)
	w.together(c.first(), c.records(rng(1, of))...)
	w.give(c.starter, c.starter.records(edgeagent.StreamAlarm, rng(1, c.started)))
	want = c.starter.want(edgeagent.StreamAlarm, rng(1, c.started), 0)
	for _, a := range c.agents {
		for _, s := range streams {
			want = append(want, a.want(s, rng(1, of), 0)...)
		}
	}
	return want
}

// groups: what arrives together is stored together, each record once, whatever else comes
// with it: overlaps, repeats, conflicts, blocks that wait for their names, marks, and what
// is no block.
func groups(ctx context.Context, c Config) error {
	for name, b := range map[string]*bomb{"calm": nil, "with answers that are lost": {every: 5}} {
		if err := c.Clear(ctx); err != nil {
			return err
		}
		if err := group(ctx, c, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func group(ctx context.Context, c Config, b *bomb) error {
	w, err := begin(ctx, c, b)
	if err != nil {
		return err
	}
	crowd := newCrowd()
	a, last := crowd.agents[0], crowd.agents[2]
	w.together(crowd.first(), crowd.names()[:2]...)
	odd := []message{
		{a, []byte("temperature value=21")},
		{a, a.block(nil, edgeagent.StreamAlarm, rng(12, 16), 99)}, // the buffer has gone back in time
		{a, a.marks(block.Marks{Streams: map[edgeagent.Stream]block.MarkStream{
			edgeagent.StreamAlarm:     {Low: 1, Next: of + 1},
			edgeagent.StreamTelemetry: {Low: 1, Next: of + 1, Gaps: []block.Gap{{From: 35, To: 37, Reason: "evicted", AtMost: 3}}},
		}})},
		{last, append(last.names(), last.records(edgeagent.StreamTelemetry, rng(22, 28))...)},
	}
	w.together(crowd.first(), slices.Concat(crowd.records(rng(10, 20)), odd, crowd.records(rng(5, 12), rng(30, 33)), crowd.records(rng(10, 20)))...)
	if w.most.Load() < 4 {
		w.fail(fmt.Errorf("at most %d cuts in a commit: the check proves nothing", w.most.Load()))
	}
	for _, s := range w.hub.Stats().Devices {
		for _, e := range s.Epochs {
			if s.Device == a.device && (len(e.Streams) == 0 || e.Streams[0].Conflicts == 0) {
				w.fail(fmt.Errorf("the conflict was not seen: %+v", e.Streams))
			}
		}
	}
	want := crowd.all(w)
	w.end()
	return errors.Join(w.err, compare(ctx, c, want, b == nil))
}

// groupCrashes: the hub dies before or after the k-th call that a group makes, for every k
// until none is left.
func groupCrashes(ctx context.Context, c Config) error {
	for k := int64(1); k < 1000; k++ {
		for _, after := range []bool{false, true} {
			if err := c.Clear(ctx); err != nil {
				return err
			}
			died, err := groupCrash(ctx, c, k, after)
			if err != nil {
				return fmt.Errorf("crash at call %d, after it: %v: %w", k, after, err)
			}
			if !died {
				if k == 1 {
					return errors.New("a group makes no calls: the check proves nothing")
				}
				return nil
			}
		}
	}
	return errors.New("more than 1,000 calls")
}

func groupCrash(ctx context.Context, c Config, k int64, after bool) (died bool, err error) {
	crowd := newCrowd()
	crowd.agents = crowd.agents[:2]
	b := &bomb{after: after}
	w, err := begin(ctx, c, b)
	if err != nil {
		return false, err
	}
	w.together(crowd.first(), crowd.names()...)
	firsts := int64(1) // calls for the message that comes first
	if w.opened.Sink != nil {
		firsts = 3
	}
	w.arm = func() { b.at = b.calls.Load() + firsts + k }
	w.together(crowd.first(), slices.Concat(crowd.records(rng(1, 20)), crowd.records(rng(15, 30))[:1])...)
	w.end()
	if w.err != nil {
		return b.gone.Load(), w.err
	}
	// The agents have cut their buffers otherwise meanwhile.
	if w, err = begin(ctx, c, nil); err != nil {
		return false, err
	}
	w.together(crowd.first(), crowd.records(rng(10, 35))...)
	want := crowd.all(w)
	w.end()
	return b.gone.Load(), errors.Join(w.err, compare(ctx, c, want, !b.gone.Load()))
}
