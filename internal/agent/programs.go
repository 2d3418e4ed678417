package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/rules"
	"github.com/edgeagent/edgeagent/sensors/exec"
)

const (
	// maxWaitingPrograms bounds the programs that wait for their turn. What comes
	// when it is full is dropped and counted: the oldest says how it began.
	maxWaitingPrograms = 64
	// maxPrograms is how many run at a time, whatever max_parallel says.
	maxPrograms = 8
	// programBurst programs of a name start at once; then one each programEvery, so
	// that a rule that flaps does not keep the machine busy starting processes.
	programBurst = 10
	programEvery = 2 * time.Second
	// programTimeout is for actions without a timeout.
	programTimeout = 10 * time.Second
	// maxProgramOutput is kept of what a program prints, for the log.
	maxProgramOutput = 4 << 10
)

// programs runs what the actions exec of rules name. Nothing is run again after a
// restart: an action is not a state.
type programs struct {
	clock  clock.Clock
	logger *slog.Logger
	run    func(ctx context.Context, p exec.Program) ([]byte, error)
	wake   chan struct{} // capacity 1

	depth   atomic.Int64 // gauge of waiting
	started atomic.Uint64
	failed  atomic.Uint64
	dropped atomic.Uint64
	last    atomic.Pointer[refusal] // of the program that failed last
	pause   pause

	mu      sync.Mutex // guards what follows
	waiting []rules.Effect
	running map[string]int
	total   int
	tokens  map[string]bucket // as many as the rule files name
}

// bucket is what a program may still start.
type bucket struct {
	left float64
	at   time.Duration
}

func newPrograms(c clock.Clock, logger *slog.Logger) *programs {
	return &programs{
		clock: c, logger: logger, wake: make(chan struct{}, 1),
		run:     func(ctx context.Context, p exec.Program) ([]byte, error) { return p.Run(ctx) },
		running: map[string]int{}, tokens: map[string]bucket{},
	}
}

// add has a program run when its turn comes. It does not block.
func (p *programs) add(x rules.Effect) {
	p.mu.Lock()
	full := len(p.waiting) >= maxWaitingPrograms
	if !full {
		p.waiting = append(p.waiting, x)
		p.depth.Store(int64(len(p.waiting)))
	}
	p.mu.Unlock()
	if full {
		n := p.dropped.Add(1)
		if p.pause.over(p.clock.Run()) {
			p.logger.Error("program not run, too many wait", "rule", x.Rule, "program", x.Run.Name, "dropped", n)
		}
		return
	}
	p.nudge()
}

func (p *programs) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run starts programs until ctx ends, which kills those that still run, and waits
// for them.
func (p *programs) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-t.C:
		}
		for {
			x, wait, ok := p.next()
			if !ok {
				t.Reset(wait)
				break
			}
			wg.Go(func() { p.execute(ctx, x) })
		}
	}
}

// next takes the first program whose turn it is. Without one it says how long to
// wait at most before looking again.
func (p *programs) next() (x rules.Effect, wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, wait := p.clock.Run(), time.Hour
	if p.total >= maxPrograms {
		return x, wait, false // who ends looks again
	}
	for i, x := range p.waiting {
		name := x.Run.Name
		if p.running[name] >= max(x.Run.MaxParallel, 1) {
			continue
		}
		if p.refill(name, now) < 1 {
			wait = min(wait, programEvery)
			continue
		}
		b := p.tokens[name]
		b.left--
		p.tokens[name] = b
		p.running[name]++
		p.total++
		p.waiting = slices.Delete(p.waiting, i, i+1)
		p.depth.Store(int64(len(p.waiting)))
		return x, 0, true
	}
	return x, wait, false
}

// refill returns how many programs of a name may start now. Called with mu held.
func (p *programs) refill(name string, now time.Duration) float64 {
	b, seen := p.tokens[name]
	if !seen {
		b = bucket{left: programBurst}
	} else {
		b.left = min(b.left+float64(now-b.at)/float64(programEvery), programBurst)
	}
	b.at = now
	p.tokens[name] = b
	return b.left
}

// execute runs one program to its end.
func (p *programs) execute(ctx context.Context, x rules.Effect) {
	timeout := x.Run.Timeout
	if timeout <= 0 {
		timeout = programTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p.started.Add(1)
	begun := p.clock.Run()
	out, err := p.run(ctx, exec.Program{
		Path: x.Run.Path, Args: x.Run.Args, User: x.Run.User, MaxOutput: maxProgramOutput,
		Env: []string{"EDGEAGENT_RULE=" + x.Rule, "EDGEAGENT_INSTANCE=" + x.Instance, "EDGEAGENT_ALARM=" + x.Alarm},
	})
	args := []any{"rule", x.Rule, "alarm", x.Alarm, "program", x.Run.Name, "took", p.clock.Run() - begun}
	if err == nil {
		p.last.Store(nil)
		p.logger.Info("program has run", append(args, "output", string(out[:min(len(out), 200)]))...)
	} else {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("not done within %s: %w", timeout, err)
		}
		p.failed.Add(1)
		p.last.Store(&refusal{fmt.Errorf("program %s of rule %s: %w", x.Run.Name, x.Rule, err), edgeagent.Instant{Wall: p.clock.Wall().UnixNano()}})
		p.logger.Warn("program failed", append(args, "error", err)...)
	}
	p.mu.Lock()
	p.running[x.Run.Name]--
	p.total--
	p.mu.Unlock()
	p.nudge()
}

// troubles says what is wrong with programs.
func (p *programs) troubles() []edgeagent.Health {
	var out []edgeagent.Health
	if r := p.last.Load(); r != nil {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Degraded, Code: "program-failed", Since: time.Unix(0, r.at.Wall), Text: r.err.Error(), Hint: hintOf(r.err),
		})
	}
	if n := p.dropped.Load(); n > 0 {
		out = append(out, edgeagent.Health{
			Level: edgeagent.Degraded, Code: "programs-dropped",
			Text: fmt.Sprintf("%d programs of rules were not run because too many waited", n), Hint: "give the rule a cooldown, or raise max_parallel of the program",
		})
	}
	return out
}
