package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
)

// appender is what the pipeline needs of the buffer.
type appender interface {
	Append(ctx context.Context, rs []edgeagent.Reading) (edgeagent.Seq, error)
	AppendEvents(ctx context.Context, s edgeagent.Stream, evs []edgeagent.Event) (edgeagent.Seq, error)
}

// ruler is what the pipeline needs of the rules engine.
type ruler interface {
	Eval(dst []edgeagent.Event, rs []edgeagent.Reading) []edgeagent.Event
	Tick(dst []edgeagent.Event, now edgeagent.Instant) []edgeagent.Event
	NextTimer() (run time.Duration, ok bool)
}

// maxPendingAlarms bounds the alarms that wait for a buffer that refuses them.
// When it is full the newest is dropped and counted: the oldest says how it began.
const maxPendingAlarms = 256

// pipeline carries readings from the sources through the rules into the buffer. It
// has no queue of its own: each source waits for its own Put, so a slow disk
// slows sampling down and loses nothing.
type pipeline struct {
	buffer appender
	clock  interface {
		Wall() time.Time
		Run() time.Duration
	}
	logger *slog.Logger
	wake   chan struct{} // capacity 1: the next timer may have moved

	mu      sync.Mutex // guards rules and pending; held while alarms are appended, so that they stay in order
	rules   ruler
	pending []edgeagent.Event // alarms not yet accepted, at most maxPendingAlarms

	accepted       atomic.Uint64 // records for which an append returned nil
	refused        atomic.Uint64 // readings for which Append returned an error
	alarms         atomic.Uint64 // alarm transitions raised
	alarmsDropped  atomic.Uint64
	lastRefusal    atomic.Pointer[refusal]
	pendingAlarms  atomic.Int64 // depth gauge of pending
	refusalsLogged atomic.Int64 // Unix s of the last log line about a refusal
}

// refusal is the last error of an append, for health.
type refusal struct {
	err error
	at  time.Time
}

// Put implements sensors.Sink. It returns when the readings, and the alarms they
// raised, are in the buffer.
func (p *pipeline) Put(ctx context.Context, rs []edgeagent.Reading) error {
	p.evaluate(ctx, func(dst []edgeagent.Event) []edgeagent.Event { return p.rules.Eval(dst, rs) })
	if _, err := p.buffer.Append(ctx, rs); err != nil {
		p.refused.Add(uint64(len(rs)))
		p.refuse(err)
		return err
	}
	p.accepted.Add(uint64(len(rs)))
	p.lastRefusal.Store(nil)
	return nil
}

// evaluate runs one step of the rules and appends what it raised. Alarms go first:
// a rule's state may never be ahead of the alarm stream.
func (p *pipeline) evaluate(ctx context.Context, step func([]edgeagent.Event) []edgeagent.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.pending)
	p.pending = step(p.pending)
	p.alarms.Add(uint64(len(p.pending) - before))
	p.appendAlarms(ctx)
	if over := len(p.pending) - maxPendingAlarms; over > 0 {
		p.alarmsDropped.Add(uint64(over))
		p.pending = p.pending[:maxPendingAlarms]
	}
	p.pendingAlarms.Store(int64(len(p.pending)))
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// appendAlarms hands pending alarms to the buffer; what it refuses stays pending
// and is tried again at the next step. Called with mu held.
func (p *pipeline) appendAlarms(ctx context.Context) {
	if len(p.pending) == 0 {
		return
	}
	if _, err := p.buffer.AppendEvents(ctx, edgeagent.StreamAlarm, p.pending); err != nil {
		p.refuse(err)
		return
	}
	for _, ev := range p.pending {
		p.logger.Info("alarm", "id", ev.ID, "state", ev.Attrs["state"], "severity", ev.Severity, "text", ev.Text)
	}
	p.accepted.Add(uint64(len(p.pending)))
	p.pending = p.pending[:0]
}

// refuse remembers an append error for health and logs it at most once in ten
// seconds: a full disk refuses every reading.
func (p *pipeline) refuse(err error) {
	now := time.Now()
	p.lastRefusal.Store(&refusal{err, now})
	last := p.refusalsLogged.Load()
	if now.Unix()-last >= 10 && p.refusalsLogged.CompareAndSwap(last, now.Unix()) {
		p.logger.Error("buffer refused records", "error", err, "refused_so_far", p.refused.Load())
	}
}

// alarmRetry is how long refused alarms wait before they are tried again, when
// nothing else moves the rules.
const alarmRetry = time.Second

// Run moves the rules' timers, so that a rule about a silent sensor fires.
func (p *pipeline) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
			// An alarm that was raised is finished even while the agent stops.
			p.evaluate(context.WithoutCancel(ctx), p.tick)
		}
		timer.Reset(p.untilNext())
	}
}

func (p *pipeline) tick(dst []edgeagent.Event) []edgeagent.Event {
	return p.rules.Tick(dst, edgeagent.Instant{Wall: p.clock.Wall().UnixNano(), Run: int64(p.clock.Run())})
}

// untilNext returns how long to sleep before the rules need to be moved.
func (p *pipeline) untilNext() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := time.Hour
	if at, ok := p.rules.NextTimer(); ok {
		wait = at - p.clock.Run()
	}
	if len(p.pending) > 0 {
		wait = min(wait, alarmRetry)
	}
	// Never spin, whatever the rules say: 5 ms is finer than any rule needs.
	return max(wait, 5*time.Millisecond)
}
