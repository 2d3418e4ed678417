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
)

// leaf is a part that may fail without taking the agent down.
type leaf struct {
	name   string
	run    func(context.Context) error
	logger *slog.Logger

	mu     sync.Mutex // guards health
	health edgeagent.Health
}

// Run runs the part until ctx ends and starts it again, with back-off, whenever
// it returns before that or panics. It never returns an error.
func (l *leaf) Run(ctx context.Context) {
	wait := restartBase
	for {
		began := time.Now()
		err := l.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > restartHealthy {
			wait = restartBase
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		l.fail(err, wait)
		if !sleep(ctx, wait) {
			return
		}
		// Decorrelated jitter: two agents that fell together do not rise together.
		wait = min(restartCap, restartBase+time.Duration(rand.Int64N(int64(3*wait-restartBase))))
		l.recovered()
	}
}

func (l *leaf) runOnce(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.logger.Error("part panicked", "part", l.name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return l.run(ctx)
}

func (l *leaf) fail(err error, wait time.Duration) {
	l.logger.Warn("part failed, starting it again", "part", l.name, "error", err, "wait", wait)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = edgeagent.Health{
		Level: edgeagent.Degraded, Code: l.name + "-restarting",
		Text: fmt.Sprintf("%s: %v", l.name, err), Hint: hintOf(err), Since: time.Now(),
	}
}

// hintOf returns the hint that err carries, if any.
func hintOf(err error) string {
	var h edgeagent.Hinter
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func (l *leaf) recovered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = edgeagent.Health{}
}

// Health returns OK while the part runs.
func (l *leaf) Health() edgeagent.Health {
	l.mu.Lock()
	defer l.mu.Unlock()
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
