package sensors_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

// fake is a source whose behaviour a test writes down.
type fake struct {
	env    sensors.Env
	sample func(ctx context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error)

	mu     sync.Mutex
	n      int
	closed int
	at     []time.Duration // run times of the calls
}

func (s *fake) calls() int { s.mu.Lock(); defer s.mu.Unlock(); return s.n }
func (s *fake) ends() int  { s.mu.Lock(); defer s.mu.Unlock(); return s.closed }

func (s *fake) Sample(ctx context.Context, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
	s.mu.Lock()
	s.n++
	n := s.n
	s.at = append(s.at, s.env.Clock.Run())
	s.mu.Unlock()
	if s.sample == nil {
		return s.reading(dst, float64(n)), nil
	}
	return s.sample(ctx, n, s, dst)
}

func (s *fake) Close() error { s.mu.Lock(); defer s.mu.Unlock(); s.closed++; return nil }

func (s *fake) reading(dst []edgeagent.Reading, v float64) []edgeagent.Reading {
	return append(dst, edgeagent.Reading{Series: s.env.NewSeries("value", "", edgeagent.Gauge), At: s.env.Now(), Value: v})
}

// spec makes a spec that opens s.
func (s *fake) spec(name string, interval time.Duration, c clock.Clock) sensors.Spec {
	s.env = sensors.Env{Sensor: name, Clock: c}
	return sensors.Spec{
		Config: sensors.Config{Name: name, Driver: "fake", Interval: interval},
		Open:   func(context.Context) (sensors.Source, error) { return s, nil },
	}
}

// sink collects what it is given.
type sink struct {
	mu  sync.Mutex
	got []edgeagent.Reading
	put func(ctx context.Context, rs []edgeagent.Reading) error
}

func (k *sink) Put(ctx context.Context, rs []edgeagent.Reading) error {
	if k.put != nil {
		if err := k.put(ctx, rs); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.got = append(k.got, rs...)
	return nil
}

func (k *sink) values(name string) []float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []float64
	for _, r := range k.got {
		if r.Series.Key().Sensor == name {
			out = append(out, r.Value)
		}
	}
	return out
}

// bench runs a scheduler in a bubble for as long as do takes.
func bench(t *testing.T, k *sink, opts sensors.Options, specs []sensors.Spec, do func(s *sensors.Scheduler)) *sensors.Scheduler {
	t.Helper()
	s := sensors.NewScheduler(specs, k, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	do(s)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	return s
}

func health(s *sensors.Scheduler, i int) string {
	h := s.Stats()[i].Health
	return h.Level.String() + " " + h.Code
}

func TestFirstSampleComesAtOnceThenOnAJitteredGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		a, b := &fake{}, &fake{}
		specs := []sensors.Spec{a.spec("a", time.Second, c), b.spec("b", time.Second, c)}
		s := bench(t, k, sensors.Options{Clock: c}, specs, func(*sensors.Scheduler) { time.Sleep(10 * time.Second) })

		for _, src := range []*fake{a, b} {
			if src.at[0] > 100*time.Millisecond {
				t.Errorf("%s: first sample at %v, want within 100ms", src.env.Sensor, src.at[0])
			}
			if gap := src.at[1] - src.at[0]; gap < 500*time.Millisecond || gap >= 1500*time.Millisecond {
				t.Errorf("%s: second sample after %v, want 0.5 to 1.5 intervals", src.env.Sensor, gap)
			}
			for i := 2; i < len(src.at); i++ {
				if gap := src.at[i] - src.at[i-1]; gap != time.Second {
					t.Errorf("%s: sample %d came %v after the one before, want 1s", src.env.Sensor, i, gap)
				}
			}
		}
		if a.at[1] == b.at[1] {
			t.Errorf("both sources tick at %v: no jitter", a.at[1])
		}
		if got, want := s.Taken(), uint64(len(k.got)); got != want || got < 19 {
			t.Errorf("taken %d, put %d, want the same and at least 19", got, want)
		}
		if a.ends() != 1 || b.ends() != 1 {
			t.Errorf("closed %d and %d times, want once", a.ends(), b.ends())
		}
	})
}

func TestReadingsOfASourceStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		specs := []sensors.Spec{(&fake{}).spec("a", 100*time.Millisecond, c), (&fake{}).spec("b", 70*time.Millisecond, c)}
		bench(t, k, sensors.Options{Clock: c}, specs, func(*sensors.Scheduler) { time.Sleep(time.Minute) })
		for _, name := range []string{"a", "b"} {
			for i, v := range k.values(name) {
				if v != float64(i+1) {
					t.Fatalf("%s: value %d is %v", name, i, v)
				}
			}
		}
	})
}

func TestSlowSourceSkipsTicksAndNeverBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			time.Sleep(1700 * time.Millisecond)
			return s.reading(dst, float64(n)), nil
		}}
		s := bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{src.spec("slow", time.Second, c)},
			func(*sensors.Scheduler) { time.Sleep(time.Minute) })
		for i := 1; i < len(src.at); i++ {
			if gap := src.at[i] - src.at[i-1]; gap < 1700*time.Millisecond || gap > 3*time.Second {
				t.Errorf("sample %d came %v after the one before", i, gap)
			}
		}
		st := s.Stats()[0]
		if total := st.Missed + st.Samples; total < 57 || total > 61 {
			t.Errorf("%d samples and %d missed make %d ticks of a minute", st.Samples, st.Missed, total)
		}
		if st.Missed < 25 {
			t.Errorf("missed %d, want about half of 60", st.Missed)
		}
	})
}

func TestStuckSourceHurtsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		release := make(chan struct{})
		stuck := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if n == 3 {
				<-release // as a system call does: ctx means nothing to it
			}
			return s.reading(dst, float64(n)), nil
		}}
		good := &fake{}
		specs := []sensors.Spec{stuck.spec("stuck", time.Second, c), good.spec("good", time.Second, c)}
		bench(t, k, sensors.Options{Clock: c}, specs, func(s *sensors.Scheduler) {
			time.Sleep(time.Minute)
			synctest.Wait()
			if got, want := health(s, 0), "degraded "+sensors.CodeStuck; got != want {
				t.Errorf("health %q, want %q", got, want)
			}
			if s.Stats()[0].Missed < 50 {
				t.Errorf("missed %d ticks after a minute, want more than 50", s.Stats()[0].Missed)
			}
			if stuck.calls() != 3 {
				t.Errorf("stuck source was called %d times, want 3", stuck.calls())
			}
			if good.calls() < 60 {
				t.Errorf("the other source was sampled %d times in a minute", good.calls())
			}
			close(release)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if got := health(s, 0); got != "ok " {
				t.Errorf("health %q after it came back", got)
			}
		})
		if got := k.values("stuck"); len(got) < 5 || got[2] != 3 {
			t.Errorf("values %v, want the late one kept", got)
		}
	})
}

func TestRunReturnsThoughADriverNeverDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		release := make(chan struct{})
		stuck := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			<-release
			return s.reading(dst, 1), nil
		}}
		good := &fake{}
		var stopped time.Time
		specs := []sensors.Spec{stuck.spec("stuck", time.Second, c), good.spec("good", time.Second, c)}
		s := bench(t, k, sensors.Options{Clock: c, Grace: 2 * time.Second}, specs, func(*sensors.Scheduler) {
			time.Sleep(5 * time.Second)
			stopped = time.Now()
		})
		if took := time.Since(stopped); took != 2*time.Second {
			t.Errorf("Run took %v to return, want the grace of 2s", took)
		}
		if good.ends() != 1 {
			t.Error("the other source was not closed")
		}
		put := len(k.got)
		close(release)
		synctest.Wait()
		if len(k.got) != put || s.Taken() != uint64(put) {
			t.Errorf("an abandoned call put readings after Run: %d, then %d, taken %d", put, len(k.got), s.Taken())
		}
		if stuck.ends() != 1 {
			t.Error("the abandoned source was not closed when its call returned")
		}
	})
}

func TestDeadlineReachesTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		src := &fake{sample: func(ctx context.Context, _ int, _ *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			<-ctx.Done()
			return dst, ctx.Err()
		}}
		s := bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", time.Second, c)}, func(s *sensors.Scheduler) {
			time.Sleep(2500 * time.Millisecond)
			synctest.Wait()
			if got, want := health(s, 0), "degraded "+sensors.CodeFailing; got != want {
				t.Errorf("health %q, want %q", got, want)
			}
		})
		if got, want := s.Stats()[0].LastError, "no answer within 2s: context deadline exceeded"; got != want {
			t.Errorf("last error %q, want %q", got, want)
		}
	})
}

func TestFailingSourceIsRetriedWithBackoffAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		var mended atomic.Bool
		src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if !mended.Load() {
				return dst, edgeagent.WithHint(errors.New("read chip: no such device"), "check the key address")
			}
			return s.reading(dst, float64(n)), nil
		}}
		bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", 100*time.Millisecond, c)}, func(s *sensors.Scheduler) {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			h := s.Stats()[0].Health
			h.Since = time.Time{}
			want := edgeagent.Health{Level: edgeagent.Degraded, Code: sensors.CodeFailing, Text: "read chip: no such device", Hint: "check the key address"}
			if diff := cmp.Diff(want, h); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
			if src.calls() < 12 || src.calls() > 30 {
				t.Errorf("tried %d times in ten minutes, want a back-off up to a minute", src.calls())
			}
			if src.ends() < 2 {
				t.Errorf("closed %d times: a source that keeps failing must be opened anew", src.ends())
			}
			mended.Store(true)
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := health(s, 0); got != "ok " {
				t.Errorf("health %q after recovery", got)
			}
			if st := s.Stats()[0]; st.LastError == "" || st.Errors == 0 {
				t.Error("the recovered source has forgotten its last error")
			}
		})
		// Back on the grid, not on the back-off.
		if last := src.at[len(src.at)-1] - src.at[len(src.at)-2]; last != 100*time.Millisecond {
			t.Errorf("last two samples are %v apart", last)
		}
	})
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		var at []time.Duration
		spec := sensors.Spec{
			Config: sensors.Config{Name: "s", Driver: "fake", Interval: time.Second},
			Open: func(context.Context) (sensors.Source, error) {
				at = append(at, c.Run())
				return nil, errors.New("no bus")
			},
		}
		bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{spec}, func(*sensors.Scheduler) { time.Sleep(20 * time.Minute) })
		for i := 1; i < len(at); i++ {
			gap, full := at[i]-at[i-1], min(time.Second<<(i-1), time.Minute)
			if gap < full/2 || gap > full {
				t.Errorf("try %d came after %v, want %v to %v", i, gap, full/2, full)
			}
		}
		if len(at) < 25 {
			t.Errorf("%d tries in 20 minutes, want at least one a minute", len(at))
		}
	})
}

func TestOpenFailsThenRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		src := &fake{}
		spec := src.spec("s", time.Second, c)
		opens := 0
		spec.Open = func(context.Context) (sensors.Source, error) {
			if opens++; opens < 4 {
				return nil, edgeagent.WithHint(errors.New("bus 1 does not exist"), "enable it with raspi-config")
			}
			return src, nil
		}
		bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{spec}, func(s *sensors.Scheduler) {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			st := s.Stats()[0]
			if st.Health.Code != sensors.CodeOpen || st.Health.Text != "open: bus 1 does not exist" || st.Health.Hint == "" {
				t.Errorf("health %+v", st.Health)
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := health(s, 0); got != "ok " {
				t.Errorf("health %q after the bus came", got)
			}
			if st := s.Stats()[0]; st.Errors != 3 || st.Samples == 0 || st.Missed == 0 {
				t.Errorf("errors %d, samples %d, missed %d", st.Errors, st.Samples, st.Missed)
			}
		})
	})
}

func TestPanickingDriverIsOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		var logged bytes.Buffer
		src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if n == 2 {
				var p *int
				*p = 1 // the panic is the point
			}
			return s.reading(dst, float64(n)), nil
		}}
		log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		s := bench(t, k, sensors.Options{Clock: c, Logger: log}, []sensors.Spec{src.spec("s", time.Second, c)}, func(s *sensors.Scheduler) {
			time.Sleep(1600 * time.Millisecond)
			synctest.Wait()
			if got, want := health(s, 0), "degraded "+sensors.CodePanic; got != want {
				t.Errorf("health %q, want %q", got, want)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := health(s, 0); got != "ok " {
				t.Errorf("health %q after a new start", got)
			}
		})
		if src.ends() != 2 {
			t.Errorf("closed %d times, want after the panic and at the end", src.ends())
		}
		if !strings.Contains(logged.String(), "scheduler_test.go") {
			t.Errorf("the debug log has no stack:\n%s", &logged)
		}
		if got := s.Taken(); got != uint64(len(k.got)) {
			t.Errorf("taken %d, put %d", got, len(k.got))
		}
	})
}

func TestBadValuesAreRefusedAndTheOthersGoOn(t *testing.T) {
	tests := []struct {
		name  string
		value float64
		want  string
	}{
		{"NaN", math.NaN(), "driver returned NaN for s/bad"},
		{"+Inf", math.Inf(1), "driver returned an infinite value for s/bad"},
		{"-Inf", math.Inf(-1), "driver returned an infinite value for s/bad"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, k := clock.Go(), &sink{}
				src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
					dst = s.reading(dst, 1)
					dst = append(dst, edgeagent.Reading{Series: s.env.NewSeries("bad", "", edgeagent.Gauge), Value: tt.value})
					dst = append(dst, edgeagent.Reading{Value: 3})
					return s.reading(dst, 2), nil
				}}
				s := bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", time.Second, c)}, func(*sensors.Scheduler) { synctest.Wait() })
				if diff := cmp.Diff([]float64{1, 2}, k.values("s")); diff != "" {
					t.Errorf("put (-want +got):\n%s", diff)
				}
				st := s.Stats()[0]
				if st.Refused != 2 || st.LastError != tt.want || st.Health.Code != sensors.CodePartial {
					t.Errorf("refused %d, error %q, health %q", st.Refused, st.LastError, st.Health.Code)
				}
			})
		})
	}
}

// verbatim is a source that may say NaN.
type verbatim struct{ *fake }

func (verbatim) Verbatim() bool { return true }

func TestVerbatimSourceMaySayNaN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		src := &fake{sample: func(_ context.Context, _ int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return s.reading(dst, math.NaN()), nil
		}}
		spec := src.spec("s", time.Second, c)
		spec.Open = func(context.Context) (sensors.Source, error) { return verbatim{src}, nil }
		s := bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{spec}, func(*sensors.Scheduler) { synctest.Wait() })
		if len(k.got) != 1 || s.Stats()[0].Refused != 0 {
			t.Errorf("put %d, refused %d, want the NaN passed on", len(k.got), s.Stats()[0].Refused)
		}
	})
}

func TestPartialSampleStaysVisibleAndKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			var err error
			if n == 5 {
				err = errors.New("read channel temp2: input/output error")
			}
			return s.reading(dst, float64(n)), err
		}}
		bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", time.Second, c)}, func(s *sensors.Scheduler) {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if got, want := health(s, 0), "degraded "+sensors.CodePartial; got != want {
				t.Errorf("health %q, want %q", got, want)
			}
			time.Sleep(60 * time.Second)
			synctest.Wait()
			if got := health(s, 0); got != "ok " {
				t.Errorf("health %q a minute later", got)
			}
		})
		if n := len(k.values("s")); n < 89 {
			t.Errorf("put %d readings in 90s: a partial sample must not slow the source down", n)
		}
	})
}

// paced is a source that says when it wants to be called.
type paced struct {
	*fake
	wait time.Duration
}

func (p paced) Next() time.Duration { return p.wait }

func TestPacedSourceIsCalledWhenItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if n == 11 {
				return s.reading(dst, 11), sensors.ErrEnd
			}
			return s.reading(dst, float64(n)), nil
		}}
		spec := src.spec("s", time.Second, c)
		spec.Open = func(context.Context) (sensors.Source, error) { return paced{src, 7 * time.Millisecond}, nil }
		bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{spec}, func(s *sensors.Scheduler) {
			time.Sleep(time.Second)
			synctest.Wait()
			if got, want := health(s, 0), "ok "+sensors.CodeEnded; got != want {
				t.Errorf("health %q, want %q", got, want)
			}
			if src.ends() != 1 {
				t.Error("an ended source stays open")
			}
		})
		if got := src.at[len(src.at)-1]; got != 70*time.Millisecond {
			t.Errorf("sample 11 at %v, want 70ms", got)
		}
		if len(k.got) != 11 {
			t.Errorf("put %d, want the last reading too", len(k.got))
		}
	})
}

func TestEndWithACauseIsDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		src := &fake{sample: func(_ context.Context, _ int, _ *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return dst, errors.Join(errors.New("file is cut off"), sensors.ErrEnd)
		}}
		bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", time.Second, c)}, func(s *sensors.Scheduler) {
			time.Sleep(time.Second)
			synctest.Wait()
			if got, want := health(s, 0), "degraded "+sensors.CodeEnded; got != want {
				t.Errorf("health %q, want %q", got, want)
			}
		})
	})
}

func TestWhatWasTakenIsPutAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		k := &sink{put: func(ctx context.Context, _ []edgeagent.Reading) error {
			select {
			case <-time.After(4 * time.Second): // a slow disk
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		s := bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{(&fake{}).spec("s", time.Second, c)}, func(*sensors.Scheduler) {
			time.Sleep(100 * time.Millisecond)
		})
		if len(k.got) != 1 || s.Taken() != 1 || s.Stats()[0].Dropped != 0 {
			t.Errorf("taken %d, put %d, dropped %d, want 1, 1, 0", s.Taken(), len(k.got), s.Stats()[0].Dropped)
		}
	})
}

func TestSinkThatNeverReturnsDoesNotHoldRun(t *testing.T) {
	for _, honours := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, release := clock.Go(), make(chan struct{})
			k := &sink{put: func(ctx context.Context, _ []edgeagent.Reading) error {
				if honours {
					<-ctx.Done()
					return ctx.Err()
				}
				<-release
				return nil
			}}
			start := time.Now()
			s := bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{(&fake{}).spec("s", time.Second, c)}, func(*sensors.Scheduler) {
				synctest.Wait()
			})
			if took := time.Since(start); took > 6*time.Second || took < 5*time.Second {
				t.Errorf("honours ctx %v: Run took %v to return", honours, took)
			}
			if st := s.Stats()[0]; honours && st.Dropped != 1 {
				t.Errorf("dropped %d, want the reading counted", st.Dropped)
			}
			close(release)
		})
	}
}

func TestSinkErrorsAreCountedAndDoNotSlowTheSourceDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		k := &sink{put: func(context.Context, []edgeagent.Reading) error { return errors.New("buffer is closed") }}
		s := bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{(&fake{}).spec("s", time.Second, c)}, func(*sensors.Scheduler) {
			time.Sleep(10 * time.Second)
		})
		st := s.Stats()[0]
		if st.Health.Code != sensors.CodeSink || st.Dropped < 9 || st.Dropped != st.Readings {
			t.Errorf("code %q, dropped %d of %d", st.Health.Code, st.Dropped, st.Readings)
		}
	})
}

func TestCancelledSampleIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		src := &fake{sample: func(ctx context.Context, _ int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			dst = s.reading(dst, 1)
			<-ctx.Done()
			return dst, ctx.Err()
		}}
		k := &sink{}
		s := bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", time.Second, c)}, func(*sensors.Scheduler) {
			time.Sleep(100 * time.Millisecond)
		})
		if st := s.Stats()[0]; st.Errors != 0 || st.Readings != 1 || len(k.got) != 1 {
			t.Errorf("errors %d, readings %d, put %d", st.Errors, st.Readings, len(k.got))
		}
	})
}

func TestStatsAreBoundedAndPrivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		src := &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			for i := range 100 {
				name := strings.Repeat("m", i+1)
				dst = append(dst, edgeagent.Reading{Series: s.env.NewSeries(name, "", edgeagent.Gauge), At: s.env.Now(), Value: float64(n)})
			}
			return dst, nil
		}}
		bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{src.spec("s", time.Second, c)}, func(s *sensors.Scheduler) {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			last := s.Stats()[0].Last
			if len(last) != 32 {
				t.Fatalf("%d last readings, want 32", len(last))
			}
			for _, r := range last {
				if r.Value < 5 {
					t.Errorf("%s is %v: not the newest", r.Series, r.Value)
				}
			}
			last[0].Value = -1
			if s.Stats()[0].Last[0].Value == -1 {
				t.Error("a caller can change the scheduler's readings")
			}
		})
	})
}

func TestHealthIsTheWorst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		bad := (&fake{}).spec("bad", time.Second, c)
		bad.Open = func(context.Context) (sensors.Source, error) { return nil, errors.New("no bus") }
		bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{(&fake{}).spec("good", time.Second, c), bad}, func(s *sensors.Scheduler) {
			synctest.Wait()
			if h := s.Health(); h.Level != edgeagent.Degraded || h.Text != "bad: open: no bus" {
				t.Errorf("health %+v", h)
			}
		})
	})
}
