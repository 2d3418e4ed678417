package sinktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/buffer/block"
	"github.com/edgeagent/edgeagent/hub"
)

// Guarantee is what a sink promises of records in format block.
type Guarantee int

const (
	// ExactlyOnce means that each record is there once, whatever happens.
	ExactlyOnce Guarantee = iota
	// AtLeastOnce means that each record is there, after a crash perhaps more than once.
	AtLeastOnce
)

// Config says what to test.
type Config struct {
	// Open opens the sink, on what it has kept since the last Open.
	Open func(ctx context.Context) (Opened, error)
	// Read returns everything that the sink holds; it is called while the sink is
	// open or closed, as Open last left it.
	Read func(ctx context.Context) ([]hub.Stored, error)
	// Clear begins anew: nothing is held.
	Clear     func(ctx context.Context) error
	Guarantee Guarantee
	// RawTimes: the sink keeps unsynced times as they came. Else they are corrected
	// once the correction is known.
	RawTimes bool
	// Key tells records apart; default everything that is known of them. A sink that
	// does not keep all of it compares less.
	Key func(hub.Stored) string
	// Shared: several hubs may use the sink at once. Open is called for each.
	Shared bool
	// Disturb, if there is one, kills what the sink works with and brings it back, while a
	// hub is at work.
	Disturb func()
	// Scenarios is how many random histories are tried; default 10.
	Scenarios int
}

// Opened is what a hub works with: one of the two, or both.
type Opened struct {
	Store hub.Store
	Sink  hub.Sink
	Close func() error
}

// Check is one part of the suite.
type Check struct {
	Name string
	Run  func(ctx context.Context, c Config) error
}

// Checks returns the parts of the suite for c.
func Checks(c Config) []Check {
	list := []Check{
		{"each record once", once},
		{"a hub that begins anew", anew},
		{"crash at every call", crashes},
		{"answers that are lost", lostAnswers},
		{"messages that come together", groups},
		{"crash among them, at every call", groupCrashes},
		{"random histories", histories},
		{"corrections of the clock", corrections},
		{"gaps and conflicts", gaps},
	}
	if c.Shared {
		list = append(list, Check{"two workers", workers})
	}
	if c.Disturb != nil {
		list = append(list, Check{"disturbed", disturbed})
	}
	return list
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	t.Helper()
	for _, check := range Checks(c) {
		t.Run(check.Name, func(t *testing.T) {
			if err := c.Clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := check.Run(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

const n = 120 // records of a stream in most checks

var streams = []edgeagent.Stream{edgeagent.StreamTelemetry, edgeagent.StreamRollup, edgeagent.StreamAlarm}

func rng(from, to edgeagent.Seq) edgeagent.Range { return edgeagent.Range{From: from, To: to} }

// once: overlaps, repeats, and numbers in any order contribute what is new.
func once(ctx context.Context, c Config) error {
	a := &agent{device: "gw-1", epoch: 0x9f02}
	w, err := begin(ctx, c, nil)
	if err != nil {
		return err
	}
	defer w.end()
	var want []hub.Stored
	for _, s := range streams {
		w.give(a, a.records(s, rng(30, 60))) // before their names, if they have any
	}
	w.give(a, a.names())
	for _, s := range streams {
		for _, r := range []edgeagent.Range{rng(1, 20), rng(10, 35), rng(1, 20), rng(90, n), rng(50, 100), rng(1, n)} {
			w.give(a, a.records(s, r))
		}
		want = append(want, a.want(s, rng(1, n), 0)...)
	}
	return errors.Join(w.err, compare(ctx, c, want, true))
}

// anew: a second hub knows names and ranges of the first.
func anew(ctx context.Context, c Config) error {
	a, b := &agent{device: "gw-1", epoch: 0x9f02}, &agent{device: "gw-2", epoch: 1<<63 + 5}
	var want []hub.Stored
	for i, r := range []edgeagent.Range{rng(1, 50), rng(40, 90), rng(1, n)} {
		w, err := begin(ctx, c, nil)
		if err != nil {
			return err
		}
		if err := w.hub.Restore(ctx); err != nil {
			return err
		}
		for _, x := range []*agent{a, b} {
			if i == 0 {
				w.give(x, x.names())
			}
			for _, s := range streams {
				w.give(x, x.records(s, r))
			}
		}
		for _, x := range []*agent{a, b} {
			if i < 2 {
				continue
			}
			for _, s := range streams {
				if held := w.hub.Held(tenant, x.device, x.epoch, s); !slices.Equal(held, edgeagent.Ranges{rng(1, n)}) {
					w.fail(fmt.Errorf("held of %s: %v", s, held))
				}
				want = append(want, x.want(s, rng(1, n), 0)...)
			}
		}
		w.end()
		if w.err != nil {
			return w.err
		}
	}
	return compare(ctx, c, want, true)
}

// crashes: the hub dies before or after the k-th call, for every k until none is left.
func crashes(ctx context.Context, c Config) error {
	for k := int64(1); k < 1000; k++ {
		for _, after := range []bool{false, true} {
			if err := c.Clear(ctx); err != nil {
				return err
			}
			died, err := crash(ctx, c, k, after)
			if err != nil {
				return fmt.Errorf("crash at call %d, after it: %v: %w", k, after, err)
			}
			if !died {
				if k < 5 {
					return fmt.Errorf("only %d calls of the sink: the check proves nothing", k-1)
				}
				return nil
			}
		}
	}
	return errors.New("more than 1,000 calls")
}

func crash(ctx context.Context, c Config, k int64, after bool) (died bool, err error) {
	a := &agent{device: "gw-1", epoch: 0x9f02}
	b := &bomb{at: k, after: after}
	w, err := begin(ctx, c, b)
	if err != nil {
		return false, err
	}
	w.give(a, append(a.names(), a.records(edgeagent.StreamTelemetry, rng(1, 30))...))
	w.give(a, a.records(edgeagent.StreamTelemetry, rng(20, 60)))
	w.give(a, a.records(edgeagent.StreamAlarm, rng(1, 20)))
	w.end()
	if b.gone.Load() {
		// The agent has cut its buffer otherwise meanwhile.
		if w, err = begin(ctx, c, nil); err != nil {
			return true, err
		}
		w.give(a, a.records(edgeagent.StreamTelemetry, rng(25, 45)))
		w.give(a, a.records(edgeagent.StreamTelemetry, rng(10, 80)))
		w.give(a, a.names())
		w.give(a, a.records(edgeagent.StreamTelemetry, rng(1, n)))
		w.give(a, a.records(edgeagent.StreamAlarm, rng(15, 40)))
		w.give(a, a.records(edgeagent.StreamAlarm, rng(1, n)))
		w.end()
	} else {
		w, err = begin(ctx, c, nil)
		if err != nil {
			return false, err
		}
		w.give(a, a.records(edgeagent.StreamTelemetry, rng(1, n)))
		w.give(a, a.records(edgeagent.StreamAlarm, rng(1, n)))
		w.end()
	}
	want := slices.Concat(a.want(edgeagent.StreamTelemetry, rng(1, n), 0), a.want(edgeagent.StreamAlarm, rng(1, n), 0))
	return b.gone.Load(), errors.Join(w.err, compare(ctx, c, want, !b.gone.Load()))
}

// lostAnswers: every third call does its work and is said to have failed.
func lostAnswers(ctx context.Context, c Config) error {
	a := &agent{device: "gw-1", epoch: 0x9f02}
	w, err := begin(ctx, c, &bomb{every: 3})
	if err != nil {
		return err
	}
	w.give(a, a.records(edgeagent.StreamTelemetry, rng(1, 20))) // waits
	w.give(a, a.names())
	w.give(a, []byte("temperature value=21"))
	w.give(a, a.marks(block.Marks{Streams: map[edgeagent.Stream]block.MarkStream{edgeagent.StreamAlarm: {
		Low: 1, Next: n + 1, Gaps: []block.Gap{{From: 7, To: 8, Reason: "evicted", AtMost: 2}},
	}}}))
	w.give(a, a.records(edgeagent.StreamAlarm, rng(1, n)))
	w.give(a, a.records(edgeagent.StreamTelemetry, rng(10, n)))
	w.end()
	want := slices.Concat(a.want(edgeagent.StreamTelemetry, rng(1, n), 0), a.want(edgeagent.StreamAlarm, rng(1, n), 0))
	return errors.Join(w.err, compare(ctx, c, want, false))
}

// disturbed: what the sink works with is killed and comes back while a hub is at work,
// and the hub itself begins anew in between.
func disturbed(ctx context.Context, c Config) error {
	a := &agent{device: "gw-1", epoch: 0x9f02}
	for round := range edgeagent.Seq(3) {
		w, err := begin(ctx, c, nil)
		if err != nil {
			return err
		}
		w.give(a, a.names())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Disturb()
		}()
		for s := edgeagent.Seq(1); s <= n; s++ {
			select {
			case <-done:
			case <-time.After(10 * time.Millisecond): // the server dies somewhere in between
			}
			for _, stream := range streams {
				w.give(a, a.records(stream, rng(round*n+s, round*n+min(n, s+3))))
			}
		}
		<-done
		w.end()
		if w.err != nil {
			return w.err
		}
	}
	var want []hub.Stored
	for _, s := range streams {
		want = append(want, a.want(s, rng(1, 3*n), 0)...)
	}
	return compare(ctx, c, want, false)
}

// corrections: times that are unsynced when they are stored, and when they come later.
func corrections(ctx context.Context, c Config) error {
	const add = 90 * time.Minute
	a := &agent{device: "gw-1", epoch: 0x9f02, unsynced: 31}
	w, err := begin(ctx, c, nil)
	if err != nil {
		return err
	}
	w.give(a, a.names())
	w.give(a, a.records(edgeagent.StreamTelemetry, rng(1, 20)))
	w.end()
	if w.err != nil {
		return w.err
	}
	if err := compare(ctx, c, a.want(edgeagent.StreamTelemetry, rng(1, 20), 0), true); err != nil {
		return fmt.Errorf("before the correction: %w", err)
	}
	if w, err = begin(ctx, c, nil); err != nil {
		return err
	}
	m := block.Marks{Clock: []block.Correction{{Run: 1, Add: int64(add), Err: 1e6}}}
	w.give(a, a.marks(m))
	w.give(a, a.marks(m))
	w.end()
	if w.err != nil {
		return w.err
	}
	if w, err = begin(ctx, c, nil); err != nil {
		return err
	}
	defer w.end()
	w.give(a, a.records(edgeagent.StreamTelemetry, rng(10, 60)))
	late := time.Duration(add)
	if c.RawTimes {
		late = 0
	}
	want := slices.Concat(a.want(edgeagent.StreamTelemetry, rng(1, 20), late), a.want(edgeagent.StreamTelemetry, rng(21, 60), add))
	return errors.Join(w.err, compare(ctx, c, want, true))
}

// gaps: what agents say of themselves, and what is disputed, outlives a hub.
func gaps(ctx context.Context, c Config) error {
	a := &agent{device: "gw-1", epoch: 0x9f02}
	w, err := begin(ctx, c, nil)
	if err != nil {
		return err
	}
	w.give(a, a.records(edgeagent.StreamAlarm, rng(5, 20)))
	w.give(a, a.block(nil, edgeagent.StreamAlarm, rng(10, 25), 99)) // the buffer has gone back in time
	w.give(a, []byte("temperature value=21"))
	w.give(a, a.records(edgeagent.StreamTelemetry, rng(1, 9))) // waits for its names
	w.give(a, a.marks(block.Marks{Streams: map[edgeagent.Stream]block.MarkStream{edgeagent.StreamAlarm: {
		Low: 1, Next: 31, Gaps: []block.Gap{{From: 1, To: 4, Reason: "evicted", AtMost: 4}},
	}}}))
	before := knowledge(w.hub)
	w.end()
	if w.err != nil {
		return w.err
	}
	if w, err = begin(ctx, c, nil); err != nil {
		return err
	}
	defer w.end()
	if err := w.hub.Restore(ctx); err != nil {
		return err
	}
	if got := knowledge(w.hub); got != before {
		return fmt.Errorf("a hub that begins anew knows\n%s\nwant\n%s", got, before)
	}
	w.give(a, a.names())
	want := slices.Concat(a.want(edgeagent.StreamAlarm, rng(5, 20), 0), a.want(edgeagent.StreamTelemetry, rng(1, 9), 0))
	return errors.Join(w.err, compare(ctx, c, want, true))
}

// knowledge is what a hub says of gaps, conflicts and quarantine.
func knowledge(h *hub.Hub) string {
	var b strings.Builder
	fmt.Fprintf(&b, "gaps %v\n", h.Gaps())
	for _, d := range h.Stats().Devices {
		for _, e := range d.Epochs {
			fmt.Fprintf(&b, "%s %s waiting %d series %d", d.Device, e.Epoch, e.Waiting, e.Series)
			for _, s := range e.Streams {
				if s.Held > 0 {
					fmt.Fprintf(&b, " %s %d/%d missing %d lost %d conflicts %d next %d", s.Stream, s.Held, s.Top, s.Missing, s.Lost, s.Conflicts, s.Next)
				}
			}
		}
	}
	var kept []string
	for _, q := range h.Quarantine() {
		kept = append(kept, fmt.Sprint(q.Cause, q.Epoch, q.Stream, q.Range, q.Run, q.Bytes))
	}
	slices.Sort(kept)
	fmt.Fprintf(&b, "\nquarantine %v", kept)
	return b.String()
}

// bomb kills a hub at its n-th call, or loses the answers to some.
type bomb struct {
	every int64 // lose the answer of each such call, and kill nobody
	at    int64
	after bool
	calls atomic.Int64
	gone  atomic.Bool
	kill  context.CancelFunc
}

var errDead = errors.New("the hub is dead")

// call runs f unless the hub dies first. What f has done stays done.
func (b *bomb) call(f func() error) error {
	if b.gone.Load() {
		return errDead
	}
	call := b.calls.Add(1)
	if b.every > 0 {
		if err := f(); err != nil || call%b.every != 0 {
			return err
		}
		return errors.New("the answer is lost")
	}
	hit := call == b.at
	if hit && !b.after {
		return b.die()
	}
	err := f()
	if hit {
		return errors.Join(b.die(), err)
	}
	return err
}

func (b *bomb) die() error {
	b.gone.Store(true)
	b.kill()
	return errDead
}
