package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/hub"
	"github.com/edgeagent/edgeagent/internal/agent"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/internal/faultnet"
	"github.com/edgeagent/edgeagent/sim/bus"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// Bounds of a demo.
const (
	// MinAround is the least time that a demo with an outage runs besides it: half
	// before and half after.
	MinAround = 10 * time.Second
	// finalFlush is how long the agent may take at the end to deliver the rest.
	finalFlush = 10 * time.Second
	// tick is how often the demo looks at the agent.
	tick = 100 * time.Millisecond
)

// DemoOptions describe a demo.
type DemoOptions struct {
	Dir     string // of the buffer and the recorded series; the caller removes it
	Socket  string // of the agent's API
	Version string
	Logger  *slog.Logger
	Outage  time.Duration // cut the uplink for this long, once; 0: never
	For     time.Duration // stop after this long; 0: when ctx ends
}

// Demo is one gateway with its broker and its receiver in this process. It is used
// for one Run.
type Demo struct {
	opts     DemoOptions
	cfg      *configs.Config
	agent    *agent.Agent
	broker   *broker.Broker
	receiver *mqtt.Receiver
	hub      *hub.Hub
	sink     *hub.Memory
	link     *faultnet.Switch
	arrivals arrivals

	// Owned by Run.
	cut       bool      // the link is cut now
	restored  time.Time // when the outage ended
	wentDown  bool      // the uplink noticed the cut
	cameBack  time.Time // CONNACK after the outage
	connects  uint64    // sessions when the outage ended
	startedAt time.Time
}

// NewDemo prepares a demo: the broker listens, nothing runs yet. It is to be run
// then, which also closes the broker.
func NewDemo(o DemoOptions) (*Demo, error) {
	return newDemo(o, func(s hub.Sink) hub.Sink { return s })
}

// newDemo is NewDemo with a seam for the demo's own negative control: behind stands
// between the hub and the sink that counts.
func newDemo(o DemoOptions, behind func(hub.Sink) hub.Sink) (*Demo, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Demo{opts: o, link: faultnet.NewSwitch(nil), broker: broker.New(broker.Options{Logger: o.Logger})}
	if err := d.broker.Listen(); err != nil {
		return nil, fmt.Errorf("start the demo's broker: %w", err)
	}
	if err := d.prepare(behind); err != nil {
		return nil, errors.Join(err, d.closeBroker())
	}
	return d, nil
}

func (d *Demo) prepare(behind func(hub.Sink) hub.Sink) error {
	if err := d.configure(); err != nil {
		return err
	}
	if err := d.prepareHub(behind); err != nil {
		return err
	}
	chip := bus.NewBME280(0x76, bus.Since(bus.Greenhouse{}.At))
	var err error
	d.agent, err = agent.New(agent.Options{
		Config: d.cfg, Version: d.opts.Version, Logger: d.opts.Logger,
		Clock:       clock.System(clock.Trusted, time.Time{}),
		I2C:         bus.New(chip).Open,
		Dial:        d.link.DialContext,
		FlushOnStop: finalFlush,
	})
	return err
}

// closeBroker gives the broker's port back: a run that is over at once does.
func (d *Demo) closeBroker() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return d.broker.Run(ctx)
}

func (d *Demo) prepareHub(behind func(hub.Sink) hub.Sink) (err error) {
	d.receiver, err = mqtt.NewReceiver(mqtt.ReceiverConfig{URL: d.broker.URL(), ClientID: "demo-hub", Logger: d.opts.Logger})
	if err != nil {
		return fmt.Errorf("make the demo's receiver: %w", err)
	}
	d.sink = hub.NewMemory(hub.MemoryOptions{OnCommit: d.onCommit})
	d.hub, err = hub.New(hub.Options{Name: "hub", Sink: behind(d.sink), Logger: d.opts.Logger})
	return err
}

// Sensors returns how many sensors the demo has.
func (d *Demo) Sensors() int { return len(d.cfg.Sensors) }

// Socket returns where the agent's API is.
func (d *Demo) Socket() string { return d.opts.Socket }

// OutageAt returns when the outage begins: a quarter into the time, at least half
// of [MinAround] after the start, and where the time is long enough for both not
// so late that less than that is left behind it.
func (d *Demo) OutageAt() time.Duration {
	const half = MinAround / 2
	if d.opts.For == 0 {
		return half
	}
	return max(half, min(d.opts.For/4, 10*time.Second, d.opts.For-d.opts.Outage-half))
}

// Run runs the demo until its time is over or ctx ends, calls show about ten times
// a second from one goroutine, and returns the verdict.
func (d *Demo) Run(ctx context.Context, show func(context.Context, Snapshot)) (Report, error) {
	// The hub and the broker outlive the agent: it delivers its last readings.
	cloud, stopCloud := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCloud()
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	start := func(what string, ctx context.Context, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	start("broker", cloud, d.broker.Run)
	start("receiver", cloud, func(ctx context.Context) error { return d.hub.Run(ctx, d.receiver) })

	agentCtx, stopAgent := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAgent()
	agentDone := make(chan struct{})
	start("agent", agentCtx, func(ctx context.Context) error {
		defer close(agentDone)
		return d.agent.Run(ctx)
	})
	d.startedAt = time.Now()
	err := d.watch(ctx, failed, show)
	d.link.Restore()
	stopAgent()
	<-agentDone
	report := d.report()
	show(ctx, d.snapshot(d.agent.Status(ctx), true))
	stopCloud()
	wg.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return report, err
}

// watch runs the demo's timeline: it shows snapshots, cuts and restores the link,
// and returns when the time is over or a part has failed.
func (d *Demo) watch(ctx context.Context, failed <-chan error, show func(context.Context, Snapshot)) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-ticker.C:
		}
		elapsed := time.Since(d.startedAt)
		status := d.agent.Status(ctx)
		if d.opts.Outage > 0 {
			d.outage(status, elapsed)
		}
		show(ctx, d.snapshot(status, false))
		if d.opts.For > 0 && elapsed >= d.opts.For {
			return nil
		}
	}
}

// outage cuts the link, restores it, and notes when the uplink noticed.
func (d *Demo) outage(status api.Status, elapsed time.Duration) {
	begin := d.OutageAt()
	end := begin + d.opts.Outage
	up, connects, since := uplinkOf(status)
	switch {
	case elapsed >= begin && elapsed < end && !d.cut:
		d.arrivals.reset()
		d.link.Cut()
		d.cut = true
	case elapsed >= end && d.cut:
		d.connects = connects
		d.link.Restore()
		d.restored = time.Now()
		d.cut = false
	}
	if d.cut && !up {
		d.wentDown = true
	}
	if !d.restored.IsZero() && d.cameBack.IsZero() && up && connects > d.connects {
		d.cameBack = since
	}
}

// uplinkOf returns the state of the one uplink: up, how many sessions there have
// been, and when the present one came up.
func uplinkOf(status api.Status) (up bool, connects uint64, since time.Time) {
	for _, u := range status.Uplinks {
		return u.State == api.UplinkUp, u.Connects, u.Since.Time
	}
	return false, 0, time.Time{}
}

// onCommit is called by the sink for each commit.
func (d *Demo) onCommit(c hub.Cut, at time.Time) {
	if c.Stream != edgeagent.StreamTelemetry || len(c.Rows) == 0 {
		return
	}
	e := arrival{at: at, count: len(c.Rows), first: c.Rows[0].Time, last: c.Rows[0].Time}
	for _, r := range c.Rows {
		e.first, e.last = min(e.first, r.Time), max(e.last, r.Time)
	}
	d.arrivals.add(e)
}

// recordedSeries is the file that the replay reads.
const recordedSeries = "machine.csv.gz"

// configure writes the recorded series beside the buffer and reads the demo's
// configuration as the agent would read a user's.
func (d *Demo) configure() error {
	recorded, err := configs.Examples.ReadFile("examples/recorded/" + recordedSeries)
	if err != nil {
		return fmt.Errorf("read the recorded series: %w", err)
	}
	for name, content := range map[string][]byte{recordedSeries: recorded, "rules.yaml": []byte(demoRules)} {
		if err := os.WriteFile(filepath.Join(d.opts.Dir, name), content, 0o600); err != nil {
			return fmt.Errorf("prepare the demo: %w", err)
		}
	}
	name := filepath.Join(d.opts.Dir, "demo.yaml")
	cfg, err := configs.Parse(name, []byte(demoConfig(d.broker.URL(), d.opts.Socket)), configs.Options{Drivers: agent.Drivers()})
	if err != nil {
		return fmt.Errorf("read the demo's configuration: %w", err)
	}
	d.cfg = cfg
	return nil
}
