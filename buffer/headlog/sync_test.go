package headlog

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
)

// card is a disk whose syncs take their time.
type card struct {
	FS
	takes time.Duration
	syncs *atomic.Int64
}

type cardFile struct {
	File
	card card
}

func newCard() card { return card{newSimFS(nil), 50 * time.Millisecond, new(atomic.Int64)} }

func (c card) OpenFile(path string, create bool) (File, error) {
	f, err := c.FS.OpenFile(path, create)
	if err != nil {
		return nil, err
	}
	return cardFile{f, c}, nil
}

func (f cardFile) Datasync() error {
	time.Sleep(f.card.takes)
	f.card.syncs.Add(1)
	return f.File.Datasync()
}

// bubble runs f in virtual time. A goroutine that waits for a mutex stops that
// time, so whoever holds one over a sync would hang the test: the watchdog tells.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	watchdog := time.AfterFunc(30*time.Second, func() { panic("somebody waits for a lock that is held over a sync") })
	defer watchdog.Stop()
	synctest.Test(t, f)
}

// TestSlowCardDoesNotStallIntake appends a thousand times while a card that takes
// 50 ms a sync is synced without a pause, and rotated: no append may wait.
func TestSlowCardDoesNotStallIntake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCard()
		l := begun(t, c)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := l.Sync(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
		var slowest time.Duration
		releasing := new(atomic.Bool)
		for s := edgeagent.Seq(1); s <= 1000; s++ {
			began := time.Now()
			if err := l.Append(reading(s)); err != nil {
				t.Fatal(err)
			}
			if st := l.Stats(); st.Used > MinSize/2 && !st.Unreleased && !releasing.Load() {
				if err := l.Rotate(ctx, nil); err != nil {
					t.Fatal(err)
				}
				releasing.Store(true)
				wg.Go(func() {
					if err := l.Release(context.WithoutCancel(ctx)); err != nil {
						t.Error(err)
					}
					releasing.Store(false)
				})
			}
			slowest = max(slowest, time.Since(began))
			time.Sleep(time.Millisecond)
		}
		stop()
		wg.Wait()
		st := l.Stats()
		t.Logf("slowest append %v, %d syncs of 50ms, %d rotations", slowest, st.Syncs, st.Rotations)
		if slowest > time.Millisecond {
			t.Errorf("an append took %v", slowest)
		}
		if st.Syncs < 15 || st.Rotations < 3 {
			t.Errorf("%d syncs and %d rotations in a second are too few to prove anything", st.Syncs, st.Rotations)
		}
	})
}

// TestSyncGroup: callers that come while a sync is under way share the next one.
func TestSyncGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCard()
		l := begun(t, c)
		before := c.syncs.Load()
		began := time.Now()
		var wg sync.WaitGroup
		for s := edgeagent.Seq(1); s <= 40; s++ {
			if err := l.Append(reading(s)); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if err := l.Sync(t.Context()); err != nil {
					t.Error(err)
				}
			})
			if s == 1 {
				synctest.Wait() // the first is under way when the others come
			}
		}
		wg.Wait()
		if n := c.syncs.Load() - before; n != 2 {
			t.Errorf("40 callers cost %d syncs, want 2", n)
		}
		if d := time.Since(began); d > 2*c.takes {
			t.Errorf("40 callers waited %v", d)
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.syncs.Load() - before; n != 2 {
			t.Error("a sync of nothing went to the disk")
		}
	})
}

// TestSyncCoversWhatCameBefore: a caller whose frame was appended while another's
// sync was under way must not be told that it is durable by that one.
func TestSyncCoversWhatCameBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCard()
		l := begun(t, c)
		if err := l.Append(reading(1)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Sync(t.Context()) })
		synctest.Wait()
		if err := l.Append(reading(2)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 2*c.takes {
			t.Errorf("the second sync took %v, want the rest of the first and its own", d)
		}
		wg.Wait()
	})
}

// TestSyncHonoursContext: who waits for the sync of others can give up.
func TestSyncHonoursContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := begun(t, newCard())
		if err := l.Append(reading(1)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Sync(t.Context()) })
		synctest.Wait()
		if err := l.Append(reading(2)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := l.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sync: %v", err)
		}
		if d := time.Since(began); d != time.Millisecond {
			t.Errorf("gave up after %v", d)
		}
		wg.Wait()
	})
}
