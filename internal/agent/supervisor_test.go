package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
)

func newLeaf(name string, run func(context.Context) error) *leaf {
	return &leaf{name: name, run: run, wall: time.Now, logger: slog.New(slog.DiscardHandler)}
}

// untilDone is a part that does as it is told.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestLeafIsStartedAgainWithBackOff(t *testing.T) {
	cases := []struct {
		name string
		run  func() error
		text string
		hint string
	}{
		{"error", func() error { return edgeagent.WithHint(errors.New("no route"), "look at the cable") }, "no route", "look at the cable"},
		{"ends by itself", func() error { return nil }, "ended by itself", ""},
		{"panic", func() error { panic("index out of range") }, "panic: index out of range", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var starts []time.Duration
				l := newLeaf("x", func(context.Context) error {
					starts = append(starts, time.Since(began))
					return c.run()
				})
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
				defer cancel()
				time.AfterFunc(500*time.Millisecond, func() {
					want := edgeagent.Health{Level: edgeagent.Degraded, Code: "part-restarted", Text: c.text, Hint: c.hint, Since: began}
					if diff := cmp.Diff(want, l.Health()); diff != "" {
						t.Errorf("health while down (-want +got):\n%s", diff)
					}
				})
				l.Run(ctx)
				if len(starts) < 30 {
					t.Fatalf("started %d times in 30 minutes, no wait is over a minute", len(starts))
				}
				for i := 1; i < len(starts); i++ {
					wait := starts[i] - starts[i-1]
					if wait < restartBase || wait > restartCap {
						t.Errorf("wait %d is %v, want %v to %v", i, wait, restartBase, restartCap)
					}
				}
				if first := starts[1]; first != restartBase {
					t.Errorf("the first wait is %v, want %v", first, restartBase)
				}
				// The waits have to grow: without that 1,800 starts are possible.
				if len(starts) > 300 {
					t.Errorf("started %d times in 30 minutes: no back-off", len(starts))
				}
			})
		})
	}
}

func TestLeafThatRanWellStartsItsBackOffAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends, starts []time.Time
		l := newLeaf("x", func(ctx context.Context) error {
			starts = append(starts, time.Now())
			if len(starts) > 20 { // by now the waits have grown
				sleep(ctx, restartHealthy+time.Second)
			}
			ends = append(ends, time.Now())
			return errors.New("no")
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		l.Run(ctx)
		if len(starts) < 23 {
			t.Fatalf("only %d starts", len(starts))
		}
		for i := 21; i < len(starts); i++ {
			if wait := starts[i].Sub(ends[i-1]); wait != restartBase {
				t.Errorf("wait after a healthy run is %v, want %v", wait, restartBase)
			}
		}
	})
}

// A part that fails every few seconds must not look well in between.
func TestLeafStaysDegradedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := false
		l := newLeaf("x", func(ctx context.Context) error {
			if !failed {
				failed = true
				return errors.New("no")
			}
			return untilDone(ctx)
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()
		if l.Health().Level != edgeagent.OK {
			t.Error("degraded before it began")
		}
		sleep(ctx, restartBase+restartShown-time.Millisecond)
		if l.Health().Level != edgeagent.Degraded {
			t.Error("well right after a restart")
		}
		sleep(ctx, 2*time.Millisecond)
		if h := l.Health(); h.Level != edgeagent.OK {
			t.Errorf("still %v after %v of running", h, restartShown)
		}
		cancel()
		<-done
	})
}

func TestLeafLogsThePanicOnceWithItsStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLeaf("x", func(context.Context) error { panic("boom") })
		l.logger = slog.New(slog.NewTextHandler(&out, nil))
		ctx, cancel := context.WithTimeout(t.Context(), restartBase/2)
		defer cancel()
		l.Run(ctx)
		if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "supervisor_test.go") {
			t.Errorf("%d lines, want one with the stack:\n%s", n, out.String())
		}
	})
}

func TestLeafThatStopsAsToldIsNoFailure(t *testing.T) {
	var out bytes.Buffer
	for _, c := range []struct {
		name string
		err  error
		want int // lines
	}{
		{"nil", nil, 0},
		{"the context's error", context.Canceled, 0},
		{"another error", errors.New("disk on fire"), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			out.Reset()
			l := newLeaf("x", func(ctx context.Context) error { <-ctx.Done(); return c.err })
			l.logger = slog.New(slog.NewTextHandler(&out, nil))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			l.Run(ctx)
			if n := strings.Count(out.String(), "\n"); n != c.want || l.Health().Level != edgeagent.OK {
				t.Errorf("health %v, log:\n%s", l.Health(), out.String())
			}
		})
	}
}

func TestStageStopsWithinItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stopped atomic.Bool
		release := make(chan struct{})
		good := &stage{name: "good", grace: time.Second, leaves: []*leaf{newLeaf("a", untilDone), newLeaf("b", func(ctx context.Context) error {
			<-ctx.Done()
			sleep(context.WithoutCancel(ctx), 900*time.Millisecond)
			stopped.Store(true)
			return nil
		})}}
		bad := &stage{name: "bad", grace: time.Second, leaves: []*leaf{newLeaf("c", func(context.Context) error { <-release; return nil })}}
		// The end of the agent's context does not end a stage before its turn.
		ctx, cancel := context.WithCancel(t.Context())
		good.start(ctx)
		bad.start(ctx)
		cancel()
		synctest.Wait()
		if stopped.Load() {
			t.Error("a stage ended with the agent's context")
		}
		began := time.Now()
		if !good.stop() || !stopped.Load() || time.Since(began) != 900*time.Millisecond {
			t.Errorf("stop of a good stage took %v", time.Since(began))
		}
		began = time.Now()
		if bad.stop() || time.Since(began) != time.Second {
			t.Errorf("stop of a stage that hangs took %v, want its grace", time.Since(began))
		}
		close(release)
	})
}
