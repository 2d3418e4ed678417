package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sync/mqtt"
	"github.com/edgeagent/edgeagent/sync/uplink"
	"github.com/edgeagent/edgeagent/sync/wire"
)

const (
	benchLiveEvery  = 10 * time.Millisecond // between live readings
	benchAlarmEvery = 10                    // of them to an alarm
	benchWindow     = 64                    // messages in flight, of ours and of the raw loop
	benchShapedRate = 32_000                // bytes a second: 256 kbit/s
	benchStall      = time.Minute           // without progress is an error
	benchFillRate   = 200_000               // readings a second while memory is watched
	benchOld        = 5 * time.Minute       // how old the youngest reading of a backlog is
)

// syncBenchRun is one run of the command.
type syncBenchRun struct {
	o        syncBenchOptions
	link     uplink.LinkConfig
	device   string
	dir      string
	data     []edgeagent.Reading
	progress io.Writer
	report   *syncBenchReport
	delays   *delays
	deaf     bool   // nobody may subscribe: no delays
	stop     func() // ends the subscriber
	names    int    // of destinations so far
	small    *benchGateway
	large    *benchGateway
}

func newSyncBenchRun(ctx context.Context, o syncBenchOptions, progress io.Writer) (*syncBenchRun, error) {
	link, err := o.link()
	if err != nil {
		return nil, err
	}
	b := &syncBenchRun{
		o: o, link: link, device: fmt.Sprintf("bench-%08x", rand.Uint32()), progress: progress, data: madeUp(),
		delays: newDelays(o.format),
		report: &syncBenchReport{
			Upstream: o.upstream, Format: o.format, Protocol: o.protocol, Ack: o.ack(),
			Readings: o.readings, Rounds: o.rounds, Backlog: o.benchBacklog(), Notes: []string{},
		},
	}
	if o.data != "" {
		if b.data, err = readBench(ctx, o.data); err != nil {
			return nil, err
		}
	}
	if b.dir, err = os.MkdirTemp("", "edgeagent-bench-"); err != nil {
		return nil, err
	}
	if b.stop, err = listen(link, b.device+"-ear", b.delays.heard, b.topic(uplink.LaneLive), b.topic(uplink.LaneAlarm)); err != nil {
		c, cannot := rawClient(link, b.device+"-ear")
		if cannot != nil {
			return nil, errors.Join(edgeagent.WithHint(cannot, "check --upstream, --username, --password and --ca"), os.RemoveAll(b.dir))
		}
		c.Disconnect(100)
		b.deaf, b.stop = true, func() {}
		b.note("delays are not measured: %v", err)
	}
	return b, nil
}

func (b *syncBenchRun) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}

func (b *syncBenchRun) topic(l uplink.Lane) string {
	return b.o.root + strings.TrimPrefix(mqtt.DataTopic("default", b.device, l.String()), "ea/v1")
}

func (b *syncBenchRun) close(ctx context.Context) error {
	b.stop()
	err := errors.Join(b.small.close(ctx), b.large.close(ctx))
	return errors.Join(err, os.RemoveAll(b.dir))
}

// madeUp is an hour of a gateway with 20 sensors: values that wander in steps of what
// such a sensor resolves, a few that rarely move, a counter.
func madeUp() []edgeagent.Reading {
	rng := rand.New(rand.NewPCG(1, 2))
	const sensors, seconds = 20, 3600
	var series [sensors]edgeagent.Series
	var at, step [sensors]float64
	for i := range series {
		step[i] = []float64{0.01, 0.1, 0.0625, 1}[i%4]
		at[i] = math.Round((20+60*rng.Float64())/step[i]) * step[i]
		series[i] = edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "bench/s" + strconv.Itoa(i), Metric: "value", Resolution: edgeagent.DefaultResolution})
	}
	out := make([]edgeagent.Reading, 0, sensors*seconds)
	for s := range seconds {
		for i := range series {
			switch {
			case i%5 == 4:
				at[i]++ // a counter
			case i%5 < 3 || rng.IntN(20) == 0:
				at[i] += step[i] * math.Round(3*rng.NormFloat64())
			}
			ns := int64(s)*int64(time.Second) + int64(i)*int64(time.Second)/sensors
			out = append(out, edgeagent.Reading{Series: series[i], At: edgeagent.Instant{Wall: ns}, Value: math.Round(at[i]/step[i]) * step[i], Recorded: true})
		}
	}
	return out
}

// benchGateway is a buffer that is filled, and what is taken live beside that.
type benchGateway struct {
	*buffer.Buffer
	clock  clock.Clock
	source *endless
	filled edgeagent.Seq // records 1 to filled are the backlog
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	failed error
}

func (b *syncBenchRun) gateway(ctx context.Context, name string, readings int) (*benchGateway, error) {
	g := &benchGateway{clock: clock.Go(), source: newEndless(b.data)}
	// So that the youngest reading is older than anything that counts as live.
	laps := int64(readings/len(b.data)) + 1
	g.source.add = time.Now().Add(-benchOld).UnixNano() - laps*g.source.span - b.data[0].At.Wall
	o := buffer.Options{Config: buffer.Default(), Device: b.device, Clock: g.clock}
	o.Policy, o.MaxBytes = buffer.DropNewest, edgeagent.Bytes(256<<20+12*int64(readings))
	var err error
	if g.Buffer, _, err = buffer.Open(ctx, filepath.Join(b.dir, name), o); err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g.cancel = cancel
	g.wg.Go(func() { g.fail(g.Run(run)) })
	return g, nil
}

func (g *benchGateway) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !errors.Is(err, context.Canceled) {
		g.failed = errors.Join(g.failed, err)
	}
}

func (g *benchGateway) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failed
}

func (g *benchGateway) close(ctx context.Context) error {
	if g == nil {
		return nil
	}
	g.cancel()
	g.wg.Wait()
	return errors.Join(g.failed, g.Close(ctx))
}

// fill appends n readings in batches, at most rate a second (0: as fast as it goes).
func (g *benchGateway) fill(ctx context.Context, n, batch, rate int) error {
	list := make([]edgeagent.Reading, min(n, batch))
	began := time.Now()
	for done := 0; done < n; done += len(list) {
		list = list[:min(n-done, len(list))]
		g.source.next(list)
		last, err := g.Append(ctx, list)
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		g.filled = last
		if rate > 0 && done%(rate/20) < len(list) {
			if err := sleep(ctx, time.Until(began.Add(time.Duration(done)*time.Second/time.Duration(rate)))); err != nil {
				return err
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// live takes readings and alarms until the returned function is called.
func (g *benchGateway) live(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	series := edgeagent.NewSeries(edgeagent.SeriesKey{Sensor: "bench/live", Metric: "value", Resolution: 3})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(benchLiveEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			at := edgeagent.Instant{Wall: g.clock.Wall().UnixNano() / 1000 * 1000, Run: int64(g.clock.Run())}
			if _, err := g.Append(ctx, []edgeagent.Reading{{Series: series, At: at, Value: float64(n)}}); err != nil {
				g.fail(err)
				return
			}
			if n%benchAlarmEvery != 0 {
				continue
			}
			at = edgeagent.Instant{Wall: g.clock.Wall().UnixNano(), Run: int64(g.clock.Run())}
			if _, err := g.AppendEvents(ctx, edgeagent.StreamAlarm, []edgeagent.Event{{
				At: at, Kind: edgeagent.KindAlarm, Severity: edgeagent.Critical, ID: "bench/1/" + strconv.Itoa(n), N: 1,
				Attrs: map[string]string{"state": edgeagent.AlarmFiring},
			}}); err != nil {
				g.fail(err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// flow is an uplink that runs.
type flow struct {
	*meter
	uplink *uplink.Uplink
	stop   func()
}

// connect starts an uplink to a new destination that wants everything, or only what
// comes from now on.
func (b *syncBenchRun) connect(ctx context.Context, g *benchGateway, start buffer.Start, want edgeagent.Range, dial mqtt.DialFunc) (*flow, error) {
	b.names++
	name := "bench-" + strconv.Itoa(b.names)
	if err := g.Register(buffer.Destination{Name: name, Start: start}); err != nil {
		return nil, err
	}
	log, err := agent.UplinkLog(g.Buffer, name)
	if err != nil {
		return nil, err
	}
	link := b.link
	link.ClientID = b.device
	transport, err := mqtt.New(link, mqtt.Options{Device: b.device, Root: b.o.root, NeedReasons: b.o.ack() == uplink.AckReason, Dial: dial})
	if err != nil {
		return nil, err
	}
	cfg := uplink.Config{
		Name: name, Links: []uplink.LinkConfig{link}, Format: b.o.format, Ack: b.o.ack(), Linger: b.o.linger,
		NoSubscriber: uplink.AcceptAnyway, // nobody listens to the backlog
	}
	o := uplink.Options{Device: b.device, Clock: g.clock}
	if b.o.format != uplink.FormatBlock {
		if o.Format, err = wire.New(b.o.format); err != nil {
			return nil, err
		}
	}
	f := &flow{meter: newMeter(transport, want)}
	if f.uplink, err = uplink.New(cfg, log, f.meter, o); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.fail(f.uplink.Run(ctx)) })
	f.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		g.fail(g.Release(name))
	})
	return f, nil
}

// await waits until all that the flow wants is acknowledged, or d is over (0: for as
// long as there is progress).
func (f *flow) await(ctx context.Context, g *benchGateway, d time.Duration) error {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	tick := time.NewTicker(benchStall / 4)
	defer tick.Stop()
	var count uint64
	idle := 0
	for {
		select {
		case <-f.done:
			return g.err()
		case <-over:
			return g.err()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if now := f.seen().readings; now != count {
			count, idle = now, 0
		} else if idle++; idle == 4 && d == 0 {
			h := f.uplink.Health()
			return edgeagent.WithHint(fmt.Errorf("no progress for %v: %s", benchStall, h.Text), h.Hint)
		}
	}
}

// drain sends a gateway's backlog to a new destination, for at most limit unless that is
// 0. What was taken live meanwhile has the time after to arrive.
func (b *syncBenchRun) drain(ctx context.Context, g *benchGateway, dial mqtt.DialFunc, limit, after time.Duration) (drained, error) {
	f, err := b.connect(ctx, g, buffer.StartOldest, edgeagent.Range{From: 1, To: g.filled}, dial)
	if err != nil {
		return drained{}, err
	}
	defer f.stop()
	err = f.await(ctx, g, limit)
	d := f.seen()
	if err == nil && after > 0 && !b.deaf {
		b.delays.during(d.up, d.up.Add(d.took))
		err = sleep(ctx, after)
	}
	return d, err
}

// shape is a dialer behind a bad network, until stop is called.
func shape(ctx context.Context, x faultnet.Faults) (dial mqtt.DialFunc, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	l := faultnet.NewLink(nil, 1)
	l.Set(faultnet.Up, x)
	l.Set(faultnet.Down, x)
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	return l.DialContext, func() { cancel(); wg.Wait() }
}

// memoryOf reads the resident memory of this process, and how much of it is not of
// files, in MB; ok is false where the kernel does not say.
func memoryOf() (rss, anon float64, ok bool) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		switch name {
		case "VmRSS":
			rss = kb / 1000 * 1.024
		case "RssAnon":
			anon = kb / 1000 * 1.024
		}
	}
	return rss, anon, rss > 0 && anon > 0
}
