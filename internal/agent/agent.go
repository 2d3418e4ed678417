package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
)

// How long the stages may take to stop, in the order in which they do.
const (
	sensorsGrace = 8 * time.Second
	rulesGrace   = 2 * time.Second
	cloudGrace   = 7 * time.Second
	closeGrace   = 20 * time.Second
)

// Options is what an agent is built from. Only Config is required; the rest are
// seams with the real world as default.
type Options struct {
	Config  *configs.Config
	Version string
	// Built is when the program was built: the clock cannot be right below it.
	Built  time.Time
	Logger *slog.Logger // default: discard
	Clock  clock.Clock  // default: the machine's, by clock.source
	// Root is where sources look for /sys and /proc; default "/".
	Root string
	// I2C opens I²C buses; default: the kernel's.
	I2C sensors.OpenI2C
	// Dial opens the uplinks' connections; default: plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Notify tells the service manager how it goes; default: nobody.
	Notify Notifier
	// FlushOnStop: after sensors and rules have stopped, the uplinks may go on
	// for this long to deliver what is left. Default 0: it stays in the buffer.
	FlushOnStop time.Duration
}

// Notifier tells a service manager how the start goes.
type Notifier interface {
	Ready(status string)
	Status(status string)
}

// Agent is one gateway. See the package comment.
type Agent struct {
	opts   Options
	cfg    *configs.Config
	clock  clock.Clock
	logger *slog.Logger

	engine    *rules.Engine
	pipeline  *pipeline
	scheduler *sensors.Scheduler
	api       *api.Server

	mu           sync.Mutex // guards what follows, written once by Run
	dir          string
	buffer       *buffer.Buffer
	destinations []*destination
	leaves       []*leaf
	started      time.Time
}

// New builds an agent. It opens nothing; what can be wrong with the configuration
// alone is found here.
func New(o Options) (*Agent, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.System(o.Config.Clock.Source, o.Built)
	}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.I2C == nil {
		o.I2C = i2c.OpenBus
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Notify == nil {
		o.Notify = silent{}
	}
	a := &Agent{opts: o, cfg: o.Config, clock: o.Clock, logger: o.Logger}
	files := make([]rules.File, len(o.Config.RuleFiles))
	for i, f := range o.Config.RuleFiles {
		files[i] = f.File
	}
	engine, err := rules.Compile(files)
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	engine.SetIntervals(intervals(o.Config.Sensors))
	a.engine = engine
	return a, nil
}

// intervals tells the rules how often each sensor speaks, so that they notice when
// it falls silent. A replay names its sensors itself and is left out.
func intervals(list []sensors.Config) map[string]time.Duration {
	m := map[string]time.Duration{}
	for _, s := range list {
		if s.Driver != "replay" {
			m[s.Name] = s.WithDefaults().Interval
		}
	}
	return m
}

type silent struct{}

func (silent) Ready(string)  {}
func (silent) Status(string) {}

// Run runs the agent until ctx ends and returns nil then. It returns an error only
// when the buffer cannot be opened or closed.
func (a *Agent) Run(ctx context.Context) error {
	b, err := a.openBuffer(ctx)
	if err != nil {
		return err
	}
	runErr := a.runWith(ctx, b)
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if err := b.Close(closeCtx); err != nil {
		return errors.Join(runErr, fmt.Errorf("close buffer: %w", err))
	}
	return runErr
}

// runWith runs all stages on an open buffer.
func (a *Agent) runWith(ctx context.Context, b *buffer.Buffer) error {
	destinations, err := a.newDestinations(b)
	if err != nil {
		return err
	}
	if err := a.restoreAlarms(ctx, b); err != nil {
		a.logger.Error("alarms of earlier runs could not be read", "error", err)
	}
	a.pipeline = &pipeline{buffer: b, clock: a.clock, logger: a.logger, wake: make(chan struct{}, 1), rules: a.engine}
	a.scheduler = sensors.NewScheduler(a.specs(), a.pipeline, sensors.Options{Clock: a.clock, Logger: a.logger})
	if a.api, err = api.New(a.cfg.API, a, api.Options{Logger: a.logger}); err != nil {
		return err
	}

	cloud := &stage{name: "cloud", grace: cloudGrace}
	for _, d := range destinations {
		cloud.leaves = append(cloud.leaves, a.leaf("uplink-"+d.cfg.Name, d.Run))
	}
	cloud.leaves = append(cloud.leaves, a.leaf("api", a.api.Run))
	rulesStage := &stage{name: "rules", grace: rulesGrace, leaves: []*leaf{a.leaf("rules", a.pipeline.Run)}}
	sensing := &stage{name: "sensors", grace: sensorsGrace, leaves: []*leaf{a.leaf("sensors", a.scheduler.Run)}}
	stages := []*stage{cloud, rulesStage, sensing}

	a.publish(b, destinations, stages)
	for _, s := range stages {
		s.start(ctx)
	}
	a.logger.Info("agent started", "device", a.cfg.Device.ID, "sensors", len(a.cfg.Sensors), "destinations", len(destinations), "epoch", b.Epoch(), "run", b.Run())
	a.opts.Notify.Ready(fmt.Sprintf("%d sensors, %d destinations", len(a.cfg.Sensors), len(destinations)))
	<-ctx.Done()
	a.stop(ctx, stages)
	return nil
}

// publish makes the running parts visible to Status.
func (a *Agent) publish(b *buffer.Buffer, destinations []*destination, stages []*stage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buffer, a.destinations, a.started = b, destinations, time.Now()
	for _, s := range stages {
		a.leaves = append(a.leaves, s.leaves...)
	}
}

// stop ends the stages in reverse and gives the uplinks their last chance once
// nothing new can come.
func (a *Agent) stop(ctx context.Context, stages []*stage) {
	a.logger.Info("agent stopping")
	for i := len(stages) - 1; i >= 0; i-- {
		if i == 0 && a.opts.FlushOnStop > 0 {
			a.flush(ctx)
		}
		if !stages[i].stop() {
			a.logger.Warn("stage did not stop in time", "stage", stages[i].name, "grace", stages[i].grace)
		}
	}
}

func (a *Agent) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opts.FlushOnStop)
	defer cancel()
	var wg sync.WaitGroup
	for _, d := range a.destinations {
		wg.Go(func() {
			if err := d.uplink().Flush(ctx); err != nil {
				a.logger.Warn("uplink did not deliver everything before the stop", "destination", d.cfg.Name, "error", err)
			}
		})
	}
	wg.Wait()
}

func (a *Agent) leaf(name string, run func(context.Context) error) *leaf {
	return &leaf{name: name, run: run, logger: a.logger}
}

// openBuffer opens the buffer and registers every destination.
func (a *Agent) openBuffer(ctx context.Context) (*buffer.Buffer, error) {
	dir := a.cfg.Buffer.Dir
	if dir == "" {
		state, err := StateDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(state, "buffer")
	} else if !filepath.IsAbs(dir) {
		dir = filepath.Join(a.cfg.Dir, dir)
	}
	a.mu.Lock()
	a.dir = dir
	a.mu.Unlock()
	b, report, err := buffer.Open(ctx, dir, buffer.Options{
		Config: a.cfg.Buffer, Device: a.cfg.Device.ID, Clock: a.clock, Logger: a.logger,
	})
	if err != nil {
		return nil, err
	}
	a.logger.Info("buffer open", "dir", dir, "report", report)
	for _, d := range a.cfg.Destinations {
		if err := b.Register(buffer.Destination{Name: d.Name}); err != nil {
			return nil, errors.Join(fmt.Errorf("register destination %s: %w", d.Name, err), b.Close(ctx))
		}
	}
	return b, nil
}

func (a *Agent) newDestinations(b *buffer.Buffer) ([]*destination, error) {
	var out []*destination
	for _, cfg := range a.cfg.Destinations {
		d, err := a.newDestination(b, cfg)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// specs binds the configured sensors to the world.
func (a *Agent) specs() []sensors.Spec {
	env := sensors.Env{Root: a.opts.Root, Dir: a.cfg.Dir, Clock: a.clock, Logger: a.logger, I2C: a.opts.I2C}
	specs := make([]sensors.Spec, len(a.cfg.Sensors))
	for i, s := range a.cfg.Sensors {
		specs[i] = sensors.NewSpec(s, env)
	}
	return specs
}

// restoreAlarms hands the engine the alarms of earlier runs that were not cleared,
// so that one that fires is not raised again and its clear is not forgotten.
func (a *Agent) restoreAlarms(ctx context.Context, b *buffer.Buffer) error {
	a.engine.SetRun(b.Run())
	open := openAlarms{last: map[string]edgeagent.Event{}}
	var events []edgeagent.Event
	for _, epoch := range b.Epochs() {
		for from := edgeagent.Seq(1); ; {
			batch, ok, err := b.Read(ctx, epoch, edgeagent.StreamAlarm, from, edgeagent.Limit{Records: 1024})
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if events, err = batch.Events(events[:0]); err != nil {
				return err
			}
			open.take(events)
			from = batch.Last() + 1
		}
	}
	a.engine.Restore(open.inOrder())
	return nil
}

// openAlarms keeps the last transition of every alarm that is not cleared: the
// stream may be long, what fires is little.
type openAlarms struct {
	last  map[string]edgeagent.Event // by alarm id
	order []string                   // ids as they came first, some cleared since
}

func (o *openAlarms) take(events []edgeagent.Event) {
	for _, ev := range events {
		if ev.Attrs["state"] == edgeagent.AlarmCleared {
			delete(o.last, ev.ID)
			continue
		}
		if _, known := o.last[ev.ID]; !known {
			o.order = append(o.order, ev.ID)
		}
		o.last[ev.ID] = ev
	}
	if len(o.order) > 2*len(o.last)+1024 {
		o.order = slices.DeleteFunc(o.order, func(id string) bool { _, open := o.last[id]; return !open })
	}
}

func (o *openAlarms) inOrder() []edgeagent.Event {
	var out []edgeagent.Event
	for _, id := range o.order {
		if ev, open := o.last[id]; open {
			out = append(out, ev)
			delete(o.last, id)
		}
	}
	return out
}

// Gaps returns what the buffer can no longer deliver, nil before Run.
func (a *Agent) Gaps() []buffer.Gap {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.buffer == nil {
		return nil
	}
	return a.buffer.Gaps()
}

// Counts returns the figures that the demo's verdict is made of: readings that
// sources returned, records that the buffer accepted, alarm transitions raised.
func (a *Agent) Counts() (taken, accepted, alarms uint64) {
	a.mu.Lock()
	running := a.buffer != nil
	a.mu.Unlock()
	if !running {
		return 0, 0, 0
	}
	return a.scheduler.Taken(), a.pipeline.accepted.Load(), a.pipeline.alarms.Load()
}
