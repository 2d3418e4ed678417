package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/rules"
)

// appender is what the pipeline needs of the buffer.
type appender interface {
	Append(ctx context.Context, rs []edgeagent.Reading) (edgeagent.Seq, error)
	AppendEvents(ctx context.Context, s edgeagent.Stream, evs []edgeagent.Event) (edgeagent.Seq, error)
	Capture(rs []edgeagent.Reading) (parts [][]byte, thinned bool, err error)
}

// ruler is what the pipeline needs of the rules engine.
type ruler interface {
	Eval(dst []edgeagent.Event, rs []edgeagent.Reading) []edgeagent.Event
	Tick(dst []edgeagent.Event, now edgeagent.Instant) []edgeagent.Event
	NextTimer() (run time.Duration, ok bool)
}

// actor is what the pipeline needs of rules that do more than raise alarms.
type actor interface {
	Effects(dst []rules.Effect) []rules.Effect
	SetSynced(synced bool)
}

// maxPendingAlarms bounds the alarms that wait for a buffer that refuses them.
// When it is full the newest is dropped and counted: the oldest says how it began.
const maxPendingAlarms = 256

// maxAppend is how many readings go to the buffer in one call: it stores that many
// or none, so that what was accepted can be counted.
const maxAppend = 4096

const (
	// alarmRetry is how long refused alarms wait before they are tried again.
	alarmRetry = time.Second
	// leastTick keeps the timers from spinning whatever the rules say: 5 ms is
	// finer than any rule needs.
	leastTick = 5 * time.Millisecond
	// mostTick bounds the sleep between two looks at the rules.
	mostTick = time.Hour
	// logPause is the least time between two log lines about the same trouble: a
	// full disk refuses every reading.
	logPause = 10 * time.Second
)

// pipeline carries readings from the sources through the rules into the buffer. It
// has no queue of its own: each source waits for its own Put, so a slow disk
// slows sampling down and loses nothing.
//
// Lock order: turn, then mu. Whoever only looks takes mu and never waits for the
// disk.
type pipeline struct {
	buffer appender
	clock  timeSource
	logger *slog.Logger
	wake   chan struct{} // capacity 1: Run has to look before the time it sleeps until
	keeper *keeper       // nil: the rules' state is not kept
	shaper *shaper       // nil: every reading is stored
	relief *relief       // nil: every reading is stored, however full the buffer is
	carry  effector      // nil: effects are dropped

	turn    sync.Mutex        // held over a step of the rules and the append of its alarms, so that they stay in order
	effects []rules.Effect    // guarded by turn
	pending []edgeagent.Event // guarded by turn; alarms not yet accepted, at most maxPendingAlarms

	captures captures

	mu         sync.Mutex // guards what follows; not held while the disk works
	rules      ruler
	sleepUntil time.Duration // run time at which Run looks again

	accepted      atomic.Uint64 // records for which an append returned nil
	refused       atomic.Uint64 // readings for which Append returned an error
	alarms        atomic.Uint64 // alarm transitions raised
	alarmsDropped atomic.Uint64
	pendingAlarms atomic.Int64 // depth gauge of pending
	panics        atomic.Uint64

	lastRefusal  atomic.Pointer[refusal] // of readings; nil after an append that went well
	alarmRefusal atomic.Pointer[refusal] // why alarms are pending; nil when none are
	// captureRefusal is why captures are pending.
	captureRefusal atomic.Pointer[refusal]
	lastPanic      atomic.Pointer[refusal] // of the rules

	refusalLog, panicLog pause
}

// timeSource is what the pipeline needs of the clock.
type timeSource interface {
	Wall() time.Time
	Run() time.Duration
}

// refusal is an error that health shows.
type refusal struct {
	err error
	at  edgeagent.Instant
}

func newPipeline(b appender, r ruler, c timeSource, logger *slog.Logger) *pipeline {
	return &pipeline{buffer: b, rules: r, clock: c, logger: logger, wake: make(chan struct{}, 1)}
}

func (p *pipeline) now() edgeagent.Instant {
	return edgeagent.Instant{Wall: p.clock.Wall().UnixNano(), Run: int64(p.clock.Run())}
}

// Put implements sensors.Sink. It returns when the readings, and the alarms they
// raised, are in the buffer.
func (p *pipeline) Put(ctx context.Context, rs []edgeagent.Reading) error {
	p.evaluate(ctx, func(dst []edgeagent.Event) []edgeagent.Event { return p.rules.Eval(dst, rs) })
	return p.store(ctx, p.relief.thin(p.shaper.shape(rs)))
}

// store hands readings to the buffer.
func (p *pipeline) store(ctx context.Context, rs []edgeagent.Reading) error {
	var invalid error // of readings that no buffer will take; the others go on
	for len(rs) > 0 {
		part := rs[:min(len(rs), maxAppend)]
		taken, err := p.appendReadings(ctx, part)
		p.accepted.Add(uint64(taken))
		if err != nil && !errors.Is(err, buffer.ErrInvalid) {
			p.refused.Add(uint64(len(rs) - taken))
			p.refuse(&p.lastRefusal, err)
			return err
		}
		invalid = cmp.Or(invalid, err)
		p.refused.Add(uint64(len(part) - taken))
		rs = rs[len(part):]
	}
	if invalid != nil {
		p.refuse(&p.lastRefusal, invalid)
		return invalid
	}
	p.lastRefusal.Store(nil)
	return nil
}

// appendReadings hands readings to the buffer and returns how many it took. The
// buffer takes all or none; when it refuses some for what they are, halving finds
// them in few steps, and the others are stored.
func (p *pipeline) appendReadings(ctx context.Context, rs []edgeagent.Reading) (taken int, err error) {
	_, err = p.buffer.Append(ctx, rs)
	switch {
	case err == nil:
		return len(rs), nil
	case len(rs) == 1 || !errors.Is(err, buffer.ErrInvalid):
		return 0, err
	}
	first, err := p.appendReadings(ctx, rs[:len(rs)/2])
	if err != nil && !errors.Is(err, buffer.ErrInvalid) {
		return first, err
	}
	second, err2 := p.appendReadings(ctx, rs[len(rs)/2:])
	if err2 != nil && !errors.Is(err2, buffer.ErrInvalid) {
		err = err2
	}
	return first + second, cmp.Or(err, err2)
}

// evaluate runs one step of the rules and appends what it raised. Alarms go first:
// a rule's state may never be ahead of the alarm stream.
func (p *pipeline) evaluate(ctx context.Context, step func([]edgeagent.Event) []edgeagent.Event) {
	p.turn.Lock()
	defer p.turn.Unlock()
	before := len(p.pending)
	p.pending = p.move(p.pending, step)
	p.alarms.Add(uint64(len(p.pending) - before))
	p.appendAlarms(ctx)
	if len(p.pending) > maxPendingAlarms {
		p.dropAlarms(maxPendingAlarms)
	}
	p.pendingAlarms.Store(int64(len(p.pending)))
	p.takeEffects()
	p.takeCaptures()
	p.appendCaptures(ctx)
	if len(p.pending) == 0 { // alarm and capture first, then the journal
		p.keeper.step(p.now())
	}
	if len(p.effects) > 0 && p.carry != nil {
		p.carry.Carry(ctx, p.effects)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next() < p.sleepUntil {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// takeEffects takes what the rules want done besides alarms. Called with turn held.
func (p *pipeline) takeEffects() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok := p.rules.(actor); ok {
		clear(p.effects)
		p.effects = a.Effects(p.effects[:0])
	}
}

// move runs one step of the rules. Rules that panic must not take the readings
// with them: the step is given up, what it raised is lost, and health says so.
func (p *pipeline) move(dst []edgeagent.Event, step func([]edgeagent.Event) []edgeagent.Event) (out []edgeagent.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		out = dst
		p.panics.Add(1)
		err := &panicError{v, debug.Stack()}
		p.lastPanic.Store(&refusal{err, p.now()})
		if p.panicLog.over(p.clock.Run()) {
			p.logger.Error("rules panicked", "error", err, "stack", string(err.stack), "panics", p.panics.Load())
		}
	}()
	return step(dst)
}

// appendAlarms hands pending alarms to the buffer; what it refuses stays pending
// and is tried again at the next step. Called with turn held.
func (p *pipeline) appendAlarms(ctx context.Context) {
	if len(p.pending) == 0 {
		return
	}
	_, err := p.buffer.AppendEvents(ctx, edgeagent.StreamAlarm, p.pending)
	switch {
	case err == nil:
		p.alarmsTaken(len(p.pending))
	case errors.Is(err, buffer.ErrInvalid):
		p.appendOneByOne(ctx)
	default:
		p.refuse(&p.alarmRefusal, err)
	}
}

// appendOneByOne appends pending alarms singly, so that one which the buffer can
// never take does not hold up those behind it; that one is given up. Called with
// turn held.
func (p *pipeline) appendOneByOne(ctx context.Context) {
	for len(p.pending) > 0 {
		_, err := p.buffer.AppendEvents(ctx, edgeagent.StreamAlarm, p.pending[:1])
		switch {
		case err == nil:
			p.alarmsTaken(1)
		case errors.Is(err, buffer.ErrInvalid):
			p.alarmsDropped.Add(1)
			p.logger.Error("alarm cannot be stored", "id", p.pending[0].ID, "error", err)
			p.pending = slices.Delete(p.pending, 0, 1)
		default:
			p.refuse(&p.alarmRefusal, err)
			return
		}
	}
}

// alarmsTaken notes that the buffer has accepted the first n pending alarms. Called
// with turn held.
func (p *pipeline) alarmsTaken(n int) {
	for _, ev := range p.pending[:n] {
		p.logger.Info("alarm", "id", ev.ID, "state", ev.Attrs["state"], "severity", ev.Severity, "text", ev.Text)
	}
	p.accepted.Add(uint64(n))
	p.alarmRefusal.Store(nil)
	p.pending = slices.Delete(p.pending, 0, n) // clears their texts, too
}

// dropAlarms gives up all pending alarms but the oldest keep. Called with turn
// held.
func (p *pipeline) dropAlarms(keep int) {
	p.alarmsDropped.Add(uint64(len(p.pending) - keep))
	clear(p.pending[keep:])
	p.pending = p.pending[:keep]
}

// refuse remembers an append error for health, and logs it now and then.
func (p *pipeline) refuse(last *atomic.Pointer[refusal], err error) {
	last.Store(&refusal{err, p.now()})
	if p.refusalLog.over(p.clock.Run()) {
		p.logger.Error("buffer refused records", "error", err,
			"readings_refused", p.refused.Load(), "alarms_dropped", p.alarmsDropped.Load())
	}
}

// Run moves the rules' timers, so that a rule about a silent sensor fires, and
// tries refused alarms again. It ends with a last attempt.
func (p *pipeline) Run(ctx context.Context) error {
	// An alarm that was raised is finished even while the agent stops.
	work := context.WithoutCancel(ctx)
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			p.finish(work)
			return nil
		case <-p.wake:
		case <-t.C:
			p.evaluate(work, p.tick)
			_ = p.store(work, p.shaper.due(p.now())) // counted and logged there
		}
		t.Reset(p.sleep())
	}
}

func (p *pipeline) tick(dst []edgeagent.Event) []edgeagent.Event {
	clock, knows := p.clock.(interface{ Synced() bool })
	if a, ok := p.rules.(actor); ok && knows {
		a.SetSynced(clock.Synced())
	}
	return p.rules.Tick(dst, p.now())
}

// finish tries what is pending for the last time. What the buffer still refuses is
// lost with the process, and counted.
func (p *pipeline) finish(ctx context.Context) {
	if err := p.store(ctx, p.shaper.rest()); err != nil {
		p.logger.Error("summaries at the end are not stored", "error", err)
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	p.appendAlarms(ctx)
	if len(p.pending) == 0 {
		defer p.keeper.close(p.now())
	}
	if n := len(p.pending); n > 0 {
		p.logger.Error("alarms are lost, the buffer refused them to the end", "alarms", n)
		p.dropAlarms(0)
	}
	p.pendingAlarms.Store(0)
	p.appendCaptures(ctx)
	p.dropCaptures()
}

// sleep returns how long Run may sleep, and notes until when that is.
func (p *pipeline) sleep() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sleepUntil = p.next()
	return p.sleepUntil - p.clock.Run()
}

// next returns the run time at which the rules have to be moved, readings or not.
// Called with mu held.
func (p *pipeline) next() time.Duration {
	now := p.clock.Run()
	at := now + mostTick
	if due, ok := p.rules.NextTimer(); ok {
		at = min(at, due)
	}
	if due, ok := p.shaper.next(); ok {
		at = min(at, due)
	}
	if p.keeper != nil {
		at = min(at, now+p.keeper.every())
	}
	if p.pendingAlarms.Load() > 0 || p.captures.depth.Load() > 0 {
		at = min(at, now+alarmRetry)
	}
	return max(at, now+leastTick)
}

// pause keeps a log line from repeating.
type pause struct{ last atomic.Int64 } // run time of the last line, ns; 0: none yet

// over reports whether a line is due at the run time now, and takes it to be
// written if so.
func (p *pause) over(now time.Duration) bool {
	last := p.last.Load()
	if last != 0 && now-time.Duration(last) < logPause {
		return false
	}
	return p.last.CompareAndSwap(last, max(int64(now), 1))
}
