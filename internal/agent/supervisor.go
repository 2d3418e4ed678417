package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/edgeagent/edgeagent"
)

// Bounds of the wait before a failed part is started again.
const (
	restartBase = time.Second
	restartCap  = time.Minute
	// restartHealthy: a part that ran this long starts its back-off anew.
	restartHealthy = 5 * time.Minute
	// restartShown: a part that was started again stays degraded this long, so that
	// one that fails over and over does not look well in between.
	restartShown = 30 * time.Second
)

// leaf is a part that may fail without taking the agent down.
type leaf struct {
	name   string
	run    func(context.Context) error
	wall   func() time.Time // for Health.Since
	logger *slog.Logger

	mu     sync.Mutex // guards what follows
	health edgeagent.Health
	again  time.Time // when the part was last started again; zero while it is down
}

// Run runs the part until ctx ends and starts it again, with back-off, whenever
// it returns before that or panics. It never returns an error.
func (l *leaf) Run(ctx context.Context) {
	wait := restartBase
	for {
		began := time.Now()
		err := l.runOnce(ctx)
		if ctx.Err() != nil {
			l.ended(ctx, err)
			return
		}
		if time.Since(began) > restartHealthy {
			wait = restartBase
		}
		l.fail(ctx, err, wait)
		if !sleep(ctx, wait) {
			return
		}
		// Decorrelated jitter: two agents that fell together do not rise together.
		wait = min(restartCap, restartBase+time.Duration(rand.Int64N(int64(3*wait-restartBase))))
		l.restarted()
	}
}

// errEnded is the error of a part that returned nil before it was told to.
var errEnded = errors.New("ended by itself")

// panicError is a panic of a part.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func (l *leaf) runOnce(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	return l.run(ctx)
}

func (l *leaf) fail(ctx context.Context, err error, wait time.Duration) {
	if err == nil {
		err = errEnded
	}
	level, args := l.failure(err)
	l.logger.Log(ctx, level, "part failed, starting it again", append(args, "wait", wait)...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again = time.Time{}
	l.health = edgeagent.Health{
		Level: edgeagent.Degraded, Code: "part-restarted",
		Text: err.Error(), Hint: hintOf(err), Since: l.wall(),
	}
}

// ended notes the error of a part that was told to stop. That it was told is none.
func (l *leaf) ended(ctx context.Context, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		level, args := l.failure(err)
		l.logger.Log(ctx, level, "part failed while it stopped", args...)
	}
}

// failure returns how an error is logged: a panic with its stack.
func (l *leaf) failure(err error) (slog.Level, []any) {
	args := []any{"part", l.name, "error", err}
	if p, ok := errors.AsType[*panicError](err); ok {
		return slog.LevelError, append(args, "stack", string(p.stack))
	}
	return slog.LevelWarn, args
}

// hintOf returns the hint that err carries, if any.
func hintOf(err error) string {
	if h, ok := errors.AsType[edgeagent.Hinter](err); ok {
		return h.Hint()
	}
	return ""
}

func (l *leaf) restarted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again = time.Now()
}

// Health returns OK while the part runs and has not failed lately.
func (l *leaf) Health() edgeagent.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.again.IsZero() && time.Since(l.again) >= restartShown {
		return edgeagent.Health{}
	}
	return l.health
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stage is a group of leaves that starts and stops together.
type stage struct {
	name   string
	leaves []*leaf
	// grace bounds how long stop waits for the leaves to return.
	grace time.Duration

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// start starts the leaves. Their context is not a child of the agent's: a stage
// ends when it is its turn, not when the signal comes.
func (s *stage) start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, l := range s.leaves {
		s.wg.Go(func() { l.Run(ctx) })
	}
}

// stop ends the leaves and waits for them, for no longer than the grace. It
// reports whether all of them returned.
func (s *stage) stop() bool {
	s.cancel()
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		s.wg.Wait()
		close(done)
	})
	t := time.NewTimer(s.grace)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
