package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent/buffer"
	"github.com/edgeagent/edgeagent/internal/broker"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sync/mqtt"
)

// lateClock is at 1970 until it is set.
type lateClock struct {
	clock.Clock
	set atomic.Bool
}

func (c *lateClock) Wall() time.Time {
	if c.set.Load() {
		return c.Clock.Wall()
	}
	return time.Unix(1000, 0).Add(c.Run())
}

func (c *lateClock) Synced() bool { return c.set.Load() }

// F15: boot at 1970, NTP later. Lines wait, come with the right times, and each once.
func TestF15ClockIsSetLater(t *testing.T) {
	t.Parallel()
	url, got := listen(t, broker.Options{}, mqtt.ReceiverConfig{})
	var n atomic.Int64
	cfg := withSource(parse(t, t.TempDir(), lonely+strings.Replace(toBroker, "URL", url, 1), ""), "count", 10*time.Millisecond,
		func() (float64, error) { return float64(n.Add(1)), nil })
	c := &lateClock{Clock: clock.System(clock.Trusted, time.Time{})}
	began := time.Now()
	r := start(t, Options{Config: cfg, Clock: c, FlushOnStop: time.Minute})
	accepted := func() uint64 { _, n, _ := r.Counts(); return n }
	waitFor(t, "readings", func() bool { return accepted() >= 50 })
	waitFor(t, "the uplink", func() bool { s := r.Status(t.Context()); return len(s.Uplinks) == 1 && s.Uplinks[0].State == "up" })
	if got.count() != 0 {
		t.Errorf("%d lines came before the clock was set", got.count())
	}
	c.set.Store(true)
	waitFor(t, "the lines that waited", func() bool { return got.count() >= 50 })
	r.stop(t)
	waitFor(t, "the rest", func() bool { return uint64(got.count()) >= accepted() })
	got.mu.Lock()
	defer got.mu.Unlock()
	points := map[string]bool{}
	for line, times := range got.seen {
		line = strings.TrimSpace(line)
		stamp := line[strings.LastIndexByte(line, ' ')+1:]
		ns, err := strconv.ParseInt(stamp, 10, 64)
		if at := time.Unix(0, ns); err != nil || at.Before(began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("%s has the time %v, %v", line, at, err)
		}
		if strings.Contains(line, "quality") || times != 1 || points[stamp] {
			t.Errorf("%d times: %s", times, line)
		}
		points[stamp] = true
	}
}

func TestCorrector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &lateClock{Clock: clock.Go()}
		b := &noted{start: c.Wall()}
		x := &corrector{clock: c, buffer: b, run: 7, logger: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		time.Sleep(time.Hour)
		full := errors.New("disk is full")
		if got := b.say(full); x.known.Load() || len(got) > 0 {
			t.Errorf("corrected by %v while the clock is wrong", got)
		}
		c.set.Store(true)
		time.Sleep(10 * time.Second)
		if x.known.Load() {
			t.Error("what the buffer did not take counts as known")
		}
		b.say(nil)
		time.Sleep(2 * time.Second)
		want := c.Clock.Wall().Sub(b.UnsyncedWall(c.Run()))
		if got := b.say(nil); len(got) != 1 || got[0].Run != 7 || (got[0].Add-want).Abs() > time.Millisecond || !x.known.Load() {
			t.Errorf("corrections %v, want one by %v", got, want)
		}
		time.Sleep(time.Hour)
		if got := b.say(fmt.Errorf("%w, by other", buffer.ErrCorrected)); len(got) != 1 {
			t.Errorf("corrected again: %v", got)
		}
		c.set.Store(false) // the time service has died; its corrections go on to fit
		time.Sleep(10 * time.Second)
		c.set.Store(true)
		time.Sleep(10 * time.Second)
		if !x.known.Load() {
			t.Error("a run that was corrected before holds readings back for ever")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// noted is a buffer that remembers corrections.
type noted struct {
	start time.Time

	mu   sync.Mutex // guards what follows
	got  []buffer.Correction
	fail error
}

// say sets what Correct returns, and returns what it was told so far.
func (b *noted) say(err error) []buffer.Correction {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
	return slices.Clone(b.got)
}

func (b *noted) Correct(_ context.Context, c buffer.Correction) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		b.got = append(b.got, c)
	}
	return b.fail
}

func (b *noted) UnsyncedWall(run time.Duration) time.Time { return b.start.Add(run) }
