package main

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// watcher keeps the most memory that was seen.
type watcher struct {
	rss, anon float64
	known     bool
	stop      func()
}

func watchMemory(ctx context.Context) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{}
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			rss, anon, ok := memoryOf()
			w.rss, w.anon, w.known = max(w.rss, rss), max(w.anon, anon), ok
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	w.stop = func() { cancel(); wg.Wait() }
	return w
}

// memory compares an agent that has nothing to send with one that has a backlog: while
// the link is down, and while it drains.
func (b *syncBenchRun) memory(ctx context.Context) (err error) {
	warm := min(b.o.readings, 20_000)
	n := b.o.benchBacklog()
	if b.small, err = b.gateway(ctx, "small", warm+n); err != nil {
		return err
	}
	g := b.small
	if err := g.fill(ctx, warm, benchBatch, 0); err != nil {
		return err
	}
	f, err := b.connect(ctx, g, buffer.StartOldest, edgeagent.Range{From: 1, To: g.filled}, nil)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := f.await(ctx, g, 0); err != nil {
		return err
	}
	before := watchMemory(ctx)
	err = sleep(ctx, b.o.pause)
	before.stop()
	if err != nil {
		return err
	}
	f.stop()
	during := watchMemory(ctx)
	defer during.stop()
	if err := g.fill(ctx, n, benchBatch, benchFillRate); err != nil {
		return err
	}
	if _, err := b.drain(ctx, g, nil, 0, 0); err != nil {
		return err
	}
	during.stop()
	if before.known {
		rss, anon := round(max(0, during.rss-before.rss)), round(max(0, during.anon-before.anon))
		b.report.RSSGrowth, b.report.AnonGrowth = &rss, &anon
	}
	return nil
}

// processor takes readings from memory in batches, over a durable buffer, to the
// broker's acknowledgement, with nothing else going on in this process.
func (b *syncBenchRun) processor(ctx context.Context) (err error) {
	warm, n := min(b.o.readings, 20_000), min(b.o.readings, 4_000_000)
	g, err := b.gateway(ctx, "processor", warm+n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close(context.WithoutCancel(ctx))) }()
	if err := g.fill(ctx, warm, benchBatch, 0); err != nil {
		return err
	}
	f, err := b.connect(ctx, g, buffer.StartOldest, edgeagent.Range{From: 1, To: edgeagent.Seq(warm + n)}, nil)
	if err != nil {
		return err
	}
	defer f.stop()
	for f.seen().readings < uint64(warm) && ctx.Err() == nil {
		if err := f.await(ctx, g, benchLiveEvery); err != nil {
			return err
		}
	}
	before, known := cpuTime()
	if err := g.fill(ctx, n, benchBatch, 0); err != nil {
		return err
	}
	if err := f.await(ctx, g, 0); err != nil {
		return err
	}
	if after, _ := cpuTime(); known {
		s := round((after - before).Seconds() / (float64(n) / 1e6))
		b.report.CPU = &s
	}
	return nil
}

// fill makes the large buffer.
func (b *syncBenchRun) fill(ctx context.Context) (err error) {
	if b.large, err = b.gateway(ctx, "large", b.o.readings); err != nil {
		return err
	}
	return b.large.fill(ctx, b.o.readings, 4096, 0)
}

// baseline measures the delay of live readings when there is nothing else to send.
func (b *syncBenchRun) baseline(ctx context.Context) (err error) {
	b.report.Live, err = b.idle(ctx, b.large, nil)
	return err
}

func (b *syncBenchRun) idle(ctx context.Context, g *benchGateway, dial func() (dial mqtt.DialFunc, stop func())) (live *float64, err error) {
	if b.deaf {
		return nil, nil
	}
	var d mqtt.DialFunc
	if dial != nil {
		var stop func()
		d, stop = dial()
		defer stop()
	}
	defer g.live(ctx)()
	f, err := b.connect(ctx, g, buffer.StartNow, edgeagent.Range{}, d)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	if err := f.await(ctx, g, b.o.after); err != nil { // the first ones do not linger
		return nil, err
	}
	b.delays.reset()
	began := time.Now()
	if err := f.await(ctx, g, b.o.each); err != nil {
		return nil, err
	}
	b.delays.during(began, time.Now())
	if err := f.await(ctx, g, b.o.after); err != nil { // what was taken last lingers
		return nil, err
	}
	live, _, err = b.delays.p99s()
	return live, err
}

// rounds drains and runs the raw loop in turns, and drains on until delays were measured
// for long enough.
func (b *syncBenchRun) rounds(ctx context.Context) error {
	defer b.large.live(ctx)()
	b.delays.reset()
	var readings, messages, raw, first []float64
	var busy time.Duration
	var last drained
	ours := func(measured bool) error {
		b.delays.await()
		d, err := b.drain(ctx, b.large, nil, 0, b.o.after)
		if err != nil {
			return err
		}
		b.report.Drains++
		busy += d.took
		if at := b.firstLive(ctx); !at.IsZero() {
			first = append(first, at.Sub(d.up).Seconds())
		}
		if measured {
			readings = append(readings, float64(d.readings)/d.took.Seconds())
			messages = append(messages, float64(len(d.sizes))/d.took.Seconds())
			b.report.Messages, b.report.WireBytes = len(d.sizes), round(float64(d.bytes)/float64(d.readings))
			last = d
		}
		return nil
	}
	theirs := func() error {
		rate, err := rawLoop(ctx, b.link, b.device+"-raw", b.o.root+"/raw/"+b.device, last.sizes, benchWindow)
		raw = append(raw, rate)
		return err
	}
	for range b.o.rounds {
		if err := ours(true); err != nil {
			return err
		}
		if err := theirs(); err != nil {
			return err
		}
	}
	for began := time.Now(); busy < b.o.each && time.Since(began) < 6*b.o.each; {
		if err := ours(false); err != nil {
			return err
		}
	}
	if busy < b.o.each {
		b.note("delays while draining are of %v only: drains were too short for more, take more --readings", busy.Round(time.Millisecond))
	}
	r := b.report
	r.DrainReadings, r.DrainMessages, r.RawMessages = math.Round(median(readings)), math.Round(median(messages)), math.Round(median(raw))
	r.ShareOfRaw = round(median(messages) / median(raw))
	if len(first) > 0 {
		s := round(median(first))
		r.FirstLive = &s
	}
	var err error
	r.LiveDraining, r.Alarm, err = b.delays.p99s()
	return err
}

// firstLive waits for the first live reading of a session.
func (b *syncBenchRun) firstLive(ctx context.Context) time.Time {
	for range 500 {
		if at := b.delays.arrived(); b.deaf || !at.IsZero() || sleep(ctx, benchLiveEvery) != nil {
			return at
		}
	}
	return time.Time{}
}

// shapedLink measures delays on a slow link, first with backlog: what is taken without
// would still be young enough to count as live then, and stand before what is measured.
func (b *syncBenchRun) shapedLink(ctx context.Context) error {
	if !b.o.shaped || b.deaf {
		return nil
	}
	slow := func() (mqtt.DialFunc, func()) { return shape(ctx, faultnet.Faults{Rate: benchShapedRate}) }
	r := &syncBenchShaped{Rate: benchShapedRate, Backlog: int(b.small.filled)}
	err := b.shapedDrain(ctx, slow, r)
	if err == nil {
		r.Live, err = b.idle(ctx, b.small, slow)
	}
	b.report.Shaped = r
	return err
}

func (b *syncBenchRun) shapedDrain(ctx context.Context, slow func() (mqtt.DialFunc, func()), r *syncBenchShaped) error {
	defer b.small.live(ctx)()
	dial, stop := slow()
	defer stop()
	b.delays.reset()
	d, err := b.drain(ctx, b.small, dial, 3*b.o.each, 3*b.o.after)
	if err != nil {
		return err
	}
	r.LinkUse = round(float64(d.bytes) / d.took.Seconds() / benchShapedRate)
	r.LiveDraining, r.Alarm, err = b.delays.p99s()
	return err
}

// farLink measures the throughput over a long way.
func (b *syncBenchRun) farLink(ctx context.Context) error {
	if !b.o.shaped {
		return nil
	}
	dial, stop := shape(ctx, faultnet.Faults{Latency: 25 * time.Millisecond, Queue: 8 << 20})
	defer stop()
	d, err := b.drain(ctx, b.large, dial, b.o.each, 0)
	if err != nil || d.took <= 0 {
		return err
	}
	rate := math.Round(float64(d.readings) / d.took.Seconds())
	b.report.RTT50 = &rate
	return nil
}
