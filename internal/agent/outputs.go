package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/configs"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors/gpio"
)

// Output is a line that rules drive. It is used by one goroutine. After an error of
// Set its level is not known.
type Output interface {
	Set(high bool) error
	Close() error
}

// OpenOutput opens an output with the level high.
type OpenOutput func(c gpio.OutputConfig, high bool) (Output, error)

// kernelOutputs opens the lines of the machine.
func kernelOutputs(root string) OpenOutput {
	return func(c gpio.OutputConfig, high bool) (Output, error) { return gpio.OpenOutput(root, c, high) }
}

// outputs drives the configured outputs. Each has the level that was wanted last: a
// change that comes while an output cannot be driven takes the place of the one
// before, so nothing queues up.
type outputs struct {
	open   OpenOutput
	clock  clock.Clock
	logger *slog.Logger
	wake   chan struct{} // capacity 1
	list   []*output
}

// output is one of them.
type output struct {
	cfg  gpio.OutputConfig
	safe bool

	// Used by Run only.
	out     Output // nil: not open
	level   bool   // as driven last
	retryAt time.Duration
	wait    time.Duration

	mu     sync.Mutex // guards what follows
	wanted bool
	health edgeagent.Health
}

func newOutputs(c *configs.Config, exits []rules.Output, open OpenOutput, clk clock.Clock, logger *slog.Logger) *outputs {
	o := &outputs{open: open, clock: clk, logger: logger, wake: make(chan struct{}, 1)}
	for _, cfg := range c.Outputs {
		x := &output{cfg: cfg, safe: safeLevel(cfg, exits)}
		x.wanted = x.safe
		o.list = append(o.list, x)
	}
	return o
}

// safeLevel is what an output has when nobody drives it: on_exit of the rules that
// name it, else its own.
func safeLevel(c gpio.OutputConfig, exits []rules.Output) bool {
	for _, x := range exits {
		if x.Pin == c.Name && x.OnExit != "" {
			return x.OnExit == "high"
		}
	}
	return c.SafeHigh()
}

// set notes what a rule wants. It does not block.
func (o *outputs) set(name string, high bool) (known bool) {
	for _, x := range o.list {
		if x.cfg.Name != name {
			continue
		}
		x.mu.Lock()
		x.wanted = high
		x.mu.Unlock()
		select {
		case o.wake <- struct{}{}:
		default:
		}
		return true
	}
	return false
}

// Run opens all outputs in their safe state, drives them until ctx ends, and leaves
// them in their safe state.
func (o *outputs) Run(ctx context.Context) error {
	defer o.finish()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-t.C:
		}
		next := o.clock.Run() + time.Hour
		for _, x := range o.list {
			x.mu.Lock()
			wanted := x.wanted
			x.mu.Unlock()
			if at, again := x.step(o, wanted); again {
				next = min(next, at)
			}
		}
		t.Reset(next - o.clock.Run())
	}
}

// finish leaves every output in its safe state. One that cannot be driven does not
// keep the others from it.
func (o *outputs) finish() {
	for _, x := range o.list {
		x.retryAt = 0
		x.step(o, x.safe)
		if x.out == nil {
			o.logger.Error("output is not in its safe state", "output", x.cfg.Name, "error", x.state().Text)
			continue
		}
		if err := x.out.Close(); err != nil {
			o.logger.Warn("output did not close cleanly", "output", x.cfg.Name, "error", err)
		}
		x.out = nil
	}
}

// step drives the output if it is not as wanted. again means that it has to be tried
// anew at the run time at.
func (x *output) step(o *outputs, wanted bool) (at time.Duration, again bool) {
	now := o.clock.Run()
	var err error
	switch {
	case x.out == nil && now < x.retryAt:
		return x.retryAt, true
	case x.out == nil:
		x.out, err = o.open(x.cfg, wanted)
		if err != nil {
			x.out = nil // whatever the interface holds
		}
	case x.level == wanted:
		return 0, false
	default:
		err = x.out.Set(wanted)
	}
	if err == nil {
		x.level, x.wait = wanted, 0
		x.setHealth(o, edgeagent.Health{})
		o.logger.Info("output set", "output", x.cfg.Name, "high", wanted)
		return 0, false
	}
	if x.out != nil { // perhaps the chip has gone and come back
		if closing := x.out.Close(); closing != nil {
			o.logger.Debug("output did not close cleanly", "output", x.cfg.Name, "error", closing)
		}
		x.out = nil
	}
	x.wait = min(max(2*x.wait, restartBase), restartCap)
	x.retryAt = now + x.wait
	x.setHealth(o, edgeagent.Health{
		Level: edgeagent.Failed, Code: "output-failed",
		Text: fmt.Sprintf("output %s is not %s: %v", x.cfg.Name, levelOf(wanted), err), Hint: hintOf(err),
	})
	return x.retryAt, true
}

// setHealth logs what is new.
func (x *output) setHealth(o *outputs, h edgeagent.Health) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if h.Level == x.health.Level && h.Text == x.health.Text {
		return
	}
	h.Since = o.clock.Wall()
	if x.health.Level > edgeagent.OK && h.Level > edgeagent.OK {
		h.Since = x.health.Since
	}
	x.health = h
	if h.Level > edgeagent.OK {
		o.logger.Error("output failed", "output", x.cfg.Name, "error", h.Text, "hint", h.Hint)
	}
}

func (x *output) state() edgeagent.Health {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.health
}

// troubles returns the health of the outputs that are not well.
func (o *outputs) troubles() []edgeagent.Health {
	var out []edgeagent.Health
	for _, x := range o.list {
		if h := x.state(); h.Level > edgeagent.OK {
			out = append(out, h)
		}
	}
	return out
}

func levelOf(high bool) string {
	if high {
		return "high"
	}
	return "low"
}

// SafeOutput is an output that SafeOutputs has seen to.
type SafeOutput struct {
	Name string
	High bool
	Err  error // it could not be set
}

// SafeOutputs sets all outputs of a configuration to their safe state and gives them
// back, for when the agent has died. Each is tried; those that a running agent holds
// are refused. open is for tests; nil: the kernel's lines.
func SafeOutputs(c *configs.Config, open OpenOutput) []SafeOutput {
	if open == nil {
		open = kernelOutputs("/")
	}
	files := make([]rules.File, len(c.RuleFiles))
	for i, f := range c.RuleFiles {
		files[i] = f.File
	}
	out := make([]SafeOutput, len(c.Outputs))
	exits := exitsOf(files)
	for i, cfg := range c.Outputs {
		high := safeLevel(cfg, exits)
		o, err := open(cfg, high)
		if err == nil {
			err = o.Close()
		}
		out[i] = SafeOutput{cfg.Name, high, err}
	}
	return out
}

// exitsOf reads what rules say of the end, without the models and detectors that a
// whole engine needs: this runs when something has gone wrong.
func exitsOf(files []rules.File) []rules.Output {
	var out []rules.Output
	add := func(g *rules.GPIO) {
		if g != nil && g.OnExit != "" {
			out = append(out, rules.Output{Pin: g.Pin, OnExit: g.OnExit})
		}
	}
	for _, f := range files {
		for _, r := range f.Rules {
			for _, a := range r.Do {
				add(a.GPIO)
			}
			for _, a := range r.Undo {
				add(a.GPIO)
			}
		}
	}
	return out
}

// stateOfSensors is the directory of what drivers keep, beside that of the buffer.
func stateOfSensors(buffer string) string {
	return filepath.Join(filepath.Dir(buffer), "sensors-state")
}

// sensorsOf returns what tells a sensor from the pattern of a series: its part before
// the last slash, in which one star may stand for a part of a segment.
func sensorsOf(series string) func(sensor string) bool {
	i := strings.LastIndexByte(series, '/')
	if i < 0 {
		return func(string) bool { return false }
	}
	before, after, star := strings.Cut(series[:i], "*")
	return func(sensor string) bool {
		if !star {
			return sensor == before
		}
		middle, ok := strings.CutPrefix(sensor, before)
		middle, ok2 := strings.CutSuffix(middle, after)
		return ok && ok2 && middle != "" && !strings.Contains(middle, "/")
	}
}
