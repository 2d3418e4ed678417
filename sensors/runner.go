package sensors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
)

const (
	// stuckSlack is how long after its deadline a call counts as stuck.
	stuckSlack = 100 * time.Millisecond
	// partialHold is how long a source stays degraded after a sample that lost a
	// part, so that somebody who looks sees it.
	partialHold = time.Minute
	// staleAfter is how many samples fail in a row before the last values are given
	// once more, as stale: one may be a glitch.
	staleAfter = 2
	// reopenAfter is how many samples fail in a row before the source is closed
	// and opened anew: what is behind it may have been unplugged and come back.
	reopenAfter = 3
	// pacedErrorWait keeps a Paced source that fails without end from spinning.
	pacedErrorWait = 10 * time.Millisecond
)

// runner drives one source: one goroutine, which calls the driver itself. When the
// driver hangs, that goroutine hangs with it and nothing else does; the watchdog
// timer says so.
type runner struct {
	cfg    Config
	open   func(ctx context.Context) (Source, error)
	sink   Sink
	clock  clock.Clock
	log    *slog.Logger
	putCtx context.Context

	// Used by the runner's goroutine only.
	src     Source
	cond    *conditioner // nil: readings pass as they are
	buf     []edgeagent.Reading
	own     grid          // of the configured interval
	grid    grid          // the one that counts; changed with mu held
	served  time.Duration // run time of the last sample
	retry   backoff
	failing int // samples failed in a row since open
	timer   *time.Timer
	kick    chan struct{} // capacity 1: the interval has become shorter

	mu        sync.Mutex // guards what follows
	st        SourceStats
	inCall    bool                     // a call into the driver is under way
	callEnds  time.Duration            // its deadline, run time
	paced     bool                     // the source has no ticks to miss
	abandoned bool                     // Run has given up on the call
	holdUntil time.Duration            // degraded until then, see partialHold
	faster    map[string]time.Duration // see Scheduler.Faster
}

func newRunner(spec Spec, sink Sink, opts Options) *runner {
	cfg := spec.Config.WithDefaults()
	return &runner{
		cfg: cfg, open: spec.Open, sink: sink, clock: opts.Clock, kick: make(chan struct{}, 1),
		log: opts.Logger.With("sensor", cfg.Name, "driver", cfg.Driver), cond: newConditioner(cfg.Conditioning),
		st: SourceStats{
			Name: cfg.Name, Driver: cfg.Driver, Interval: cfg.Interval,
			Health: edgeagent.Health{Code: CodeStarting, Text: "not sampled yet", Since: opts.Clock.Wall()},
		},
	}
}

// run opens the source and samples it until ctx ends or the source does.
func (r *runner) run(ctx, putCtx context.Context, start time.Duration) {
	r.putCtx = putCtx
	r.own = newGrid(start, r.cfg.Interval, r.cfg.Name)
	r.grid = r.own
	r.served = start
	r.timer = time.NewTimer(0)
	defer r.timer.Stop()
	defer r.close(ctx)
	for ctx.Err() == nil {
		wait, ended := r.step(ctx)
		if ended || !r.sleep(ctx, wait) {
			return
		}
	}
}

// step opens the source if need be, samples it once, and returns the run time of
// the next step. ended means that there is none.
func (r *runner) step(ctx context.Context) (next time.Duration, ended bool) {
	if r.src == nil {
		if err := r.openSource(ctx); err != nil {
			return r.clock.Run() + r.retry.next(rand.Float64()), false
		}
	}
	got, err := r.sample(ctx)
	switch {
	case errors.Is(err, ErrEnd):
		r.ended(err)
		return 0, true
	case err != nil && ctx.Err() != nil: // cut short by the end of Run: no failure
		return 0, true
	case err != nil:
		return r.failed(ctx, got, err), false
	}
	r.succeeded()
	return r.nextTick(r.clock.Run()), false
}

// nextTick returns when to sample again after a sample that went well at now.
func (r *runner) nextTick(now time.Duration) time.Duration {
	if p, ok := r.src.(Paced); ok {
		return now + max(p.Next(), 0)
	}
	r.pace(now)
	return r.grid.after(now)
}

// failed notes an error of a sample that gave got readings nonetheless, and
// returns when to try again.
func (r *runner) failed(ctx context.Context, got int, err error) time.Duration {
	now := r.clock.Run()
	paced, isPaced := r.src.(Paced)
	if got > 0 {
		r.retry.reset()
		r.failing = 0
		r.fail(CodePartial, err)
		return r.nextTick(now)
	}
	code := CodeFailing
	if _, crashed := errors.AsType[*panicError](err); crashed {
		code = CodePanic
	}
	r.fail(code, err)
	r.failing++
	if r.failing == staleAfter && !isPaced {
		r.goStale()
	}
	if code == CodePanic || (r.failing >= reopenAfter && !isPaced) {
		r.close(ctx)
		r.failing = 0
		return now + r.retry.next(rand.Float64())
	}
	if isPaced { // it knows best when to go on: a bad line is no reason to stop
		return now + max(paced.Next(), pacedErrorWait)
	}
	return max(r.grid.after(now), now+r.retry.next(rand.Float64()))
}

// goStale gives the last values once more, as that, so that nobody takes them for fresh
// ones; those that are stale already are left. Of a source with more than 32 series the
// others are left, too.
func (r *runner) goStale() {
	at := edgeagent.Instant{Wall: r.clock.Wall().UnixNano(), Run: int64(r.clock.Run())}
	r.mu.Lock()
	sampled := r.st.LastSample
	rs := make([]edgeagent.Reading, 0, len(r.st.Last))
	for _, x := range r.st.Last {
		if x.Quality == edgeagent.Stale {
			continue
		}
		x.At, x.Quality, x.Recorded = at, edgeagent.Stale, false
		rs = append(rs, x)
	}
	r.mu.Unlock()
	if err := r.deliver(rs); err != nil {
		r.log.Debug("stale values not handed on", "error", err) // and counted as dropped
	}
	r.mu.Lock()
	r.st.LastSample = sampled
	r.mu.Unlock()
}

// sleep waits until the run time at and reports whether ctx still lives.
func (r *runner) sleep(ctx context.Context, at time.Duration) bool {
	d := at - r.clock.Run()
	if d <= 0 {
		return ctx.Err() == nil
	}
	kick := r.kick
	if r.src == nil || r.failing > 0 {
		kick = nil // back-off goes before haste
	}
	r.timer.Reset(d)
	select {
	case <-ctx.Done():
		return false
	case <-kick:
	case <-r.timer.C:
	}
	return true
}

func (r *runner) openSource(ctx context.Context) error {
	var src Source
	err := r.call(ctx, func(ctx context.Context) (err error) {
		src, err = r.open(ctx)
		return err
	})
	if err == nil && src == nil {
		err = errors.New("driver returned no source")
	}
	if _, paced := src.(Paced); err == nil && paced && r.cfg.Samples > 1 {
		err = edgeagent.WithHint(errors.New("this source keeps its own time: there are no samples to take more of"),
			"remove the key samples of this sensor")
		r.src = src
		r.close(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.fail(CodeOpen, fmt.Errorf("open: %w", err))
		}
		return err
	}
	r.src = src
	return nil
}

// sample samples once, hands on what can be used, and returns how many readings
// that were. An error does not mean that there were none.
func (r *runner) sample(ctx context.Context) (got int, err error) {
	r.countSample()
	r.buf = r.buf[:0] // a panic leaves it as it is here
	err = r.call(ctx, func(ctx context.Context) (err error) {
		r.buf, err = r.measure(ctx)
		return err
	})
	given := len(r.buf)
	rs, refused := r.refuse(r.buf)
	if r.cond != nil {
		r.cond.apply(rs)
	}
	if err == nil {
		err = refused
	}
	put := r.deliver(rs)
	if s, ok := r.src.(Informed); ok && given > 0 {
		s.Taken(errors.Join(refused, put))
	}
	return len(rs), errors.Join(err, put)
}

// measure takes what one reading is made of: one sample, or several.
func (r *runner) measure(ctx context.Context) ([]edgeagent.Reading, error) {
	if r.cond != nil {
		return r.cond.sample(ctx, r.src, r.buf)
	}
	return r.src.Sample(ctx, r.buf)
}

// countSample counts the sample that is about to be taken, and the ticks that
// have passed without one.
func (r *runner) countSample() {
	now := r.clock.Run()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.st.Samples++
	if _, r.paced = r.src.(Paced); !r.paced {
		r.st.Missed += max(r.grid.ticks(r.served, now), 1) - 1
	}
	r.served = now
}

// call runs one call into the driver with the sample's deadline. Whatever the
// driver does, the caller gets an error at worst.
func (r *runner) call(ctx context.Context, f func(ctx context.Context) error) (err error) {
	callCtx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	r.mu.Lock()
	r.inCall, r.callEnds = true, r.clock.Run()+r.cfg.Timeout
	r.mu.Unlock()
	watch := time.AfterFunc(r.cfg.Timeout+stuckSlack, r.markStuck)
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p}
			r.log.Debug("driver panicked", "panic", p, "stack", string(debug.Stack()))
		}
		watch.Stop()
		r.mu.Lock()
		r.inCall = false
		r.mu.Unlock()
	}()
	err = f(callCtx)
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s: %w", r.cfg.Timeout, err)
	}
	return err
}

// panicError is a panic of a driver.
type panicError struct{ value any }

func (p *panicError) Error() string { return fmt.Sprintf("driver panicked: %v", p.value) }
func (p *panicError) Hint() string {
	return "this is a mistake in the driver; run with --log-level debug for its stack and report it"
}

// refuse takes out the readings that no driver should give, in place, and returns
// the others.
func (r *runner) refuse(rs []edgeagent.Reading) ([]edgeagent.Reading, error) {
	v, ok := r.src.(Verbatim)
	verbatim := ok && v.Verbatim()
	var first error
	n := len(rs)
	rs = slices.DeleteFunc(rs, func(x edgeagent.Reading) bool {
		err := check(x, verbatim)
		if first == nil {
			first = err
		}
		return err != nil
	})
	if refused := n - len(rs); refused > 0 {
		r.mu.Lock()
		r.st.Refused += uint64(refused)
		r.mu.Unlock()
	}
	return rs, first
}

func check(x edgeagent.Reading, verbatim bool) error {
	switch {
	case x.Series.IsZero():
		return errors.New("driver returned a reading without a series")
	case verbatim:
		return nil
	case math.IsNaN(x.Value):
		return fmt.Errorf("driver returned NaN for %s", x.Series)
	case math.IsInf(x.Value, 0):
		return fmt.Errorf("driver returned an infinite value for %s", x.Series)
	}
	return nil
}

// deliver counts readings as taken and hands them on. It does nothing once Run
// has given up on this source.
func (r *runner) deliver(rs []edgeagent.Reading) error {
	if len(rs) == 0 || !r.take(rs) {
		return nil
	}
	err := r.sink.Put(r.putCtx, rs)
	if err == nil {
		return nil
	}
	r.mu.Lock()
	r.st.Dropped += uint64(len(rs))
	r.mu.Unlock()
	return &sinkError{err}
}

func (r *runner) take(rs []edgeagent.Reading) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.abandoned {
		return false
	}
	r.st.Readings += uint64(len(rs))
	r.st.remember(rs)
	return true
}

// sinkError is a Put that failed.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return "hand on readings: " + e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// close closes the source, if it is open. The driver may hang here too.
func (r *runner) close(ctx context.Context) {
	if r.src == nil {
		return
	}
	src := r.src
	r.src = nil
	err := r.call(context.WithoutCancel(ctx), func(context.Context) error { return src.Close() })
	if err != nil {
		r.log.Debug("sensor did not close cleanly", "error", err)
	}
}
