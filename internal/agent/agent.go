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
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/api"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/rules/anomaly"
	"github.com/edgeagent/edgeagent/rules/model"
	"github.com/edgeagent/edgeagent/sensors"
	"github.com/edgeagent/edgeagent/sensors/i2c"
	"github.com/edgeagent/edgeagent/sync/uplink"
)

// How long the stages may take to stop, in the order in which they do.
const (
	sensorsGrace = 8 * time.Second
	rulesGrace   = 2 * time.Second
	actionsGrace = 3 * time.Second
	cloudGrace   = 7 * time.Second
	storeGrace   = 2 * time.Second
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
	// OpenOutput opens the lines that rules drive; default: the kernel's.
	OpenOutput OpenOutput
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
	keeper    *keeper
	shaper    *shaper // nil without shapes
	models    *model.Set
	pipeline  *pipeline
	scheduler *sensors.Scheduler
	outputs   *outputs
	programs  *programs
	api       *api.Server

	rewinds   rewinds
	corrector *corrector

	ran atomic.Bool // Run has been called

	mu           sync.Mutex // guards what follows, written by Run
	dir          string
	buffer       *buffer.Buffer // nil until the parts run; closed once they do not
	destinations []*destination
	leaves       []*leaf
	started      edgeagent.Instant
	stopped      bool
}

// New builds an agent. It opens nothing; what can be wrong with the configuration
// alone is found here.
func New(o Options) (*Agent, error) {
	if o.Config == nil {
		return nil, errors.New("agent has no configuration")
	}
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("check configuration: %w", err)
	}
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
		o.I2C = i2c.NewBuses(i2c.OpenBus).Open
	}
	if o.OpenOutput == nil {
		o.OpenOutput = kernelOutputs(o.Root)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Notify == nil {
		o.Notify = silent{}
	}
	a := &Agent{opts: o, cfg: o.Config, clock: o.Clock, logger: o.Logger, rewinds: newRewinds()}
	var err error
	if a.api, err = api.New(o.Config.API, a, api.Options{Logger: o.Logger}); err != nil {
		return nil, err
	}
	files := make([]rules.File, len(o.Config.RuleFiles))
	for i, f := range o.Config.RuleFiles {
		files[i] = f.File
	}
	if a.models, err = model.Load(o.Config.Rules.Models, o.Logger); err != nil {
		return nil, fmt.Errorf("load models: %w", err)
	}
	engine, err := rules.Options{
		Memory: o.Config.Rules.Memory, Location: time.Local, Models: a.models.Models(), Detector: anomaly.ForRules,
		Facts: factsOf(o.Config.Sensors),
	}.Compile(files)
	if err != nil {
		return nil, fmt.Errorf("compile rules: %w", err)
	}
	engine.SetIntervals(intervals(o.Config.Sensors))
	a.engine = engine
	files = append(files, deadbands(o.Config.Sensors)) // those of rule files count first
	for _, f := range files {
		if len(f.Shape) > 0 && a.shaper == nil {
			shapes, err := rules.NewShaper(files)
			if err != nil {
				return nil, fmt.Errorf("compile shapes: %w", err)
			}
			a.shaper = &shaper{shapes: shapes}
		}
	}
	return a, nil
}

// intervals tells the rules how often each sensor speaks, so that they notice when
// it falls silent. A replay names its sensors itself and is left out, as is what speaks
// when it likes.
func intervals(list []sensors.Config) map[string]time.Duration {
	m := map[string]time.Duration{}
	for _, s := range list {
		every := s.WithDefaults().Interval
		if p, ok := s.Options.(sensors.SelfPaced); ok {
			if own, is := p.Pace(); is {
				every = own
			}
		}
		if s.Driver != "replay" && every > 0 {
			m[s.Name] = every
		}
	}
	return m
}

type silent struct{}

func (silent) Ready(string)  {}
func (silent) Status(string) {}

// Run runs the agent until ctx ends and returns nil then, or until the agent has to
// start again and returns [ErrRestart]. It returns another error only when the buffer
// cannot be opened or closed, or when it is called twice.
func (a *Agent) Run(ctx context.Context) error {
	if a.ran.Swap(true) {
		return errors.New("agent has been run already")
	}
	b, err := a.openBuffer(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // told to stop while a damaged buffer was being read
	}
	if err != nil {
		return err
	}
	restart := a.runWith(ctx, b)
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	if err := b.Close(closeCtx); err != nil {
		return fmt.Errorf("close buffer: %w", err)
	}
	if restart {
		return ErrRestart
	}
	return nil
}

// runWith runs all stages on an open buffer until ctx ends or, as it reports, the agent
// has to start again.
func (a *Agent) runWith(ctx context.Context, b *buffer.Buffer) (restart bool) {
	a.keeper = &keeper{logger: a.logger, dir: stateOfRules(a.dir)}
	if err := a.restoreRules(ctx, b); err != nil && ctx.Err() == nil {
		a.logger.Error("not all that rules knew could be read", "error", err)
	}
	if ctx.Err() != nil {
		return false // rules that do not know what fires would raise it again
	}
	a.pipeline = newPipeline(b, a.engine, a.clock, a.logger)
	a.pipeline.keeper, a.pipeline.shaper = a.keeper, a.shaper
	a.scheduler = sensors.NewScheduler(a.specs(), a.pipeline, sensors.Options{Clock: a.clock, Logger: a.logger})

	a.outputs = newOutputs(a.cfg, a.engine.Outputs(), a.opts.OpenOutput, a.clock, a.logger)
	a.programs = newPrograms(a.clock, a.logger)
	if a.cfg.Sampling.Pressure == configs.Thin {
		a.pipeline.relief = &relief{pressure: b.Pressure, logger: a.logger}
	}
	a.pipeline.carry = &actions{logger: a.logger, outputs: a.outputs, programs: a.programs, sensors: a.scheduler}

	cloud := &stage{name: "cloud", grace: cloudGrace}
	var destinations []*destination
	for _, cfg := range a.cfg.Destinations {
		d := a.newDestination(b, cfg)
		destinations = append(destinations, d)
		cloud.leaves = append(cloud.leaves, a.leaf("uplink/"+cfg.Name, d.Run))
	}
	cloud.leaves = append(cloud.leaves, a.leaf("api", a.api.Run))
	rulesStage := &stage{name: "rules", grace: rulesGrace, leaves: []*leaf{a.leaf("rules", a.pipeline.Run)}}
	if a.models.Processes() > 0 {
		rulesStage.leaves = append(rulesStage.leaves, a.leaf("models", a.models.Run))
	}
	sensing := &stage{name: "sensors", grace: sensorsGrace, leaves: []*leaf{a.leaf("sensors", a.scheduler.Run)}}
	store := &stage{name: "store", grace: storeGrace, leaves: []*leaf{a.leaf("buffer", b.Run)}}
	a.corrector = &corrector{clock: a.clock, logger: a.logger, buffer: b, run: b.RunID()}
	store.leaves = append(store.leaves, a.leaf("clock", a.corrector.Run))
	if a.pipeline.relief != nil {
		store.leaves = append(store.leaves, a.leaf("sampling", a.pipeline.relief.Run))
	}
	// Actions stop after the rules: what a rule wanted last is done, and then all
	// outputs are made safe.
	acting := &stage{name: "actions", grace: actionsGrace, leaves: []*leaf{a.leaf("outputs", a.outputs.Run), a.leaf("programs", a.programs.Run)}}
	stages := []*stage{store, cloud, acting, rulesStage, sensing}

	a.publish(b, destinations, stages)
	for _, s := range stages {
		s.start(ctx)
	}
	a.logger.Info("agent started", "device", a.cfg.Device.ID, "sensors", len(a.cfg.Sensors), "destinations", len(destinations), "epoch", b.Epoch(), "run", b.RunID())
	a.opts.Notify.Ready(fmt.Sprintf("%d sensors, %d destinations", len(a.cfg.Sensors), len(destinations)))
	restart = a.watchRewinds(ctx, b)
	if restart {
		a.opts.FlushOnStop = 0 // the next agent delivers what is left
	}
	a.stop(ctx, stages)
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	return restart
}

// publish makes the running parts visible to Status.
func (a *Agent) publish(b *buffer.Buffer, destinations []*destination, stages []*stage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buffer, a.destinations = b, destinations
	a.started = edgeagent.Instant{Wall: a.clock.Wall().UnixNano(), Run: int64(a.clock.Run())}
	for _, s := range stages {
		a.leaves = append(a.leaves, s.leaves...)
	}
}

// stop ends the stages in reverse and gives the uplinks their last chance once
// nothing new can come.
func (a *Agent) stop(ctx context.Context, stages []*stage) {
	a.logger.Info("agent stopping")
	for _, s := range slices.Backward(stages) {
		if s.name == "cloud" && a.opts.FlushOnStop > 0 {
			a.flush(ctx)
		}
		if !s.stop() {
			a.logger.Warn("stage did not stop in time", "stage", s.name, "grace", s.grace)
		}
	}
}

func (a *Agent) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opts.FlushOnStop)
	defer cancel()
	var wg sync.WaitGroup
	for _, d := range a.destinations {
		wg.Go(func() {
			if err := d.flush(ctx); err != nil {
				a.logger.Warn("uplink did not deliver everything before the stop", "destination", d.cfg.Name, "error", err)
			}
		})
	}
	wg.Wait()
}

func (a *Agent) leaf(name string, run func(context.Context) error) *leaf {
	return &leaf{name: name, run: run, wall: a.clock.Wall, logger: a.logger}
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
	config := a.cfg.Buffer
	config.Encryption = config.Encryption.In(a.cfg.Dir)
	b, report, err := buffer.Open(ctx, dir, buffer.Options{
		Config: config, Device: a.cfg.Device.ID, Clock: a.clock, Logger: a.logger,
	})
	if err != nil {
		if hintOf(err) == "" {
			err = edgeagent.WithHint(err, "check buffer.dir and the disk it is on")
		}
		return nil, err
	}
	a.logger.Info("buffer open", "dir", dir, "report", report)
	for _, d := range a.cfg.Destinations {
		d = d.WithDefaults()
		if err := b.Register(buffer.Destination{
			Name: d.Name, Start: buffer.Start(d.Start), Durable: d.Ack == uplink.AckEndToEnd || d.DurableAck,
		}); err != nil {
			return nil, errors.Join(fmt.Errorf("register destination %s: %w", d.Name, err), b.Close(ctx))
		}
	}
	// A configuration that was started with is confirmed.
	for _, d := range b.Destinations() {
		if d.Registered || !d.Holds {
			continue
		}
		a.logger.Info("destination is no longer configured: what it has not confirmed may go", "destination", d.Name)
		if err := b.Release(d.Name); err != nil {
			return nil, errors.Join(err, b.Close(ctx))
		}
	}
	return b, nil
}

// specs binds the configured sensors to the world.
func (a *Agent) specs() []sensors.Spec {
	env := sensors.Env{Root: a.opts.Root, Dir: a.cfg.Dir, State: stateOfSensors(a.dir), Clock: a.clock, Logger: a.logger, I2C: a.opts.I2C}
	specs := make([]sensors.Spec, len(a.cfg.Sensors))
	for i, s := range a.cfg.Sensors {
		specs[i] = sensors.NewSpec(s, env)
	}
	return specs
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
