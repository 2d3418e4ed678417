package sensors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgeagent/edgeagent"
	"github.com/edgeagent/edgeagent/internal/clock"
	"github.com/edgeagent/edgeagent/sensors"
)

func only(name string) func(string) bool { return func(s string) bool { return s == name } }

func TestFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, k := clock.Go(), &sink{}
		a, b := &fake{}, &fake{}
		specs := []sensors.Spec{a.spec("a", time.Minute, c), b.spec("b", time.Minute, c)}
		s := bench(t, k, sensors.Options{Clock: c}, specs, func(s *sensors.Scheduler) {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if a.calls() != 1 {
				t.Fatalf("%d samples before", a.calls())
			}
			s.Faster("r1", only("a"), time.Second)
			s.Faster("r2", only("a"), 100*time.Millisecond)
			synctest.Wait()
			if a.calls() < 2 {
				t.Error("a source that waits for its tick is not sampled at once")
			}
			time.Sleep(10*time.Second + time.Millisecond)
			synctest.Wait()
			if got := a.calls(); got < 100 || got > 104 {
				t.Errorf("%d samples in 10 s at 100 ms", got)
			}
			s.Faster("r2", only("a"), 0)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := a.calls(); got < 110 || got > 115 {
				t.Errorf("%d samples after 10 s more at 1 s", got)
			}
			s.Faster("r1", only("a"), 0)
			s.Faster("never asked", only("a"), 0)
			before := a.calls()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if got := a.calls() - before; got < 5 || got > 6 {
				t.Errorf("%d samples in 5 minutes at its own interval", got)
			}
		})
		if s.Stats()[0].Missed > 0 {
			t.Errorf("%d ticks missed", s.Stats()[0].Missed)
		}
		// Back on its own interval it ticks where it would have.
		first, last := b.at[len(b.at)-1], a.at[len(a.at)-1]
		if own := a.at[len(a.at)-2]; (last - own) != time.Minute {
			t.Errorf("its last samples are %s apart (b: %s)", last-own, first)
		}
	})
}

func TestFasterKeepsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		a := &fake{sample: func(context.Context, int, *fake, []edgeagent.Reading) ([]edgeagent.Reading, error) {
			return nil, errors.New("no answer")
		}}
		bench(t, &sink{}, sensors.Options{Clock: c}, []sensors.Spec{a.spec("a", time.Second, c)}, func(s *sensors.Scheduler) {
			time.Sleep(30 * time.Second)
			for i := range 1000 {
				s.Faster(string(rune('a'+i)), only("a"), sensors.MinInterval)
			}
			time.Sleep(10 * time.Second)
		})
		if n := a.calls(); n > 15 {
			t.Errorf("a source that fails was sampled %d times", n)
		}
	})
}

// informed is told what became of its readings.
type informed struct {
	*fake
	told []error
}

func (s *informed) Taken(err error) { s.told = append(s.told, err) }

func TestInformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Go()
		full := errors.New("full")
		puts := 0
		k := &sink{put: func(context.Context, []edgeagent.Reading) error {
			if puts++; puts == 2 {
				return full
			}
			return nil
		}}
		src := &informed{fake: &fake{sample: func(_ context.Context, n int, s *fake, dst []edgeagent.Reading) ([]edgeagent.Reading, error) {
			if n == 3 {
				return dst, nil
			}
			return s.reading(dst, 1), nil
		}}}
		spec := src.spec("a", time.Second, c)
		spec.Open = func(context.Context) (sensors.Source, error) { return src, nil }
		bench(t, k, sensors.Options{Clock: c}, []sensors.Spec{spec}, func(*sensors.Scheduler) { time.Sleep(5 * time.Second) })
		if len(src.told) != src.calls()-1 || src.told[0] != nil || !errors.Is(src.told[1], full) || src.told[2] != nil {
			t.Errorf("told %v after %d samples", src.told, src.calls())
		}
	})
}
