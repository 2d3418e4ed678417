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

	mu               sync.Mutex // guards what follows, and all questions
	queue            queue
	scorers, refused int
	up               bool
	why              error // why it is not up
	since            time.Time
	starts           uint64
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

// Features returns how many numbers a scorer takes.
func (p *Process) Features() int { return p.cfg.Features }

// Scorer returns a function for one place that asks the model. It hands x over, to
// be scored in its own time, and returns the latest score of this place, or NaN when
// there is none that counts: none came yet, it is older than MaxAge, the model had no
// answer to what it was asked last, or len(x) is not Features. It neither blocks nor
// keeps x, allocates nothing, and is for one goroutine at a time.
//
// There may be 1,024; they are never given back. Those beyond have no score, and
// Health says so.
func (p *Process) Scorer() func(x []float64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.scorers == maxScorers {
		p.refused++
		return func([]float64) float64 { return math.NaN() }
	}
	p.scorers++
	q := &question{x: make([]float64, p.cfg.Features)}
	return func(x []float64) float64 { return p.score(q, x) }
}

func (p *Process) score(q *question, x []float64) float64 {
	if len(x) != len(q.x) {
		return math.NaN()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	score, wake := p.queue.ask(q, x, time.Now())
	if wake {
		p.signal()
	}
	return score
}

// Run connects to the model, starts it if it is told how, and asks what the
// scorers hand over, until ctx ends; then it returns nil. It is called once.
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
	case p.refused > 0:
		return edgeagent.Health{
			Level: edgeagent.Degraded, Code: "model-scorers", Since: p.since,
			Text: fmt.Sprintf("model %s is asked from more than %d places; %d have no score", p.name, maxScorers, p.refused),
			Hint: "let fewer rules and instances use model(...)",
		}
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
	Scorers    int    // places that ask
	Refused    int    // places beyond 1,024, which have no score
	Waiting    int    // gauge: questions that wait, at most one a scorer
	InFlight   int    // gauge: at most 8
	Asked      uint64
	Answered   uint64
	Errors     uint64        // answers that were errors
	Timeouts   uint64        // connections that ended because an answer was overdue
	Lost       uint64        // questions in flight when a connection ended
	Superseded uint64        // questions that a newer one of the same scorer replaced
	Expired    uint64        // questions that waited for longer than MaxAge
	Latency    time.Duration // of the last answer
}

// Stats returns counters and gauges.
func (p *Process) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.queue.stats
	s.Connected, s.Attempts, s.Scorers, s.Refused = p.up, p.starts, p.scorers, p.refused
	s.Waiting, s.InFlight = len(p.queue.waiting), len(p.queue.flights)
	return s
}
