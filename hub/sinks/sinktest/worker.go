package sinktest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/hub"
)

// worker is a hub at work on a sink.
type worker struct {
	hub    *hub.Hub
	in     *input
	opened Opened
	stop   context.CancelFunc
	done   sync.WaitGroup
	err    error
	gate   atomic.Pointer[gate]
	arm    func()       // called before the gate opens
	most   atomic.Int64 // cuts in one commit of the store
}

// begin opens the sink and runs a hub on it. With a bomb it may die.
func begin(ctx context.Context, c Config, b *bomb) (*worker, error) {
	opened, err := c.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	w := &worker{opened: opened, stop: stop, in: &input{messages: make(chan hub.Delivery), barrier: make(chan struct{})}}
	o := hub.Options{Store: opened.Store, Sink: opened.Sink, Replay: hub.ReplayOff, Shared: c.Shared}
	if b != nil {
		b.kill = stop
		if opened.Store != nil {
			o.Store = bombedStore{opened.Store, b}
		}
		if opened.Sink != nil {
			o.Sink = bombedSink{opened.Sink, b}
		}
	}
	if o.Store != nil {
		o.Store = gatedStore{o.Store, w}
	}
	if w.hub, err = hub.New(o); err != nil {
		stop()
		return nil, errors.Join(err, opened.Close())
	}
	w.in.ctx = ctx
	w.done.Go(func() {
		if err := w.hub.Run(ctx, w.in); err != nil {
			w.in.fail(err)
		}
	})
	return w, nil
}

// give hands over a message and waits until it is acknowledged, or the hub is dead.
func (w *worker) give(a *agent, payload []byte) { w.await(w.send(message{a, payload})) }

// send hands over a message; the channel is closed when it is acknowledged.
func (w *worker) send(m message) (acked <-chan struct{}) {
	c := make(chan struct{})
	select {
	case w.in.messages <- hub.Delivery{Topic: m.from.topic(), Payload: m.payload, Ack: func() { close(c) }}:
	case <-w.in.ctx.Done():
	}
	return c
}

// await waits for acknowledgements, or until the hub is dead.
func (w *worker) await(acks ...<-chan struct{}) {
	for _, acked := range acks {
		select {
		case <-acked:
		case <-w.in.ctx.Done():
			return
		}
	}
}

func (w *worker) fail(err error) { w.err = errors.Join(w.err, err) }

// end stops the hub and closes the sink.
func (w *worker) end() {
	w.stop()
	w.done.Wait()
	w.fail(w.in.err)
	if err := w.opened.Close(); err != nil {
		w.fail(fmt.Errorf("close: %w", err))
	}
}

// input hands over what a check gives it.
type input struct {
	ctx      context.Context //nolint:containedctx // of the hub's life
	messages chan hub.Delivery
	barrier  chan struct{} // passed between two messages

	mu  sync.Mutex // guards what follows
	err error
}

// Run implements [hub.Input].
func (in *input) Run(ctx context.Context, handle func(hub.Delivery)) error {
	for {
		select {
		case d := <-in.messages:
			handle(d)
		case <-in.barrier:
		case <-ctx.Done():
			return nil
		}
	}
}

// Publish implements [hub.Input]: an ack must be one that an agent can read.
func (in *input) Publish(_ context.Context, _ string, payload []byte) error {
	if _, err := edgeagent.ParseAck(payload); err != nil {
		in.fail(err)
	}
	return nil
}

func (in *input) fail(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.err = errors.Join(in.err, err)
}

type bombedStore struct {
	hub.Store
	b *bomb
}

func (s bombedStore) Commit(ctx context.Context, changes []hub.Change) error {
	return s.b.call(func() error { return s.Store.Commit(context.WithoutCancel(ctx), changes) })
}

type bombedSink struct {
	hub.Sink
	b *bomb
}

func (s bombedSink) Commit(ctx context.Context, cut hub.Cut) error {
	return s.b.call(func() error { return s.Sink.Commit(context.WithoutCancel(ctx), cut) })
}

// histories: messages of several agents and epochs in random order and cuts, with deaths
// at random calls, until everything has come.
func histories(ctx context.Context, c Config) error {
	count := c.Scenarios
	if count == 0 {
		count = 10
	}
	for seed := range uint64(count) {
		if err := c.Clear(ctx); err != nil {
			return err
		}
		if err := history(ctx, c, seed); err != nil {
			return fmt.Errorf("history %d: %w", seed, err)
		}
	}
	return nil
}

func history(ctx context.Context, c Config, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 7))
	agents := []*agent{{device: "gw-1", epoch: 0x9f02}, {device: "gw-1", epoch: 3}, {device: "gw ü", epoch: math.MaxUint64}}
	var want []hub.Stored
	var last []func(w *worker)
	for _, a := range agents {
		for _, s := range streams {
			want = append(want, a.want(s, rng(1, n), 0)...)
			last = append(last, func(w *worker) { w.give(a, a.records(s, rng(1, n))) })
		}
		last = append(last, func(w *worker) { w.give(a, a.names()) })
	}
	deaths := 0
	for range 6 {
		b := &bomb{at: int64(r.IntN(12)), after: r.IntN(2) == 0}
		w, err := begin(ctx, c, b)
		if err != nil {
			return err
		}
		for range 8 {
			a, from := agents[r.IntN(len(agents))], edgeagent.Seq(1+r.IntN(n))
			to := min(n, from+edgeagent.Seq(r.IntN(60)))
			switch r.IntN(6) {
			case 0:
				w.give(a, a.names())
			default:
				w.give(a, a.records(streams[r.IntN(len(streams))], rng(from, to)))
			}
		}
		if b.gone.Load() {
			deaths++
		}
		w.end()
		if w.err != nil {
			return w.err
		}
	}
	w, err := begin(ctx, c, nil)
	if err != nil {
		return err
	}
	r.Shuffle(len(last), func(i, j int) { last[i], last[j] = last[j], last[i] })
	for _, f := range last {
		f(w)
	}
	w.end()
	return errors.Join(w.err, compare(ctx, c, want, deaths == 0))
}

// workers: two hubs on one store take overlapping cuts of the same streams at once.
func workers(ctx context.Context, c Config) error {
	a := &agent{device: "gw-1", epoch: 0x9f02}
	var list []*worker
	for range 3 {
		w, err := begin(ctx, c, nil)
		if err != nil {
			return err
		}
		defer w.end()
		list = append(list, w)
	}
	list[0].give(a, a.names())
	var wg sync.WaitGroup
	for i, w := range list {
		b := &agent{device: a.device, epoch: a.epoch} // an encoder of its own
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 9))
			for range 10 { // three at a time, so that several go into one commit
				var acks []<-chan struct{}
				for range 3 {
					from := edgeagent.Seq(1 + r.IntN(n))
					msg := b.records(streams[r.IntN(len(streams))], rng(from, min(n, from+edgeagent.Seq(r.IntN(40)))))
					acks = append(acks, w.send(message{b, msg}))
				}
				w.await(acks...)
			}
			for _, s := range streams {
				w.give(b, b.records(s, rng(1, n)))
			}
		})
	}
	wg.Wait()
	var want []hub.Stored
	for _, s := range streams {
		want = append(want, a.want(s, rng(1, n), 0)...)
	}
	var errs []error
	for _, w := range list {
		errs = append(errs, w.err)
	}
	return errors.Join(append(errs, compare(ctx, c, want, true))...)
}

// Key is everything that is known of a record.
func Key(x hub.Stored) string {
	head := fmt.Sprintf("%s/%s/%s/%s unsynced=%v ", x.Tenant, x.Device, x.Epoch, x.Stream, x.Unsynced)
	switch {
	case x.Rollup != nil:
		r := x.Rollup
		return head + fmt.Sprint(r.Seq, r.Series.Key(), r.At.Wall, r.Bucket, r.Count, r.Sum, r.Min, r.Max, r.First, r.Last)
	case x.Event != nil:
		e := x.Event
		return head + fmt.Sprint(e.Seq, e.At.Wall, e.Kind, e.Severity, e.ID, e.N, e.Series, e.Text, e.Attrs, len(e.Data))
	}
	r := x.Row
	return head + fmt.Sprint(r.Seq, r.Series.Key(), r.Time, math.Float64bits(r.Value), r.Quality)
}

// compare holds what the sink has against what it should have. What is promised at least
// once may be there more often, if there was a crash.
func compare(ctx context.Context, c Config, want []hub.Stored, calm bool) error {
	got, err := c.Read(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	key := c.Key
	if key == nil {
		key = Key
	}
	counts := map[string]int{}
	for _, x := range want {
		counts[key(x)] = 0
	}
	foreign := []string{}
	for _, x := range got {
		k := key(x)
		if _, ok := counts[k]; !ok {
			foreign = append(foreign, k)
			continue
		}
		counts[k]++
	}
	var missing, twice []string
	for k, n := range counts {
		if n == 0 {
			missing = append(missing, k)
		}
		if n > 1 && (c.Guarantee == ExactlyOnce || calm) {
			twice = append(twice, k)
		}
	}
	if len(missing)+len(twice)+len(foreign) == 0 {
		return nil
	}
	return fmt.Errorf("of %d records %d are missing, %d are there more than once, %d should not be there\nmissing %s\ntwice %s\nforeign %s",
		len(want), len(missing), len(twice), len(foreign), some(missing), some(twice), some(foreign))
}

func some(list []string) string {
	sort.Strings(list)
	return strings.Join(slices.Clone(list[:min(len(list), 3)]), "\n        ")
}
