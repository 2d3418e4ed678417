package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/clock"
)

// corrector puts right, once, the times that this run took before its clock was set:
// one correction fits all of them, because until then the buffer counts on from the
// time at the run's start (CONTRACT of the clock in docs/explanation/delivery.md).
type corrector struct {
	clock  clock.Clock
	buffer interface {
		Correct(ctx context.Context, c buffer.Correction) error
		UnsyncedWall(run time.Duration) time.Time
	}
	run    edgeagent.Run
	logger *slog.Logger

	known atomic.Bool // nothing of this run waits for a correction any more
}

const (
	// clockEvery is how often the clock is looked at.
	clockEvery = time.Second
	// clockError bounds what is wrong with a clock that has just been set.
	clockError = 500 * time.Millisecond
)

// Run waits until the clock can be trusted and makes the correction known, durably. A
// clock that is right from the start needs none; one that is lost later keeps the one
// it had.
func (c *corrector) Run(ctx context.Context) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	wrong := false
	for {
		if !c.clock.Synced() {
			wrong = true
			c.known.Store(false)
		} else {
			if wrong {
				wrong = !c.correct(ctx)
			}
			c.known.Store(!wrong)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// correct tells the buffer. It returns false when that has to be tried again.
func (c *corrector) correct(ctx context.Context) bool {
	wall, run := c.clock.Wall(), c.clock.Run()
	add := wall.Sub(c.buffer.UnsyncedWall(run))
	err := c.buffer.Correct(ctx, buffer.Correction{Run: c.run, Add: add, Err: clockError})
	switch {
	case err == nil:
		c.logger.Info("clock is right: times that were taken before are corrected", "run", c.run, "add", add)
	case errors.Is(err, buffer.ErrCorrected):
		c.logger.Debug("run was corrected already", "run", c.run, "error", err)
	default:
		c.logger.Warn("times that were taken without a clock cannot be corrected yet", "run", c.run, "error", err)
		return false
	}
	return true
}

// holds reports whether readings of a text destination wait for the clock: those of
// this run, until it is right, but not for longer than clock.unsynced_hold after the
// machine was booted. Others will never be put right.
func (a *Agent) holds(h edgeagent.BatchHeader) bool {
	c := a.corrector
	return c != nil && h.Unsynced && h.Run == c.run && !c.known.Load() && clock.Uptime(a.clock) < a.cfg.Clock.UnsyncedHold
}
