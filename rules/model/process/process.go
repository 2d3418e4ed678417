package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Bounds of the wait before the next attempt, and how long a connection has to last
// for the wait to begin anew.
const (
	firstWait = time.Second
	lastWait  = time.Minute
	lasting   = time.Minute
)

// Process is a model in a process of its own. Make one with [New].
type Process struct {
	name   string
	cfg    Config
	logger *slog.Logger
	dial   func(ctx context.Context) (net.Conn, error)
	wake   chan struct{} // one place: the sender has something to look at

	mu     sync.Mutex // guards what follows, and all questions
	queue  queue
	calls  int
	up     bool
	why    error // why it is not up
	since  time.Time
	starts uint64
}

// New returns a process that [Process.Run] will connect to. name is the model's in
// rules, for logs and health.
func New(name string, cfg Config, logger *slog.Logger) (*Process, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	cfg = cfg.withDefaults()
	var d net.Dialer
	return &Process{
		name: name, cfg: cfg, logger: logger.With("model", name),
		dial:  func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", cfg.Socket) },
		wake:  make(chan struct{}, 1),
		queue: newQueue(cfg.Timeout, cfg.MaxAge),
		why:   errNotYet,
		since: time.Now(),
	}, nil
}

var errNotYet = errors.New("not connected yet")

// Call is one place of a rule that asks the model. It is for one goroutine at a
// time.
type Call struct {
	p *Process
	q question
}

// ErrCalls is the error of more calls than a process takes.
var ErrCalls = fmt.Errorf("more than %d places ask this model", maxCalls)

// Call returns a new place to ask from. There may be 256; they are never given
// back.
func (p *Process) Call() (*Call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == maxCalls {
		return nil, fmt.Errorf("model %s: %w", p.name, ErrCalls)
	}
	p.calls++
	return &Call{p, question{x: make([]float64, p.cfg.Features)}}, nil
}

// Features returns how many numbers Eval takes.
func (c *Call) Features() int { return c.p.cfg.Features }

// Eval hands x over, to be scored in its own time, and returns the latest score of
// this call, if it is not older than MaxAge. ok is false, and the score NaN, when
// there is none, or when the model had no answer to what it was asked last. Eval
// neither blocks nor keeps x and allocates nothing.
func (c *Call) Eval(x []float64) (score float64, ok bool) {
	if len(x) != c.p.cfg.Features {
		return math.NaN(), false
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	score, ok, wake := c.p.queue.ask(&c.q, x, time.Now())
	if wake {
		c.p.signal()
	}
	return score, ok
}

// Run connects to the model, starts it if it is told how, and asks what the calls
// hand over, until ctx ends; then it returns nil. It is called once.
func (p *Process) Run(ctx context.Context) error {
	wait := firstWait
	for {
		began := time.Now()
		err := p.attempt(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > lasting {
			wait = firstWait
		}
		p.failed(ctx, err, wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		// Jitter: several models that fell together do not rise together.
		wait = min(lastWait, wait+time.Duration(rand.Int64N(int64(wait)))+wait/2)
	}
}

// attempt is one life of the connection, and of the process.
func (p *Process) attempt(ctx context.Context) error {
	p.mu.Lock()
	p.starts++
	p.mu.Unlock()
	if len(p.cfg.Command) == 0 {
		conn, err := p.dial(ctx)
		if err != nil {
			return fmt.Errorf("connect to the model: %w", err)
		}
		return p.talk(ctx, conn)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	c, err := p.start(ctx, &wg)
	if err != nil {
		return err
	}
	defer c.stdin.Close()
	conn, err := p.dialChild(ctx, c)
	if err != nil {
		return err
	}
	err = p.talk(ctx, conn)
	if ctx.Err() == nil && c.gone() {
		return c.ended()
	}
	return err
}

// gone reports whether the process has ended, or does within a moment: the end of its
// connection is seen before its own.
func (c *child) gone() bool {
	t := time.NewTimer(dialEvery)
	defer t.Stop()
	select {
	case <-c.done:
		return true
	case <-t.C:
		return false
	}
}

// dialChild waits until the started process listens.
func (p *Process) dialChild(ctx context.Context, c *child) (net.Conn, error) {
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	tick := time.NewTicker(dialEvery)
	defer tick.Stop()
	for {
		conn, err := p.dial(ctx)
		if err == nil {
			return conn, nil
		}
		select {
		case <-c.done:
			return nil, c.ended()
		case <-limit.C:
			return nil, fmt.Errorf("the model's process does not listen after %v: %w", startTimeout, err)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func (p *Process) connected() {
	p.mu.Lock()
	p.up, p.why, p.since = true, nil, time.Now()
	p.mu.Unlock()
	p.logger.Info("model connected", "socket", p.cfg.Socket)
	p.signal()
}

func (p *Process) disconnected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue.lost()
	p.up, p.since = false, time.Now()
}

// failed notes and logs why an attempt ended: a new reason as a warning, the same
// again for those who look closer.
func (p *Process) failed(ctx context.Context, err error, wait time.Duration) {
	p.mu.Lock()
	level := slog.LevelWarn
	if p.why != nil && p.why.Error() == err.Error() {
		level = slog.LevelDebug
	}
	p.why = err
	p.mu.Unlock()
	p.logger.Log(ctx, level, "model not available, trying again", "error", err, "wait", wait)
}

// manyErrors is how many errors in a row make a model unhealthy.
const manyErrors = 3

// Health is degraded while the model is not connected or refuses to score. Rules go
// on; to them its scores are unknown.
func (p *Process) Health() edgeagent.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.up:
		h := edgeagent.Health{
			Level: edgeagent.Degraded, Code: "model-down", Since: p.since,
			Text: fmt.Sprintf("model %s: %v", p.name, p.why),
			Hint: "see that the model's process runs and listens at " + p.cfg.Socket,
		}
		if hinter, ok := errors.AsType[edgeagent.Hinter](p.why); ok {
			h.Hint = hinter.Hint()
		}
		return h
	case p.queue.failing >= manyErrors:
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "model-errors", Since: p.since,
			Text: fmt.Sprintf("model %s answers with errors: %s", p.name, p.queue.said),
			Hint: "look at the log of the model's process",
		}
	}
	return edgeagent.Health{}
}

// Stats are counters since the start, and gauges.
type Stats struct {
	Connected  bool
	Attempts   uint64 // to connect, or to start the process
	Calls      int    // places that ask
	Waiting    int    // gauge: questions that wait, at most one a call
	InFlight   int    // gauge: at most 8
	Asked      uint64
	Answered   uint64
	Errors     uint64        // answers that were errors
	Timeouts   uint64        // connections that ended because an answer was overdue
	Lost       uint64        // questions in flight when a connection ended
	Superseded uint64        // questions that a newer one of the same call replaced
	Expired    uint64        // questions that waited for longer than MaxAge
	Latency    time.Duration // of the last answer
}

// Stats returns counters and gauges.
func (p *Process) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.queue.stats
	s.Connected, s.Attempts, s.Calls = p.up, p.starts, p.calls
	s.Waiting, s.InFlight = len(p.queue.waiting), len(p.queue.flights)
	return s
}
