package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
)

// Options configure a hub.
type Options struct {
	// Name is how end-to-end acks are signed; agents hold it against their
	// receiver option. Default "hub".
	Name string
	// Sink takes the records. Without one they go to Store.
	Sink Sink
	// Store keeps what the hub must not forget, and the records if there is no Sink.
	// Without one the hub forgets everything when it ends. One of the two is required.
	Store Store
	// Shared: other hubs work on the same Store at the same time. It must refuse what
	// is stale, and keep the records.
	Shared bool
	// AckEvery is the least time between two acks to one device. Default 200 ms.
	AckEvery time.Duration
	// Replay says what agents are asked to send again. Default [ReplayNew].
	Replay ReplayPolicy
	// ReplayAfter is how long a number may take to arrive before it is asked for.
	// Default 30 s.
	ReplayAfter time.Duration
	// Now is the wall time for statistics and for [Cut.Received]. Default
	// [time.Now].
	Now func() time.Time
	// Logger gets refusals and changes of the sink's state; default none.
	Logger *slog.Logger
}

// Delivery is one message and the transport's acknowledgement of it. It is the
// same type as the Delivery of the receivers in sync, so neither side imports
// the other.
type Delivery = struct {
	Topic   string
	Payload []byte
	Ack     func()
}

// Input brings messages and takes acks back. Run calls its function from one
// goroutine at a time until ctx ends; the function may block. It may also return before
// the message is dealt with: Ack is called from another goroutine, and the payload must
// not change until then. What is not acknowledged comes again.
type Input interface {
	Run(ctx context.Context, handle func(Delivery)) error
	Publish(ctx context.Context, topic string, payload []byte) error
}

// Hub receives. Create one with [New].
type Hub struct {
	opts  Options
	store Store
	log   *slog.Logger
	lim   limits

	// worker holds one word: whoever has taken it decodes and commits, and may
	// use what stands below it.
	worker chan struct{}
	group  group
	dec    block.Decoder
	raw    []block.Row
	rows   []Row
	folded []block.RollupRow
	rolls  []Rollup
	plain  []edgeagent.Event
	events []Event
	// restored: the quarantine of an earlier life has been taken over.
	restored bool

	mu      sync.Mutex // guards what follows; never held during a commit
	devices map[deviceKey]*device
	runs    map[*acker]*inbox // one for each
	kept    *quarantine
	ranges  int // spans of all streams
	series  int // names of all epochs
	count   counters
}

// New returns a hub that has received nothing.
func New(o Options) (*Hub, error) {
	switch {
	case o.Sink == nil && o.Store == nil:
		return nil, errors.New("hub: no sink")
	case o.Shared && (o.Sink != nil || o.Store == nil):
		return nil, errors.New("hub: several workers need a store that keeps the records")
	case o.Store == nil:
		o.Store = forgetful{}
	}
	if o.Name == "" {
		o.Name = "hub"
	}
	if o.AckEvery <= 0 {
		o.AckEvery = 200 * time.Millisecond
	}
	if o.ReplayAfter <= 0 {
		o.ReplayAfter = replayAfter
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lim := defaultLimits()
	h := &Hub{
		opts: o, store: o.Store, log: o.Logger, lim: lim,
		worker:  make(chan struct{}, 1),
		devices: map[deviceKey]*device{},
		runs:    map[*acker]*inbox{},
		group:   group{byHome: map[*stream]*planned{}},
		kept:    newQuarantine(lim.tenantSpace, lim.allQuarantine),
	}
	return h, nil
}

// Run receives from in and acknowledges through it until ctx ends, and returns
// nil then. Several Runs with different inputs may go on at once. If in ends by itself,
// what it has handed over is dealt with first.
func (h *Hub) Run(ctx context.Context, in Input) error {
	a, q := newAcker(h.opts.AckEvery), newInbox()
	h.mu.Lock()
	h.runs[a] = q
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.runs, a)
	}()
	g, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	g.Go(func() error {
		defer q.close()
		return in.Run(ctx, func(d Delivery) { q.put(ctx, d) })
	})
	g.Go(func() error {
		defer stop()
		h.work(ctx, q, a)
		return nil
	})
	g.Go(func() error { a.run(ctx, h, in); return nil })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("hub: %w", err)
	}
	return nil
}

// work deals with what arrives, all that has arrived at a time, until nothing more comes or
// ctx ends.
func (h *Hub) work(ctx context.Context, q *inbox, a *acker) {
	var list []Delivery
	for {
		if list = q.take(ctx, list); len(list) == 0 {
			return
		}
		rest := h.handle(ctx, list, a)
		for i := range rest { // one that is not dealt with although ctx goes on must not keep back the others
			if ctx.Err() != nil {
				return
			}
			h.handle(ctx, rest[i:i+1], a)
		}
	}
}

// arrive counts a message and finds its device.
func (h *Hub) arrive(topic string, size int) *device {
	key, ok := parseTopic(topic)
	now := h.opts.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.messages++
	h.count.bytes += uint64(size)
	if !ok {
		h.count.badTopics++
		return nil
	}
	d := h.device(key)
	if d != nil {
		d.seen, d.spoke = now, time.Now()
	}
	return d
}

// device returns the state of a device, making it if there is room; h.mu is held.
func (h *Hub) device(key deviceKey) *device {
	d := h.devices[key]
	if d != nil {
		return d
	}
	if len(h.devices) >= h.lim.devices {
		h.refuse("too many devices", key)
		return nil
	}
	d = &device{key: key}
	h.devices[key] = d
	return d
}

// refuse counts what is over a bound; h.mu is held. The first refusal is logged,
// and each thousandth: a message that can repeat must not fill the log.
func (h *Hub) refuse(why string, key deviceKey) {
	if h.count.refused%1000 == 0 {
		h.log.Warn("refused", "reason", why, "tenant", key.tenant, "device", key.device, "refused", h.count.refused+1)
	}
	h.count.refused++
}

func causeOf(err error) Cause {
	var unsupported *block.UnsupportedError
	if errors.Is(err, block.ErrNotBlock) || errors.As(err, &unsupported) {
		return CauseFormat
	}
	return CausePoison
}

// block plans one block, or does what cannot be planned. It returns the epoch it speaks
// of, if any, and false when ctx ended.
func (h *Hub) block(ctx context.Context, dev *device, blk []byte) (*epoch, bool) {
	hdr, err := block.Check(blk)
	if err != nil {
		return nil, h.quarantine(ctx, dev, causeOf(err), block.Header{}, blk)
	}
	switch hdr.Kind {
	case block.KindSeries:
		return h.define(ctx, dev, blk)
	case block.KindMarks:
		return h.marks(ctx, dev, blk)
	case block.KindReadings, block.KindRollup, block.KindEvents:
		if !hdr.Stream.Valid() { // readings of a capture have no number
			return nil, h.quarantine(ctx, dev, CausePoison, hdr, blk)
		}
	default:
		return nil, h.quarantine(ctx, dev, CauseFormat, hdr, blk)
	}
	ep := h.reach(ctx, dev, hdr.Epoch)
	if ep == nil || h.clashes(ep, hdr.Stream) && !h.flush(ctx) {
		return nil, false
	}
	if h.stage(dev, ep, hdr, blk) {
		return ep, true
	}
	return ep, h.flush(ctx) && h.recordsAlone(ctx, dev, ep, hdr, blk)
}

// reach returns an epoch as open does. If it has to be loaded, what is planned is stored
// first, because another epoch may have to make room.
func (h *Hub) reach(ctx context.Context, dev *device, id edgeagent.Epoch) *epoch {
	h.mu.Lock()
	known := dev.find(id) != nil
	h.mu.Unlock()
	if !known && !h.flush(ctx) {
		return nil
	}
	return h.open(ctx, dev, id)
}

// recordsAlone stores a block while nothing is planned. It returns false if ctx ended.
func (h *Hub) recordsAlone(ctx context.Context, dev *device, ep *epoch, hdr block.Header, blk []byte) bool {
	out := h.records(ctx, dev, ep, hdr, blk)
	if out == nameless && h.opts.Shared && h.reload(ctx, dev, ep, true) { // another worker may know them
		out = h.records(ctx, dev, ep, hdr, blk)
	}
	if out == nameless && !h.wait(ctx, dev, ep, hdr, blk) {
		out = unfinished
	}
	return out != unfinished
}

// forget drops the epoch of dev that was seen longest ago; h.mu is held. An agent
// keeps eight old epochs at most, so nothing of it is expected to come again.
func (h *Hub) forget(dev *device) {
	h.close(dev, slices.MinFunc(dev.epochs, func(a, b *epoch) int { return a.seen.Compare(b.seen) }))
	h.count.forgotten++
}

// close takes an epoch out of memory; h.mu is held.
func (h *Hub) close(dev *device, ep *epoch) {
	for _, e := range ep.waiting {
		h.kept.remove(e)
	}
	for _, s := range ep.streams {
		if s != nil {
			h.ranges -= len(s.runs)
		}
	}
	h.series -= ep.names.count
	dev.epochs = slices.DeleteFunc(dev.epochs, func(e *epoch) bool { return e == ep })
}
